"""Rules of ops that finite differences cannot see: kinks, ties, integers, partly known types."""

from __future__ import annotations

import random

import numpy as np
import pytest
from evaluate import evaluate
from samples import SAMPLES, Sample

import raysym.ops  # noqa: F401  (fills the registry)
from raysym.errors import MXNetError, RuleError
from raysym.graph import Graph, Node, apply, variable
from raysym.op import call_kernel, make_op
from raysym.passes.gradient import differentiate
from raysym.passes.infer import infer_dtypes
from raysym.types import unify

NAN, INF = np.nan, np.inf


def value(name: str, *arrays: object, **params: object) -> list[float]:
    """The first output as a list; lists of floats become float64, of ints int32."""
    with np.errstate(all="ignore"):
        made = call_kernel(make_op(name, params), np, [as_array(a) for a in arrays])
    return made[0].tolist()


def as_array(value: object) -> np.ndarray:
    array = np.asarray(value)
    return array.astype("int32") if array.dtype == np.int64 else array


def slope(name: str, *arrays: list[float], **params: object) -> list[list[float]]:
    """The gradients of the sum of the first output, input by input."""
    inputs = [variable(f"x{i}") for i in range(len(arrays))]
    head = apply(name, *inputs, **params)
    grads = differentiate(Graph.of([head]), inputs, [apply("ones_like", head)]).grads
    feeds = dict(zip(inputs, map(np.asarray, arrays), strict=True))
    asked = Graph.of([grads[entry] or apply("zeros_like", entry) for entry in inputs])
    return [grad.tolist() for grad in evaluate(asked, feeds)]


@pytest.mark.parametrize(
    ("name", "params", "at", "expected"),
    [
        ("abs", {}, [-2.0, 0.0, 2.0], [-1, 0, 1]),
        ("relu", {}, [-1.0, 0.0, 1.0], [0, 0, 1]),
        ("hard_sigmoid", {}, [-2.5, 0.0, 2.5], [0, 0.2, 0]),
        ("clip", {"a_min": 0, "a_max": 1}, [-1.0, 0.0, 1.0, 2.0], [0, 1, 1, 0]),
        ("smooth_l1", {"scalar": 1}, [-2.0, -1.0, 0.5, 1.0, 2.0], [-1, -1, 0.5, 1, 1]),
        ("_maximum_scalar", {"scalar": 1}, [0.0, 1.0, 2.0], [0, 1, 1]),
        ("_minimum_scalar", {"scalar": 1}, [0.0, 1.0, 2.0], [1, 1, 0]),
        ("_mod_scalar", {"scalar": 0}, [1.0, 2.0], [1, 1]),
        ("max", {}, [3.0, 1.0, 3.0], [1, 0, 1]),
        ("min", {}, [3.0, 1.0, 1.0], [0, 1, 1]),
        ("nansum", {}, [NAN, 2.0], [0, 1]),
        ("nanprod", {}, [NAN, 2.0, 5.0], [0, 5, 2]),
        ("prod", {}, [0.0, 2.0, 5.0], [NAN, 0, 0]),
        ("norm", {"ord": 1}, [-2.0, 0.0, 3.0], [-1, 0, 1]),
        ("round", {}, [0.3, 0.5], [0, 0]),
        ("_contrib_round_ste", {}, [0.3, 0.5], [1, 1]),
        ("_contrib_sign_ste", {}, [-0.3, 0.0], [1, 1]),
        ("_contrib_gradientmultiplier", {"scalar": -2}, [1.0, 5.0], [-2, -2]),
    ],
)
def test_slope_at_kinks(name: str, params: dict, at: list[float], expected: list[float]) -> None:
    np.testing.assert_array_equal(slope(name, at, **params)[0], expected)


@pytest.mark.parametrize(
    ("name", "of_lhs", "of_rhs"),
    [
        ("_maximum", [0, 1, 1], [1, 0, 0]),
        ("_minimum", [1, 1, 0], [0, 0, 1]),
        ("broadcast_maximum", [0, 1, 1], [1, 0, 0]),
        ("_mod", [1, 1, 1], [0, -1, -2]),
        ("_equal", [0, 0, 0], [0, 0, 0]),
    ],
)
def test_ties_count_as_the_left_one(name: str, of_lhs: list[float], of_rhs: list[float]) -> None:
    assert slope(name, [1.0, 2.0, 5.0], [2.0, 2.0, 2.0]) == [of_lhs, of_rhs]


@pytest.mark.parametrize(
    ("name", "params", "arrays", "expected"),
    [
        ("elemwise_div", {}, [[-7, 7, -6, 5], [2, -2, 3, 0]], [-3, -3, -2, 0]),
        ("_mod", {}, [[-7, 7, 6, 5], [2, -2, 3, 0]], [1, -1, 0, 0]),
        ("_plus_scalar", {"scalar": 1.5}, [[-7, 3]], [-6, 4]),
        ("_plus_scalar", {"scalar": -2.5}, [[-7, 3]], [-9, 1]),
        ("_mul_scalar", {"scalar": 1.5}, [[-7, 3]], [-7, 3]),
        ("_div_scalar", {"scalar": 2}, [[-3, 3]], [-1, 1]),
        ("_power_scalar", {"scalar": 2.5}, [[3, 5]], [9, 25]),
        ("_equal_scalar", {"scalar": 3.5}, [[3, 4]], [1, 0]),
        ("exp", {}, [[0, 1, 7]], [1, 2, 1096]),
        ("sqrt", {}, [[15, 16]], [3, 4]),
        ("gamma", {}, [[5, 7, 11]], [24, 720, 3628800]),
        ("mean", {}, [[-3, -4]], [-3]),
        ("norm", {}, [[7, 3, 0]], [7]),
        ("clip", {"a_min": -2.5, "a_max": 2.5}, [[-7, 0, 7]], [-2, 0, 2]),
        ("rint", {}, [[-2.5, -0.5, 0.5, 1.5]], [-3, -1, 0, 1]),
        ("round", {}, [[-2.5, -0.5, 0.5, 1.5]], [-3, -1, 1, 2]),
        ("sign", {}, [[-INF, NAN, 0.0]], [-1, 0, 0]),
        ("_mod", {}, [[-3.0, 3.0, 1.0], [-2.0, -2.0, 0.0]], [-1, -1, 0]),
        ("argmax", {}, [[1.0, 3.0, 3.0]], [1]),
        ("topk", {"k": 2}, [[1.0, 3.0, 3.0]], [1, 2]),
        ("argsort", {"is_ascend": False}, [[1.0, 3.0, 3.0]], [1, 2, 0]),
    ],
)
def test_value_at_corners(name: str, params: dict, arrays: list, expected: list[float]) -> None:
    assert value(name, *arrays, **params) == expected


def test_unsigned_results_wrap_around() -> None:
    data = np.array([0, 3, 200], "uint8")
    assert value("_minus_scalar", data, scalar=1.5) == [255, 2, 199]
    assert value("clip", data, a_min=-2.5, a_max=20.5) == [0, 3, 20]
    assert value("sum", data, axis=0) == [203]


def test_float16_is_accumulated_in_float32() -> None:
    ones = np.ones((4096,), "float16")  # float16 cannot count beyond 2048
    assert value("sum", ones) == [4096]
    assert value("mean", ones) == [1]
    assert value("norm", ones) == [64]
    assert value("_sum_to", ones, shape=(1,)) == [4096]


@pytest.mark.parametrize(
    ("name", "params", "shape", "message"),
    [
        ("sum", {"axis": 2}, (2, 3), "axis out of range: got 2, expected -2 to 1"),
        ("max", {"axis": (0, 0)}, (2, 3), "an axis is named twice"),
        ("argmax", {"axis": -3}, (2, 3), "axis out of range"),
        ("topk", {"k": 9}, (2, 3), "k is larger than the axis: got 9, expected at most 3"),
        ("broadcast_to", {"shape": (4, 3)}, (2, 3), "cannot broadcast"),
        ("broadcast_to", {"shape": (4, 2, 3)}, (2, 3), "shape has another rank"),
        ("broadcast_axis", {"axis": 0, "size": 4}, (2, 3), "axis 0 cannot be repeated"),
        ("_np_cumsum", {"axis": 2}, (2, 3), "axis out of range"),
    ],
)
def test_wrong_shape_is_refused(name: str, params: dict, shape: tuple, message: str) -> None:
    op = make_op(name, params)
    with pytest.raises(RuleError, match=message):
        op.infer_shape([shape], [None] * op.n_values())


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("norm", {"ord": 3}),
        ("_arange", {"start": 1, "step": 0}),
        ("_arange", {"start": 1, "repeat": 0}),
        ("_linspace", {"start": 1, "num": 3}),
        ("_histogram", {"bin_cnt": 3}),
        ("broadcast_axis", {"axis": (0, 1), "size": (2,)}),
        ("broadcast_like", {"lhs_axes": (0,)}),
        ("topk", {"ret_typ": "values"}),
        ("clip", {"a_min": 0}),
    ],
)
def test_wrong_parameter_is_refused(name: str, params: dict) -> None:
    with pytest.raises(RuleError):
        make_op(name, params)


@pytest.mark.parametrize(
    ("name", "dtype", "expected"),
    [
        ("exp", "bool", "a number type"),
        ("_plus_scalar", "bool", "a number type"),
        ("elemwise_add", "bool", "a number type"),
        ("softmax", "int32", "float16, float32 or float64"),
        ("Activation", "uint8", "float16, float32 or float64"),
    ],
)
def test_no_arithmetic_on_other_dtypes(name: str, dtype: str, expected: str) -> None:
    sample = SAMPLES[name][0]
    op = make_op(name, sample.params)
    entries = [variable(f"x{i}") for i in range(len(op.input_names()))]
    graph = Graph.of(Node(op, "node", entries).entries())
    message = f"{name} 'node': no arithmetic on this dtype: got {dtype}, expected {expected}. Cast"
    with pytest.raises(MXNetError, match=message):
        infer_dtypes(graph, dict.fromkeys(entries, dtype))


def test_operands_that_do_not_broadcast_are_refused() -> None:
    with pytest.raises(RuleError, match="could not be broadcast together"):
        make_op("broadcast_add", {}).infer_shape([(2, 3), (4, 3)], [None])


def test_a_gradient_that_does_not_exist_fails_when_it_is_computed() -> None:
    with pytest.raises(RuleError, match="indices have no gradient"):
        value("_no_gradient", [1.0], reason="indices have no gradient")


def test_ranges_take_their_length_from_users() -> None:
    op = make_op("_arange", {"start": 2.0, "step": 0.5, "infer_range": True})
    assert op.infer_shape([], [(4,)]) == ([], [(4,)])


# ----- partly known shapes and dtypes, over every op and sample


def masked(rng: random.Random, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    return rng.choice([None, shape, tuple(n * rng.randint(0, 1) for n in shape)])


def arrays_of(name: str, sample: Sample) -> tuple[list[np.ndarray], list[np.ndarray]]:
    op, ins = make_op(name, sample.params), sample.arrays()
    with np.errstate(all="ignore"):
        return ins, list(call_kernel(op, np, ins, np.random.default_rng(0)))


CASES = [(name, i) for name, samples in SAMPLES.items() for i in range(len(samples))]

# Second inputs for which MXNet takes the usual type until it is told of another one.
GUESSED = {
    "LeakyReLU": "gamma may be (C,), (1,) or have the axes of data",
    "Embedding": "weight has the type of the parameter dtype",
    "_contrib_SparseEmbedding": "weight has the type of the parameter dtype",
    "pick": "index may keep the axis",
    "SoftmaxOutput": "label may be classes or probabilities, with or without the axes of data",
    "LinearRegressionOutput": "label may be any shape of equal size",
    "LogisticRegressionOutput": "label may be any shape of equal size",
    "Crop": "the input that gives the size may have any dtype",
    "batch_take": "indices may have any dtype",
    "SequenceMask": "lengths may have any dtype",
    "SequenceReverse": "lengths may have any dtype",
    "SequenceLast": "lengths may have any dtype",
}


@pytest.mark.parametrize(("name", "i"), CASES)
def test_partly_known_types_never_mislead(name: str, i: int) -> None:
    op = make_op(name, SAMPLES[name][i].params)
    ins, outs = arrays_of(name, SAMPLES[name][i])
    rng = random.Random(i)
    for _ in range(12):
        shapes = [[masked(rng, a.shape) for a in arrays] for arrays in (ins, outs)]
        dtypes = [[rng.choice([None, a.dtype.name]) for a in arrays] for arrays in (ins, outs)]
        if name in GUESSED and len(ins) > 1:
            shapes[0][1], dtypes[0][1] = ins[1].shape, ins[1].dtype.name
        found = op.infer_shape(*shapes)
        for arrays, rows in zip((ins, outs), found, strict=True):
            assert [unify(s, a.shape) for s, a in zip(rows, arrays, strict=True)] == [
                a.shape for a in arrays
            ]
        for arrays, names in zip((ins, outs), op.infer_dtype(*dtypes), strict=True):
            for array, dtype in zip(arrays, names, strict=True):
                assert dtype in (None, array.dtype.name)
