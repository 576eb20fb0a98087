"""Every op and its gradient in a file: what is written is read back and computes alike."""

from __future__ import annotations

import numpy as np
import pytest
from evaluate import evaluate
from op_graphs import CASES, compose
from samples import Sample

import raysym as mx
from raysym.op import CANONICAL

PUBLIC = [case for case in CASES if not CANONICAL[case.values[0]].internal]


def values_of(symbol: mx.Symbol, arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
    graph = symbol.graph
    feeds = {
        entry: arrays[entry.node.name] for node in graph.variables() for entry in node.entries()
    }
    return evaluate(graph, feeds)


def check_file(symbol: mx.Symbol, arrays: dict[str, np.ndarray]) -> None:
    loaded = mx.sym.load_json(symbol.tojson(remove_amp_cast=False))
    assert loaded.tojson() == symbol.tojson()
    assert str(loaded.graph) == str(symbol.graph)
    for got, want in zip(values_of(loaded, arrays), values_of(symbol, arrays), strict=True):
        np.testing.assert_array_equal(got, want)


def arrays_of(sample: Sample) -> dict[str, np.ndarray]:
    return {f"x{i}": array for i, array in enumerate(sample.arrays())}


@pytest.mark.parametrize(("name", "sample"), PUBLIC)
def test_an_op_survives_a_file(name: str, sample: Sample) -> None:
    check_file(compose(name, sample.params, sample), arrays_of(sample))


def wrt_of(sample: Sample) -> list[str]:
    """Names of the inputs that have gradients."""
    floats = [key for key, array in arrays_of(sample).items() if array.dtype.kind == "f"]
    return floats if sample.wrt is None else [f"x{i}" for i in sample.wrt]


@pytest.mark.parametrize(("name", "sample"), [c for c in PUBLIC if wrt_of(c.values[1])])
def test_a_gradient_survives_a_file(name: str, sample: Sample) -> None:
    arrays, wrt = arrays_of(sample), wrt_of(sample)
    gradient = compose(name, sample.params, sample).gradient(wrt)
    names = [node.name for node in gradient.graph.nodes]
    assert len(set(names)) == len(names)
    assert all(names)
    check_file(gradient, arrays)
    for key, value in zip(wrt, values_of(gradient, arrays), strict=True):
        assert value.shape == arrays[key].shape


# Ops whose gradient is an op without a gradient of its own.
FIRST_ORDER_ONLY = {
    "sampling at places that depend on data": """
        BilinearSampler SpatialTransformer Correlation ROIPooling""",
    "lp pooling, and pooling of the old kind": "Pooling Pooling_v1",
    "a whole sequence or loop at once": "RNN _foreach _while_loop _cond",
    "densities": """
        _random_pdf_uniform _random_pdf_normal _random_pdf_gamma _random_pdf_exponential
        _random_pdf_poisson _random_pdf_negative_binomial _random_pdf_dirichlet
        _random_pdf_generalized_negative_binomial""",
    "normalisations that show mean and variance": """
        BatchNorm BatchNorm_v1 GroupNorm LayerNorm _contrib_SyncBatchNorm""",
    "a selection of boxes": "_contrib_box_nms",
}


def refuses_second_order(name: str, sample: Sample) -> bool:
    gradient = compose(name, sample.params, sample).gradient(wrt_of(sample))
    try:
        gradient.gradient([key for key in wrt_of(sample) if key in gradient.list_inputs()])
    except (mx.MXNetError, TypeError) as error:  # TypeError: constant, nothing is left to ask for
        return isinstance(error, mx.MXNetError)
    return False


def test_gradients_of_gradients_exist_but_where_listed() -> None:
    cases = [case.values for case in PUBLIC if wrt_of(case.values[1])]
    found = {name for name, sample in cases if refuses_second_order(name, sample)}
    assert found == {name for names in FIRST_ORDER_ONLY.values() for name in names.split()}
