"""Every op and its gradient on arrays that refuse to mix with host arrays (see device_array.py).

Whatever makes the host wait for the device is counted: a wait costs more than most kernels. Beside
the conversions that `DeviceArray` counts these are the functions whose result size depends on data.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from device_array import DeviceArray, StandIn
from evaluate import evaluate
from samples import SAMPLES, Sample

from raysym.graph import Entry, Graph, Node, variable
from raysym.op import make_op
from raysym.passes.gradient import differentiate

CASES = [
    pytest.param(name, sample, id=f"{name}-{i}")
    for name, samples in SAMPLES.items()
    for i, sample in enumerate(samples)
    if name != "_no_gradient"  # which exists to fail
]

# Functions that read data back to learn the size of their result.
SIZED_BY_DATA = {"argwhere", "bincount", "extract", "flatnonzero", "nonzero", "unique"}

# Ops whose kernel waits, how often, and why it must; all others never do.
WAITS = {
    "take": (1, "mode='raise' must know whether an index is out of range"),
    "ROIPooling": (2, "boxes decide the sizes of windows, and the batch entry they lie in"),
    "_contrib_ROIAlign": (1, "boxes decide the number of sampling points"),
    "_backward_ROIAlign": (1, "boxes decide the number of sampling points"),
    "_backward_sample_multinomial": (1, "bincount looks for the largest index"),
}


class Counting(StandIn):
    """The stand-in, counting also what waits without saying so."""

    def __getattr__(self, name: str) -> Any:
        if name in SIZED_BY_DATA:
            DeviceArray.syncs += 1
        return super().__getattr__(name)


@pytest.fixture(autouse=True)
def _masks_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Indexing by a mask of truth values reads back how many there are."""
    plain = DeviceArray.__getitem__

    def counted(self: Any, key: Any) -> Any:
        parts = key if isinstance(key, tuple) else (key,)
        DeviceArray.syncs += sum(isinstance(k, DeviceArray) and k.dtype == bool for k in parts)
        return plain(self, key)

    monkeypatch.setattr(DeviceArray, "__getitem__", counted)


def node_of(name: str, sample: Sample) -> tuple[Node, list[Entry]]:
    op = make_op(name, sample.params)
    entries = [variable(slot) for slot in op.input_names()]
    return Node(op, "node", entries), entries


def same_on_the_device(graph: Graph, entries: list[Entry], arrays: list[np.ndarray]) -> int:
    """Compare the graph's values with numpy's; how often the host waited."""
    xp, before = Counting(), DeviceArray.syncs
    feeds = dict(zip(entries, [xp.array(array) for array in arrays], strict=True))
    made = evaluate(graph, feeds, xp=xp)
    waited = DeviceArray.syncs - before
    assert all(isinstance(value, DeviceArray) for value in made)
    for got, want in zip(
        made, evaluate(graph, dict(zip(entries, arrays, strict=True))), strict=True
    ):
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got.get(), want)
    return waited


@pytest.mark.parametrize(("name", "sample"), CASES)
def test_kernels_stay_on_the_device(name: str, sample: Sample) -> None:
    node, entries = node_of(name, sample)
    waited = same_on_the_device(Graph.of(node.entries()), entries, sample.arrays())
    assert waited <= WAITS.get(name, (0, ""))[0]


def test_every_wait_that_is_listed_happens() -> None:
    for name, (count, _) in WAITS.items():
        graphs = [(node_of(name, sample), sample.arrays()) for sample in SAMPLES[name]]
        counts = [same_on_the_device(Graph.of(n.entries()), e, a) for (n, e), a in graphs]
        assert max(counts) == count, name


def gradients(name: str, sample: Sample) -> Iterator[tuple[Graph, list[Entry], list[np.ndarray]]]:
    """The gradient graph of all floating outputs, with its feeds; nothing if there is none."""
    node, entries = node_of(name, sample)
    arrays = sample.arrays()
    values = evaluate(Graph.of(node.entries()[: node.op.n_visible()]), dict(zip(entries, arrays)))
    heads = [h for h, v in zip(node.entries(), values, strict=False) if v.dtype.kind == "f"]
    wrt = [e for i, e in enumerate(entries) if i in (sample.wrt or range(len(entries)))]
    placeholders = [variable(f"head{i}") for i in range(len(heads))]
    found = differentiate(Graph.of(heads), wrt, placeholders).grads
    grads = [grad for grad in found.values() if grad is not None]
    if grads:
        weights = [np.ones_like(v) for v in values if v.dtype.kind == "f"]
        yield Graph.of(grads), [*entries, *placeholders], [*arrays, *weights]


@pytest.mark.parametrize(("name", "sample"), [c for c in CASES if c.values[1].wrt != ()])
def test_gradients_stay_on_the_device(name: str, sample: Sample) -> None:
    for graph, entries, arrays in gradients(name, sample):
        allowed = sum(WAITS.get(node.op.name, (0, ""))[0] for node in graph.nodes)
        assert same_on_the_device(graph, entries, arrays) <= allowed


# ----- the stand-in itself


def test_the_stand_in_counts_every_wait() -> None:
    xp, ones = Counting(), Counting().ones(3)
    before = DeviceArray.syncs
    assert float(ones.sum()) == 3
    assert ones.tolist() == [1, 1, 1]
    assert ones[0].item() == 1
    assert ones[ones > 0].shape == (3,)
    assert len(xp.nonzero(ones)) == 1
    assert DeviceArray.syncs == before + 5


def test_the_stand_in_has_no_way_back_by_accident() -> None:
    xp = Counting()
    with pytest.raises(TypeError, match="unsupported type"):
        xp.zeros(2) + np.ones(2)
    with pytest.raises(TypeError, match="Implicit conversion"):
        np.asarray(xp.zeros(2))
    with pytest.raises(TypeError, match="Implicit conversion"):
        np.exp(xp.zeros(2))
