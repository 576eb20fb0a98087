"""Why a step does not come to its end: who waits for whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from raysym.runtime.host import Health


def find_stall(before: Mapping[str, Health], now: Mapping[str, Health]) -> list[str] | None:
    """The workers of a wait-for cycle in which nothing has moved since `before`; else None.

    A worker that computes, or whose data still flows, is not stalled.
    """
    for name in now:
        trail: list[str] = []
        while name in now and before.get(name) == now[name]:
            if name in trail:
                return trail[trail.index(name) :]
            trail.append(name)
            waits = now[name].waits_for
            if waits is None:
                break
            name = waits[0]
    return None


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
