"""Plans for people in a hurry: the same lines, without what goes without saying."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from raysym.planning.plan import Free, Instruction, Plan, Recv, Send

_HEAD, _TAIL = 7, 2


def shortened(plan: Plan) -> Iterator[str]:
    """The plan's text without its frees and with long programs cut in the middle.

    Messages between workers are always shown.
    """
    for worker, phases in plan.programs.items():
        yield worker
        yield f"  home  {_resident(plan, worker)}"
        for phase, program in phases.items():
            yield f"  {phase}:"
            yield from _lines(plan, [i for i in program if type(i) is not Free])


def _resident(plan: Plan, worker: str) -> str:
    own = [name for name, home in plan.homes.items() if home == worker]
    nbytes = sum(plan.types[name].nbytes for name in own if name in plan.types)
    return f"{', '.join(own[:3])}, … {len(own)} arrays, {nbytes / 1024:,.0f} KiB"


def _lines(plan: Plan, program: Sequence[Instruction]) -> Iterator[str]:
    left_out = 0
    for position, instruction in enumerate(program):
        at_the_rim = position < _HEAD or position >= len(program) - _TAIL
        if not at_the_rim and type(instruction) not in (Send, Recv):
            left_out += 1
            continue
        if left_out:
            yield f"    … {left_out} more"
        left_out = 0
        yield f"    {plan.line(instruction)}"
