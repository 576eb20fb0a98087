"""Lifetimes: where in a program each value is used last, and which values nobody uses."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence, Set

from raysym.planning.plan import Free, Instruction, Program, Recv, Run, Send

Programs = Mapping[str, Mapping[str, Sequence[Instruction]]]  # by worker and phase


def free_unused(programs: Programs, homes: Mapping[str, str]) -> dict[str, dict[str, Program]]:
    """Name unused outputs `_` and free every value after its last use.

    What a later phase reads stays until the next step overwrites it, so that backward may run
    again.
    """
    done: dict[str, dict[str, Program]] = {}
    for worker, phases in programs.items():
        resident = {entry for entry, home in homes.items() if home == worker}
        done[worker] = dict.fromkeys(phases, ())
        later: set[str] = set()
        for phase in reversed(list(phases)):
            done[worker][phase] = _with_frees(phases[phase], resident, later)
            later |= uses(phases[phase])
    return done


def _with_frees(
    body: Sequence[Instruction], homes: Container[str], later: Set[str]
) -> tuple[Instruction, ...]:
    done: list[Instruction] = []
    seen = set(later)
    made_here = made(body)
    for instruction in reversed(body):
        ends = (uses([instruction]) & made_here) - seen
        used = sorted(entry for entry in ends if entry not in homes)
        done += [Free(name) for name in reversed(used)]
        done.append(_without_unused(instruction, homes, seen))
        seen.update(used)
    return tuple(done[::-1])


def _without_unused(
    instruction: Instruction, homes: Container[str], seen: Container[str]
) -> Instruction:
    if type(instruction) is not Run:
        return instruction
    first = 1 if instruction.op.random else 0  # the first name is also the key of its draws
    outs = tuple(
        out if out in seen or out in homes or i < first else "_"
        for i, out in enumerate(instruction.outs)
    )
    return Run(outs, instruction.op, instruction.args)


def uses(body: Sequence[Instruction]) -> set[str]:
    """Entries that the instructions read."""
    found: set[str] = set()
    for instruction in body:
        if type(instruction) is Run:
            found.update(instruction.args)
        elif type(instruction) is Send:
            found.add(instruction.entry)
    return found


def made(body: Sequence[Instruction]) -> set[str]:
    """Entries that the instructions make or receive."""
    runs = [instruction for instruction in body if type(instruction) is Run]
    received = {instruction.entry for instruction in body if type(instruction) is Recv}
    return received | {out for run in runs for out in run.outs}
