"""Values that one phase hands to another may end with their last use there.

A phase may run again, so what it has used up must be there once more: the steps that made it are
run again first. Where that would not give the same values, they are kept instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from raysym.kernels.steps import (
    Buffer,
    Native,
    Reference,
    Step,
    buffers_of,
    read_buffers,
    written_buffers,
)


def spend(phases: Mapping[str, Sequence[Step]]) -> dict[str, list[int]]:
    """Let values end where they are last used; by phase, the clocks of the steps to run again.

    Done where there are two phases, the first of which serves the second.
    """
    if len(phases) != 2:
        return {}
    (maker, made), (reader, read) = phases.items()
    changed = {b.home for step in (*made, *read) for b in written_buffers(step) if b.home}
    handed = _handed(made, read, maker)
    again = _makers(made, handed)
    if not handed or not all(_is_pure(made[i], changed) for i in again):
        return {}
    for buffer in handed:
        buffer.spent = True
    return {reader: again}


def _handed(made: Sequence[Step], read: Sequence[Step], maker: str) -> set[Buffer]:
    here = {buffer for step in made for buffer in buffers_of(step) if not buffer.home}
    used = {buffer for step in read for buffer in buffers_of(step)}
    return {buffer for buffer in here & used if buffer.phase == maker}


def _makers(steps: Sequence[Step], wanted: set[Buffer]) -> list[int]:
    """Positions of the steps that the wanted buffers depend on."""
    needed, found = set(wanted), []
    for position in range(len(steps) - 1, -1, -1):
        if needed.intersection(written_buffers(steps[position])):
            found.append(position)
            needed.update(b for b in read_buffers(steps[position]) if not b.home)
    return found[::-1]


def _is_pure(step: Step, changed: set[str]) -> bool:
    """True when the step gives the same values again and changes nothing that users see."""
    if not isinstance(step, (Native, Reference)):
        return False
    if isinstance(step, Reference) and step.run.op.stateful:
        return False
    reads = {buffer.home for buffer in read_buffers(step)} & changed
    writes = {b.home for b in written_buffers(step) if b.home and not b.home.startswith("output:")}
    return not reads and not writes
