"""Results in the place of an operand: where a kernel allows it and nobody reads the operand again.

What an op overwrites is its own: buffers that live into another phase, since that may run again,
and resident arrays are left alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from raysym.kernels.steps import Buffer, Native, Step
from raysym.passes.memory import aligned


def share_buffers(steps: Sequence[Step]) -> None:
    """Let results take over their operands' buffers; `steps` are all in order of their clock."""
    for clock, step in enumerate(steps):
        if isinstance(step, Native):
            _share(step, clock)


def _share(step: Native, clock: int) -> None:
    taken: set[Buffer] = set()
    for source, target in step.inplace:
        operand, result = step.args[source], step.args[target]
        assert isinstance(operand, Buffer)
        assert isinstance(result, Buffer)
        owner = operand.owner()
        if owner in taken or not _can_share(owner, result, clock):
            continue
        if _is_read_elsewhere(step, owner, target):
            continue
        result.shares = owner
        owner.last, owner.crosses, owner.spent = result.last, result.crosses, result.spent
        taken.add(owner)


def _can_share(owner: Buffer, result: Buffer, clock: int) -> bool:
    ends = owner.end == clock and not owner.home
    begins = result.first == clock and not result.home and result.shares is None
    return ends and begins and aligned(owner.nbytes) == aligned(result.nbytes)


def _is_read_elsewhere(step: Native, owner: Buffer, target: int) -> bool:
    """True when the buffer is also an argument that the result must not overwrite."""
    allowed = {source for source, into in step.inplace if into == target}
    uses = {
        i for i, arg in enumerate(step.args) if isinstance(arg, Buffer) and arg.owner() is owner
    }
    return not uses <= allowed
