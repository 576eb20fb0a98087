"""The named pipeline schedules: GPipe, 1F1B, interleaved 1F1B, ZB-H1, ZB-H2 (bubble-free).

Sources: Huang et al. 2019; Narayanan et al. 2019 and 2021; Qi et al. 2023 (zero bubble).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from scheduler.errors import ScheduleError

from .action import Action, Order


def gpipe(ranks: int, batches: int) -> Order:
    """All forwards, then all backwards. Bubble (p - 1) / (m + p - 1)."""
    forward = [[Action(r, "F", b) for b in range(batches)] for r in range(ranks)]
    backward = [[Action(r, "B", b) for b in range(batches)] for r in range(ranks)]
    return tuple(tuple(f + b) for f, b in zip(forward, backward, strict=True))


def one_f_one_b(ranks: int, batches: int) -> Order:
    """One forward, one backward in turn after a warm-up. GPipe's bubble, p micro-batches in
    memory."""
    return tuple(tuple(_alternate(r, min(ranks - r, batches), batches, "B")) for r in range(ranks))


def interleaved(ranks: int, batches: int, chunks: int = 2) -> Order:
    """1F1B over `chunks` stages per rank, in groups of p micro-batches. Bubble (p - 1) / (v m + p -
    1).

    Raises ScheduleError unless the micro-batches are a multiple of the ranks.
    """
    if batches % ranks:
        raise ScheduleError(f"interleaved: {batches} micro-batches, expected a multiple of {ranks}")
    total = batches * chunks
    rows = []
    for r in range(ranks):
        forward = [_chunk_action(r, "F", n, ranks, chunks) for n in range(total)]
        backward = [_chunk_action(r, "B", n, ranks, chunks) for n in range(total)]
        warm = min(2 * (ranks - r - 1) + (chunks - 1) * ranks, total)
        row = forward[:warm]
        for f, b in zip(forward[warm:], backward, strict=False):
            row += [f, b]
        rows.append(tuple(row + backward[total - warm :]))
    return tuple(rows)


def zero_bubble_h1(ranks: int, batches: int) -> Order:
    """1F1B with split backwards: weight gradients fill the tail. Memory of 1F1B.

    Bubble (p - 1)(f + i - w) of the span, for m >= p, where w <= f and w <= i.
    """
    rows = []
    for r in range(ranks):
        warm = min(ranks - r, batches)
        rows.append(tuple(_with_weights(r, warm, batches, lag=r)))
    return tuple(rows)


def zero_bubble_free(ranks: int, batches: int, cap: int | None = None) -> Order:
    """ZB-H2: a longer warm-up leaves no bubble when f = i = w, for m >= 2p - 1.

    `cap` limits the micro-batches in memory per rank (default 2p - 1); p gives H1's memory.
    """
    cap = 2 * ranks - 1 if cap is None else cap
    if cap < ranks:
        raise ScheduleError(f"zero_bubble_free: cap {cap}, expected at least {ranks}")
    rows = []
    for r in range(ranks):
        warm = min(2 * (ranks - r) - 1, max(cap - r, ranks - r), batches)
        rows.append(tuple(_with_weights(r, warm, batches, lag=min(2 * r, cap - warm))))
    return tuple(rows)


def _alternate(stage: int, warm: int, batches: int, kind: str) -> Iterator[Action]:
    for b in range(warm):
        yield Action(stage, "F", b)
    for b in range(batches):
        yield Action(stage, kind, b)
        if warm + b < batches:
            yield Action(stage, "F", warm + b)


def _with_weights(stage: int, warm: int, batches: int, lag: int) -> Iterator[Action]:
    """Alternate F and I; W of a micro-batch follows `lag` input gradients later, the rest at the
    end."""
    done = 0
    for action in _alternate(stage, warm, batches, "I"):
        yield action
        if action.kind == "I" and action.batch >= lag:
            yield Action(stage, "W", done)
            done += 1
    for b in range(done, batches):
        yield Action(stage, "W", b)


def _chunk_action(rank: int, kind: str, n: int, ranks: int, chunks: int) -> Action:
    group, within = divmod(n, ranks * chunks)
    chunk, batch = divmod(within, ranks)
    chunk = chunk if kind == "F" else chunks - 1 - chunk
    return Action(chunk * ranks + rank, kind, group * ranks + batch)


NAMED: dict[str, Callable[..., Order]] = {
    "1f1b": one_f_one_b,
    "gpipe": gpipe,
    "interleaved": interleaved,
    "zero_bubble_free": zero_bubble_free,
    "zero_bubble_h1": zero_bubble_h1,
}
