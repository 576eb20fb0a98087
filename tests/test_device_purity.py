"""Every op and its gradient on arrays that refuse to mix with host arrays (see device_array.py).

Whatever makes the host wait for the device is counted: a wait costs more than most kernels. Beside
the conversions that `DeviceArray` counts these are the functions whose result size depends on data.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from device_array import DeviceArray, StandIn
from op_graphs import CASES, WITH_GRADIENT, Fed, forward_of, gradient_of
from samples import SAMPLES, Sample

# Functions that read data back to learn the size of their result.
SIZED_BY_DATA = {"argwhere", "bincount", "extract", "flatnonzero", "nonzero", "unique"}

# Ops whose kernel waits, how often, and why it must; all others never do.
WAITS = {
    "take": (1, "mode='raise' must know whether an index is out of range"),
    "ROIPooling": (2, "boxes decide the sizes of windows, and the batch entry they lie in"),
    "_contrib_ROIAlign": (1, "boxes decide the number of sampling points"),
    "_backward_ROIAlign": (1, "boxes decide the number of sampling points"),
    "_backward_sample_multinomial": (1, "bincount looks for the largest index"),
    "_cond": (1, "the host decides which graph runs"),
    "_backward_cond": (1, "the host decides which graph runs"),
    "_while_loop": (3, "the host decides after each step whether another follows"),
    "_backward_while_loop": (1, "the host must know how many steps there were"),
    "_Custom_inference": (2, "a checksum of each input finds the user's object again"),
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


def same_on_the_device(fed: Fed) -> int:
    """Compare the graph's values with numpy's; how often the host waited."""
    before = DeviceArray.syncs
    made = fed.run(Counting())
    waited = DeviceArray.syncs - before
    assert all(isinstance(value, DeviceArray) for value in made)
    for got, want in zip(made, fed.run(), strict=True):
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got.get(), want)
    return waited


@pytest.mark.parametrize(("name", "sample"), CASES)
def test_kernels_stay_on_the_device(name: str, sample: Sample) -> None:
    assert same_on_the_device(forward_of(name, sample)) <= WAITS.get(name, (0, ""))[0]


def test_every_wait_that_is_listed_happens() -> None:
    for name, (count, _) in WAITS.items():
        waits = [same_on_the_device(forward_of(name, sample)) for sample in SAMPLES[name]]
        assert max(waits) == count, name


@pytest.mark.parametrize(("name", "sample"), WITH_GRADIENT)
def test_gradients_stay_on_the_device(name: str, sample: Sample) -> None:
    fed = gradient_of(name, sample)
    if fed is not None:
        allowed = sum(WAITS.get(node.op.name, (0, ""))[0] for node in fed.graph.nodes)
        assert same_on_the_device(fed) <= allowed


# ----- the stand-in itself


def test_the_stand_in_counts_every_wait() -> None:
    xp, ones = Counting(), Counting().ones(3)
    before = DeviceArray.syncs
    assert float(ones.sum()) == 3
    assert ones.tolist() == [1, 1, 1]
    assert ones[0].item() == 1
    assert ones[ones > 0].shape == (3,)
    assert len(xp.nonzero(ones)) == 1
    assert not xp.zeros(2).sum()
    assert DeviceArray.syncs == before + 6


def test_the_stand_in_has_no_way_back_by_accident() -> None:
    xp = Counting()
    with pytest.raises(TypeError, match="unsupported type"):
        xp.zeros(2) + np.ones(2)
    with pytest.raises(TypeError, match="unsupported type"):
        xp.add(xp.zeros(2), np.ones(2))
    with pytest.raises(TypeError, match="Implicit conversion"):
        np.asarray(xp.zeros(2))
    with pytest.raises(TypeError, match="Implicit conversion"):
        np.exp(xp.zeros(2))
