"""One suite over every op and every sample of it (see samples.py)."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from evaluate import evaluate
from samples import SAMPLES, Sample

import raysym.ops  # noqa: F401  (fills the registry)
from raysym.graph import Entry, Graph, Node, variable
from raysym.op import CANONICAL, call_kernel, make_op
from raysym.passes.gradient import differentiate
from raysym.passes.infer import infer
from raysym.types import TensorType

CASES = [
    pytest.param(name, sample, id=f"{name}-{i}")
    for name, samples in SAMPLES.items()
    for i, sample in enumerate(samples)
]


def build(name: str, sample: Sample) -> tuple[Node, list[Entry]]:
    op = make_op(name, sample.params)
    entries = [variable(slot) for slot in op.input_names()]
    return Node(op, "node", entries), entries


def run(name: str, sample: Sample, arrays: list[np.ndarray]) -> tuple[np.ndarray, ...]:
    op = make_op(name, sample.params)
    rng = np.random.Generator(np.random.Philox(key=[0, 1]))
    with np.errstate(all="ignore"):
        return call_kernel(op, np, arrays, rng)


def test_every_op_has_a_sample() -> None:
    assert sorted(CANONICAL) == sorted(SAMPLES)


@pytest.mark.parametrize("name", sorted(CANONICAL))
def test_page_is_documented(name: str) -> None:
    page = CANONICAL[name]
    assert page.__doc__
    assert page.__doc__ != page.__base__.__doc__
    assert all(param.doc for param in page.params.values())


@pytest.mark.parametrize(("name", "sample"), CASES)
def test_inferred_types_are_the_actual_ones(name: str, sample: Sample) -> None:
    node, entries = build(name, sample)
    arrays = sample.arrays()
    known = {e: TensorType(a.shape, a.dtype.name) for e, a in zip(entries, arrays, strict=True)}
    types = infer(Graph.of(node.entries()), known)
    made = run(name, sample, arrays)
    assert [types[e] for e in node.entries()] == [TensorType(a.shape, a.dtype.name) for a in made]


@pytest.mark.parametrize(("name", "sample"), CASES)
def test_kernel_leaves_its_inputs_alone(name: str, sample: Sample) -> None:
    arrays, copies = sample.arrays(), sample.arrays()
    for array in arrays:
        array.flags.writeable = False
    run(name, sample, arrays)
    assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(arrays, copies, strict=True))


@pytest.mark.parametrize(
    ("name", "sample"), [case for case in CASES if case.values[1].reference is not None]
)
def test_forward_equals_the_oracle(name: str, sample: Sample) -> None:
    arrays = sample.arrays()
    with np.errstate(all="ignore"):
        want = sample.reference(*arrays)
    wants = want if isinstance(want, tuple) else (want,)
    for got, expected in zip(run(name, sample, arrays), wants, strict=False):
        np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("name", "sample"), CASES)
def test_op_survives_pickle_and_text(name: str, sample: Sample) -> None:
    op = make_op(name, sample.params)
    assert pickle.loads(pickle.dumps(op)) == op
    assert make_op(name, {key: str(value) for key, value in op.given().items()}) == op


@pytest.mark.parametrize(("name", "sample"), CASES)
def test_cost_is_sane(name: str, sample: Sample) -> None:
    ins = [TensorType(a.shape, a.dtype.name) for a in sample.arrays()]
    outs = [TensorType(a.shape, a.dtype.name) for a in run(name, sample, sample.arrays())]
    cost = make_op(name, sample.params).cost(ins, outs)
    assert cost.flops >= 0
    assert cost.nbytes >= sum(t.nbytes for t in outs)


# ----- gradients


def wrt_of(sample: Sample) -> list[int]:
    if sample.wrt is not None:
        assert sample.wrt or sample.why, "say why there is no gradient to check"
        return list(sample.wrt)
    return [i for i, array in enumerate(sample.arrays()) if array.dtype.kind == "f"]


def test_gradients_are_checked_in_float64() -> None:
    for samples in SAMPLES.values():
        for sample in samples:
            arrays = sample.arrays()
            assert all(arrays[i].dtype == np.float64 for i in wrt_of(sample))


@pytest.mark.parametrize(("name", "sample"), [c for c in CASES if wrt_of(c.values[1])])
def test_gradient_equals_finite_differences(name: str, sample: Sample) -> None:
    node, entries = build(name, sample)
    made = run(name, sample, sample.arrays())[: node.op.n_visible()]
    heads = [Entry(node, i) for i, value in enumerate(made) if value.dtype.kind == "f"]
    check_gradient(Graph.of(heads), entries, sample, wrt_of(sample), sample.tol)


@pytest.mark.parametrize(
    ("name", "sample"), [c for c in CASES if c.values[1].smooth and wrt_of(c.values[1])]
)
def test_second_gradient_equals_finite_differences(name: str, sample: Sample) -> None:
    node, entries = build(name, sample)
    wrt = wrt_of(sample)
    head = variable("head")
    found = differentiate(Graph.of(node.entries()[:1]), [entries[i] for i in wrt], [head])
    first = [grad for grad in found.grads.values() if grad is not None]
    extended = Sample(
        sample.params,
        [*sample.inputs, lambda rng: rng.normal(size=run(name, sample, sample.arrays())[0].shape)],
        low=sample.low,
        high=sample.high,
    )
    check_gradient(Graph.of(first), [*entries, head], extended, [*wrt, len(entries)], 1e-5)


def check_gradient(
    graph: Graph, entries: list[Entry], sample: Sample, wrt: list[int], tol: float
) -> None:
    """Two inner products agree: of the gradient with a random direction, and by differences."""
    arrays = sample.arrays(1)
    values = evaluate(graph, dict(zip(entries, arrays, strict=True)))
    rng = np.random.default_rng(2)
    weights = [rng.normal(size=v.shape) for v in values]
    placeholders = [variable(f"head{i}") for i in range(len(values))]
    found = differentiate(graph, [entries[i] for i in wrt], placeholders)
    feeds = dict(zip(entries, arrays, strict=True)) | dict(zip(placeholders, weights, strict=True))
    for i in wrt:
        direction = rng.normal(size=arrays[i].shape)
        grad = found.grads[entries[i]]
        got = 0.0
        if grad is not None:
            value = evaluate(Graph.of([grad]), feeds)[0]
            assert value.shape == arrays[i].shape
            got = float((value * direction).sum())
        want = difference(graph, entries, arrays, i, direction, weights)
        assert got == pytest.approx(want, rel=tol * 10, abs=tol * 10)


def difference(
    graph: Graph,
    entries: list[Entry],
    arrays: list[np.ndarray],
    i: int,
    direction: np.ndarray,
    weights: list[np.ndarray],
) -> float:
    def objective(step: float) -> float:
        moved = [a + step * direction if j == i else a for j, a in enumerate(arrays)]
        values = evaluate(graph, dict(zip(entries, moved, strict=True)))
        return sum(float((w * v).sum()) for w, v in zip(weights, values, strict=True))

    h = 1e-5
    return (objective(h) - objective(-h)) / (2 * h)
