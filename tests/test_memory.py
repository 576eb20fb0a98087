"""Memory planning: what lives at the same time lies apart, and little is wasted."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from raysym.passes.memory import ALIGNMENT, Lifetime, aligned, lower_bound, plan_memory

LIFETIMES = st.lists(
    st.tuples(st.integers(0, 5000), st.integers(0, 30), st.integers(0, 30)).map(
        lambda t: Lifetime(t[0], min(t[1:]), max(t[1:]))
    ),
    max_size=40,
)


@settings(deadline=None)
@given(LIFETIMES)
def test_live_buffers_never_overlap(buffers: list[Lifetime]) -> None:
    arena = plan_memory(buffers)
    for i, a in enumerate(buffers):
        for j in range(i):
            b = buffers[j]
            if a.first <= b.last and b.first <= a.last:
                first, second = sorted([(arena.offsets[i], i), (arena.offsets[j], j)])
                assert first[0] + aligned(buffers[first[1]].nbytes) <= second[0]


@settings(deadline=None)
@given(LIFETIMES)
def test_buffers_are_aligned_and_inside(buffers: list[Lifetime]) -> None:
    arena = plan_memory(buffers)
    ends = [o + b.nbytes for o, b in zip(arena.offsets, buffers, strict=True)]
    assert all(offset % ALIGNMENT == 0 for offset in arena.offsets)
    assert max(ends, default=0) <= arena.nbytes


@settings(deadline=None)
@given(LIFETIMES)
def test_the_arena_lies_between_the_bound_and_the_sum(buffers: list[Lifetime]) -> None:
    arena = plan_memory(buffers)
    assert lower_bound(buffers) <= arena.nbytes <= sum(aligned(b.nbytes) for b in buffers)


def test_a_chain_needs_two_places() -> None:
    chain = [Lifetime(1000, i, i + 1) for i in range(20)]
    assert plan_memory(chain).nbytes == 2 * aligned(1000)


def test_a_plan_is_always_the_same() -> None:
    buffers = [Lifetime(100 * (i % 3), i % 5, 5 + i % 7) for i in range(30)]
    assert plan_memory(buffers) == plan_memory(list(buffers))
