"""Every kernel on arrays that refuse to mix with host arrays, as CuPy's do (device_array.py)."""

import numpy as np
import pytest
from device_array import DeviceArray, StandIn
from samples import SAMPLES

from raysym.op import call_kernel, make_op

CASES = [
    pytest.param(name, sample, id=f"{name}-{i}")
    for name, samples in SAMPLES.items()
    for i, sample in enumerate(samples)
    if name != "_no_gradient"
]

# Ops that make the host wait for the device, and why they must.
WAITS = {
    "take": "mode='raise' must know whether an index is out of range",
    "ROIPooling": "boxes decide the sizes of windows",
    "_backward_ROIPooling": "boxes decide the sizes of windows",
    "_contrib_ROIAlign": "boxes decide the number of sampling points",
    "_backward_ROIAlign": "boxes decide the number of sampling points",
}


def run(name, sample, xp, arrays):
    op = make_op(name, sample.params)
    rng = np.random.Generator(np.random.Philox(key=[0, 1]))
    with np.errstate(all="ignore"):
        return call_kernel(op, xp, arrays, rng)


@pytest.mark.parametrize(("name", "sample"), CASES)
def test_kernels_stay_on_the_device(name, sample):
    arrays, stand_in, before = sample.arrays(), StandIn(), DeviceArray.syncs
    made = run(name, sample, stand_in, [stand_in.array(array) for array in arrays])
    assert all(isinstance(value, DeviceArray) for value in made)
    for value, want in zip(made, run(name, sample, np, arrays), strict=True):
        np.testing.assert_array_equal(value.get(), want)
    assert DeviceArray.syncs == before or name in WAITS


def test_the_stand_in_refuses_host_arrays():
    stand_in = StandIn()
    with pytest.raises(TypeError, match="unsupported type"):
        stand_in.add(stand_in.zeros(2), np.ones(2))
    with pytest.raises(TypeError, match="Implicit conversion"):
        np.asarray(stand_in.zeros(2))
    before = DeviceArray.syncs
    assert not stand_in.zeros(2).sum()
    assert DeviceArray.syncs == before + 1
