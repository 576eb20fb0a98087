"""What instructions of a program read and write, and which values need no place of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from raysym.kernels.maps import FUSIBLE_VIEWS
from raysym.planning.plan import Free, Instruction, Program, Recv, Run, Send


def readers_of(programs: Mapping[str, Program]) -> dict[str, list[tuple[str, int]]]:
    """Where each name is read: (phase, position in the program without its frees)."""
    found: dict[str, list[tuple[str, int]]] = {}
    for phase, program in programs.items():
        for position, instruction in enumerate(without_frees(program)):
            for name in reads_of(instruction):
                found.setdefault(name, []).append((phase, position))
    return found


def without_frees(program: Program) -> list[Instruction]:
    """What is left of a program when memory is planned elsewhere."""
    return [i for i in program if type(i) is not Free]


def reads_of(instruction: Instruction) -> tuple[str, ...]:
    """Names that an instruction reads."""
    if type(instruction) is Run:
        return instruction.args
    return (instruction.entry,) if type(instruction) is Send else ()


def writes_of(instruction: Instruction) -> tuple[str, ...]:
    """Names that an instruction writes."""
    if type(instruction) is Run:
        return tuple(out for out in instruction.outs if out != "_")
    return (instruction.entry,) if type(instruction) is Recv else ()


def direct_stores(
    body: Sequence[Instruction], homes: frozenset[str], readers: Mapping[str, list[tuple[str, int]]]
) -> tuple[dict[str, str], set[int]]:
    """Values that may be made in their resident array: name -> home, and the copies this saves.

    Only where the copy is all that reads the value, and nothing touches the array before it.
    """
    made_at = {name: i for i, instruction in enumerate(body) for name in writes_of(instruction)}
    touched: dict[str, list[int]] = {}
    for i, instruction in enumerate(body):
        for name in (*reads_of(instruction), *writes_of(instruction)):
            if name in homes:
                touched.setdefault(name, []).append(i)
    direct: dict[str, str] = {}
    skipped: set[int] = set()
    for i, run in enumerate(body):
        if type(run) is not Run or run.op.name != "_copy" or run.outs[0] not in homes:
            continue
        name, home = run.args[0], run.outs[0]
        maker = made_at.get(name, -1)
        busy = any(maker <= at < i for at in touched[home])
        if maker < 0 or name in homes or len(readers[name]) != 1 or busy or _is_alias(body[maker]):
            continue
        direct[name] = home
        skipped.add(i)
    return direct, skipped


def _is_alias(instruction: Instruction) -> bool:
    return type(instruction) is Run and instruction.op.name in FUSIBLE_VIEWS
