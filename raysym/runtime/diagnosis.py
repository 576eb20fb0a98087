"""Why a step does not come to its end: who waits for whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from raysym.runtime.host import Health


def find_stall(
    before: Mapping[str, Health], now: Mapping[str, Health], reported: Sequence[str]
) -> list[str] | None:
    """The workers of a wait-for cycle, or of a chain that ends at a worker that is done.

    None while somebody still moves: a worker that computes is not stalled.
    """
    for name, health in now.items():
        if name in reported:
            continue
        waits = health.waits_for
        if waits is None or before.get(name) != health:
            continue
        chain = _chain(name, now, reported)
        if chain is not None:
            return chain
    return None


def _chain(start: str, now: Mapping[str, Health], reported: Sequence[str]) -> list[str] | None:
    trail = [start]
    while True:
        waits = now[trail[-1]].waits_for
        if waits is None:
            return None
        peer = waits[0]
        if peer in trail:
            return trail[trail.index(peer) :]
        if peer in reported:
            return trail
        if peer not in now:
            return None
        trail.append(peer)


def describe(names: Sequence[str], health: Mapping[str, Health], plan_line: Any) -> str:
    """One line per worker: what it waits for, from whom, in which step, at which instruction."""
    lines = []
    for name in names:
        it = health[name]
        peer, entry = it.waits_for or ("nobody", "nothing")
        line = plan_line(name, it.phase, it.position)
        lines.append(
            f"  worker {name} waits for {entry} from {peer} "
            f"in step {it.turn}, {it.phase} instruction {it.position}: {line}"
        )
    return "\n".join(lines)
