"""What a linked program does beside reference kernels: actions of one step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

from raysym.kernels.steps import Stream
from raysym.kernels.team import Team, table_runner
from raysym.planning.plan import Instruction, Recv, Send

# An action gets the step's key (see runtime/); False: no message yet.
Action: TypeAlias = Callable[[Any], bool]
POISON = 0xFF  # as bytes of a float: NaN


class _Watched(Protocol):
    """Who notes the message or reference kernel that was reached last."""

    reached: Instruction | None


def native_call(table: Any, pointers: Any, team: Team | None) -> Action:
    """All rows of a table of kernels in one call; `pointers` are kept for it."""
    run = team.run if team else table_runner()
    address, count = table.ctypes.data, len(table)

    def native(key: Any) -> bool:
        run(address, count)
        return True

    native.keep = table, pointers  # type: ignore[attr-defined]  # the table's memory
    return native


def drawing(streams: Sequence[Stream], native: Action) -> Action:
    """A call whose kernels draw random numbers."""

    def draw(key: Any) -> bool:
        for stream in streams:
            stream.turn(key.seed, key.step)
        return native(key)

    return draw


def poison(memory: Any) -> Action:
    """Fill memory with NaN."""

    def fill(key: Any) -> bool:
        memory.fill(POISON)
        return True

    return fill


def outgoing(worker: _Watched, send: Send, post: Callable[[Any], None], array: Any) -> Action:
    """Send an array."""

    def action(key: Any) -> bool:
        worker.reached = send
        post(array)
        return True

    return action


def incoming(
    worker: _Watched,
    recv: Recv,
    take: Callable[[], Any],
    put: Callable[[Any, Any], None],
    target: Any,
) -> Action:
    """`take` a message and `put` it into its target."""

    def action(key: Any) -> bool:
        worker.reached = recv
        array = take()
        if array is None:
            return False
        put(array, target)
        return True

    return action
