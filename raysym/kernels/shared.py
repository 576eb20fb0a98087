"""Loops whose turns threads share: every turn is one thread's, which one depends on counts alone.

What stands outside of such a loop is done by every thread. Inside, all is one thread's work, and
further shared loops are plain ones. No turn may depend on another of its loop; so no bit depends on
the number of threads. For one thread the same code comes out as without any of this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from raysym.kernels.emit import LANES, PTR, VOID, Emit, Index, Value
from raysym.kernels.llvm import ir

_UNEVEN = 1.1  # a longest share of so many times the mean is as good as the mean


def is_shared(e: Emit) -> bool:
    """True where every thread does what is written next."""
    return not e.is_apart


def parts_here(e: Emit) -> int:
    """How many threads would share a loop that is written next."""
    return e.parts if is_shared(e) else 1


def unevenness(count: int, parts: int) -> float:
    """The longest share of `count` turns over the mean."""
    return -(-count // parts) * parts / count


def groups(e: Emit, count: int) -> int:
    """The most groups of equal size that all have a thread of their own."""
    return max(n for n in range(1, parts_here(e) + 1) if count % n == 0)


@contextmanager
def apart(e: Emit) -> Iterator[None]:
    """A block that each thread runs for itself, on memory of its own."""
    before, e.is_apart = e.is_apart, True
    try:
        yield
    finally:
        e.is_apart = before


def shared(e: Emit, count: int, body: Callable[[Index], None], step: int = 1) -> None:
    """``body(i)`` for `count` values of i from 0 on, `step` apart."""
    if not is_shared(e):
        e.loop(0, count * step, body, step=step)
        return
    first, end = share_of(e, count)
    with apart(e), e.b.if_then(e.b.icmp_signed("<", first, end)):
        e.loop(e.times(first, step), e.times(end, step), body, step=step)


def share_of(e: Emit, count: Index) -> tuple[Index, Index]:
    """First turn and end of this thread's share; the last thread has the longest."""
    following = e.plus(e.part, 1)
    return e.share(e.product(e.part, count), e.parts), e.share(e.product(following, count), e.parts)


def shared_nest(
    e: Emit, counts: Sequence[int], body: Callable[..., None], inner: bool = False
) -> None:
    """Loops inside each other as `Emit.nest`: the first is shared that can be in even parts.

    ``inner``: if there are too few turns, `body` itself shares what it does.
    """
    most = max(counts, default=1)
    if not is_shared(e) or (inner and most < e.parts):
        e.nest(counts, body)
        return
    if most == 1:
        with first_only(e):
            e.nest(counts, body)
        return
    even = [i for i, n in enumerate(counts) if unevenness(n, e.parts) <= _UNEVEN]
    axis = even[0] if even else counts.index(most)

    def outer(*before: Index) -> None:
        shared(e, counts[axis], lambda i: e.nest(
            counts[axis + 1 :], lambda *after: body(*before, i, *after)))  # fmt: skip

    e.nest(counts[:axis], outer)


def shared_blocks(e: Emit, end: Value, body: Callable[[Index], None], step: int) -> None:
    """``body(i)`` for ``i in range(0, end, step)``; `end` is a multiple of the step, not 0."""
    if not is_shared(e):
        e.loop(0, end, body, step=step)
        return
    first, last = share_of(e, e.share(end, step))
    with apart(e), e.b.if_then(e.b.icmp_signed("<", first, last)):
        e.loop(e.times(first, step), e.times(last, step), body, step=step)


@contextmanager
def first_only(e: Emit) -> Iterator[None]:
    """A block for the first thread."""
    if not is_shared(e):
        yield
        return
    with apart(e), e.b.if_then(e.b.icmp_signed("==", e.part, e.const(0))):
        yield


def shared_columns(e: Emit, n: int, body: Callable[[Index, int], None]) -> None:
    """``body(column, lanes)`` for `n` columns as `Emit.columns`."""
    if not is_shared(e) or n < LANES:
        with first_only(e):
            e.columns(n, body)
        return
    shared(e, n // LANES, lambda i: body(i, LANES), step=LANES)
    if n % LANES:
        with first_only(e):
            body(n // LANES * LANES, n % LANES)


def meet(e: Emit) -> None:
    """No thread goes on before all have come here; orders what they read and write."""
    if is_shared(e):
        e.b.call(_Callee(e.b.load(e.team, typ=PTR)), [e.team])  # see team.py


class _Callee:
    """A pointer to ``void f(ptr)`` with what llvmlite asks callees for."""

    function_type = ir.FunctionType(VOID, [PTR])

    def __init__(self, pointer: Value) -> None:
        self.type = pointer.type
        self.get_reference = pointer.get_reference


def own(e: Emit, space: Value, floats: int) -> Value:
    """This thread's part of a workspace in which each has so many floats."""
    return e.at(space, e.times(e.part, own_floats(floats)))


def own_floats(floats: int) -> int:
    """Whole lines of the cache, so that no two threads write to one."""
    return -(-floats // LANES) * LANES
