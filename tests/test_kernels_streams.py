"""Large results written past the caches: the same bits, wherever they lie; operands stay there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from kernel_calls import kernels

from raysym.kernels import specs, streams
from raysym.kernels.link import LinkedWorker, can_link, link
from raysym.kernels.team import Team
from raysym.op import make_op
from raysym.planning.plan import Run
from raysym.runtime.protocol import StepKey
from raysym.types import TensorType

TEAM = Team(2)


@pytest.fixture(autouse=True, scope="module")
def _everything_is_large() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "LARGE", 1)
        patch.setattr(specs, "_ALONE_S", 0.0)
        yield
    TEAM.close()


def linked(names: Sequence[str], arrays: Sequence[np.ndarray], team: Team | None) -> LinkedWorker:
    """``sigmoid(a + b)`` with a, b and the result in `arrays` under `names`, run."""
    homes = dict(zip(names, arrays, strict=True))
    types = {name: TensorType(a.shape, a.dtype.name) for name, a in homes.items()}
    types["sum"] = types[names[0]]
    program = (
        Run(("sum",), make_op("elemwise_add", {}), (names[0], names[1])),
        Run((names[2],), make_op("sigmoid", {}), ("sum",)),
    )
    worker = link({"forward": program}, types, homes, kernels=kernels(), team=team)
    worker.phases["forward"].advance(StepKey(0, 1), 0)
    return worker


def placed(n: int, start: int, dtype: str) -> np.ndarray:
    """So many numbers that begin `start` numbers behind a line of the caches, NaN around them."""
    raw = np.full(n + 256, np.nan, dtype)
    first = -raw.ctypes.data % 64 // raw.itemsize + start
    return raw[first : first + n]


@settings(deadline=None)
@given(
    n=st.integers(1, 400),
    starts=st.tuples(*[st.integers(0, 40)] * 3),
    dtype=st.sampled_from(["float32", "float64", "float16"]),
    shared=st.booleans(),
)
@example(n=1, starts=(0, 0, 15), dtype="float32", shared=True)
@example(n=64, starts=(3, 2, 1), dtype="float32", shared=False)
def test_bits_depend_on_no_place(
    n: int, starts: tuple[int, int, int], dtype: str, shared: bool
) -> None:
    arrays = [placed(n, start, dtype) for start in starts]
    rng = np.random.default_rng(n)
    for array in arrays[:2]:
        array[:] = rng.normal(size=n)
    worker = linked("abc", arrays, TEAM if shared else None)
    assert "elemwise_add+sigmoid (stream_map" in str(worker)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "LARGE", 1 << 60)
        want = [arrays[0], arrays[1], np.empty(n, dtype)]
        assert "elemwise_add+sigmoid (flat_map" in str(linked("abc", want, None))
    assert arrays[2].tobytes() == want[2].tobytes()
    around = arrays[2].base
    assert np.isnan(around).sum() == around.size - n  # nothing else was written


def test_a_result_in_the_place_of_an_operand_stays_in_the_caches() -> None:
    a, b = np.ones(100, np.float32), np.zeros(100, np.float32)
    assert "(flat_map)" in str(linked("aba", [a, b, a], None))
    np.testing.assert_allclose(a, 1 / (1 + np.exp(-1.0)), rtol=1e-6)


def test_an_array_at_an_odd_place_is_left_to_numpy() -> None:
    odd = np.frombuffer(bytearray(9), np.uint8)[1:].view(np.float32)
    assert not can_link({"a": odd})
    assert can_link({"a": odd.copy()})
