"""Steps of a linked program and the buffers that they read and write."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from raysym.kernels.specs import Spec
from raysym.passes.memory import Lifetime
from raysym.planning.plan import Recv, Run, Send
from raysym.random_state import stream_key
from raysym.types import TensorType

FOREVER = 1 << 60


@dataclass(eq=False)
class Buffer:
    """Memory of one value: part of the arena, or the array of a resident entry (`home`)."""

    nbytes: int
    home: str = ""
    first: int = FOREVER
    last: int = -1
    phase: str = ""
    crosses: bool = False  # used by another phase than the one that made it
    spent: bool = False  # ends there nevertheless
    shares: Buffer | None = None  # the buffer whose memory this one takes over

    def owner(self) -> Buffer:
        """The buffer that is planned: itself, or the one that it shares memory with."""
        owner = self
        while owner.shares is not None:
            owner = owner.shares
        return owner

    @property
    def lifetime(self) -> Lifetime:
        """What the memory plan has to know."""
        return Lifetime(self.nbytes, self.first, self.end)

    @property
    def end(self) -> int:
        """The last step that needs the content."""
        return FOREVER if self.crosses and not self.spent else self.last

    def touch(self, step: int, phase: str) -> None:
        """Note a use; what another phase made lives on, since this one may run again."""
        self.phase = self.phase or phase
        self.crosses |= phase != self.phase
        self.first = min(self.first, step)
        self.last = max(self.last, step)


class Place(NamedTuple):
    """Where a value lies: buffer and type; `last` when its channels come last."""

    buffer: Buffer
    type: TensorType
    last: bool = False


@dataclass(eq=False)
class Numbers:
    """What a loop's code, a chain, reads of the parameters of its runs: a table of float64.

    ``views``: by name, what views that the runs read are views of.
    """

    table: Any
    chain: Any
    runs: list[Run]
    views: Mapping[str, str]


@dataclass(eq=False)
class Stream:
    """The random stream of a run: the value it is keyed by, and the key of the step that runs."""

    name: str
    key: Any = field(default_factory=lambda: np.zeros(2, np.uint64))

    def turn(self, seed: int, step: int) -> None:
        """Go on to a step."""
        self.key[:] = stream_key(seed, self.name, step)


@dataclass(frozen=True)
class Native:
    """A call of a generated kernel; an int argument is passed as it is.

    The first `n_reads` arguments are read, others written. ``inplace``: an operand and a result,
    by their positions, that may share memory. ``numbers`` and the key of a ``stream``: behind all
    others, if there are any.
    """

    spec: Spec
    args: tuple[Buffer | int, ...]
    label: str
    n_reads: int
    inplace: tuple[tuple[int, int], ...] = ()
    numbers: Numbers | None = None
    stream: Stream | None = None


@dataclass(frozen=True)
class Reference:
    """A run of an op's reference kernel: arguments and results as arrays; None: not kept."""

    run: Run
    args: tuple[Place, ...]
    outs: tuple[Place | None, ...]


@dataclass(frozen=True)
class Outgoing:
    """A message to another worker."""

    send: Send
    place: Place


@dataclass(frozen=True)
class Incoming:
    """A message from another worker."""

    recv: Recv
    place: Place


Step: TypeAlias = Native | Reference | Outgoing | Incoming


def buffers_of(step: Step) -> list[Buffer]:
    """All buffers that a step reads or writes."""
    return read_buffers(step) + written_buffers(step)


def read_buffers(step: Step) -> list[Buffer]:
    """Buffers that a step reads."""
    match step:
        case Native():
            return [arg for arg in step.args[: step.n_reads] if isinstance(arg, Buffer)]
        case Reference():
            return [place.buffer for place in step.args]
    return [step.place.buffer] if isinstance(step, Outgoing) else []


def written_buffers(step: Step) -> list[Buffer]:
    """Buffers that a step writes."""
    match step:
        case Native():
            return [arg for arg in step.args[step.n_reads :] if isinstance(arg, Buffer)]
        case Reference():
            return [place.buffer for place in step.outs if place is not None]
    return [step.place.buffer] if isinstance(step, Incoming) else []
