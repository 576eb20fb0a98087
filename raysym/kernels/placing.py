"""Placing: where values lie while steps are emitted: as users see them, channels-last, or both."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from raysym.kernels.expressions import Stage, Target, dense
from raysym.kernels.shared import own_floats
from raysym.kernels.specs import Spec, is_worth_sharing
from raysym.kernels.steps import Buffer, Native, Numbers, Place, Step, Stream, buffers_of
from raysym.types import TensorType


class Placing:
    """Places of values by name and layout, and the steps of a phase that make them.

    `direct`: values that are made in a resident array.
    """

    def __init__(
        self, types: Mapping[str, TensorType], homes: frozenset[str], threads: int
    ) -> None:
        self.types, self.homes, self.threads = types, homes, threads
        self.places: dict[tuple[str, bool], Place] = {}
        self.buffers: list[Buffer] = []
        self.direct: Mapping[str, str] = {}
        self.steps: list[Step] = []
        self.phase = ""
        self.clock = 0

    def begin(self, phase: str, direct: Mapping[str, str]) -> list[Step]:
        """Go on to a phase, whose steps are returned as a list that grows."""
        self.phase, self.direct, self.steps = phase, direct, []
        for key in [k for k in self.places if k[0] in self.homes]:
            del self.places[key]  # users may have written to resident arrays since
        return self.steps

    def emit(self, step: Step) -> None:
        """Add a step."""
        for buffer in buffers_of(step):
            buffer.touch(self.clock, self.phase)
        self.steps.append(step)
        self.clock += 1

    def native(
        self,
        spec: Spec,
        args: Sequence[Buffer | int],
        label: str,
        n_reads: int,
        inplace: Sequence[tuple[int, int]] = (),
        space: int = 0,
        flops: float = 0,
        numbers: Numbers | None = None,
        stream: Stream | None = None,
    ) -> None:
        """A call of a kernel that needs `space` floats of memory for each of its threads."""
        nbytes = sum(arg.nbytes for arg in args if isinstance(arg, Buffer))
        if self.threads > 1 and is_worth_sharing(spec, flops, nbytes):
            spec = spec._replace(parts=self.threads)
        if space:
            # own_floats counts numbers of the dtype: a line of float64 is two of float32.
            wide = 2 if spec.dtype == "float64" else 1
            each = wide * own_floats(-(-space // wide))
            whole = space if spec.parts == 1 else spec.parts * each
            args = [*args, self.buffer(4 * whole)]
        if numbers is not None:
            args = [*args, int(numbers.table.ctypes.data)]
        if stream is not None:
            args = [*args, int(stream.key.ctypes.data)]
        self.emit(Native(spec, tuple(args), label, n_reads, tuple(inplace), numbers, stream))

    def buffer(self, nbytes: int) -> Buffer:
        """Memory of the arena."""
        made = Buffer(nbytes)
        self.buffers.append(made)
        return made

    def write(self, name: str, last: bool) -> Place:
        """A new place for a value that a step is about to make."""
        name = self.direct.get(name, name)
        kind = self.types[name]
        last = last and differs(kind)
        for layout in (False, True):
            self.places.pop((name, layout), None)
        if name in self.homes and not last:
            place = Place(Buffer(kind.nbytes, name), kind)
        else:
            place = Place(self.buffer(kind.nbytes), kind, last)
        self.places[name, last] = place
        return place

    def settle(self, name: str) -> None:
        """Bring a resident value that was made channels-last into its array."""
        name = self.direct.get(name, name)
        if name in self.homes and (name, False) not in self.places:
            self._turn(name, self.places[name, True], False)

    def lies_turned(self, name: str) -> bool:
        """True when the value has a place where its channels come last."""
        return (name, True) in self.places

    def lies(self, name: str, last: bool) -> bool:
        """True when the value can be read in a layout as it lies."""
        found = self.places.get((name, last)) or self.places.get((name, not last))
        return not differs(self.types[name]) or (found.last == last if found else not last)

    def alias(self, name: str, source: str) -> None:
        """Let a view lie where its source lies."""
        self.places[name, False] = self.read(source, False)._replace(type=self.types[name])

    def read(self, name: str, last: bool) -> Place:
        """The place of a value in the wanted layout; turned first if need be."""
        if (name, last) in self.places:
            return self.places[name, last]
        if (name, not last) in self.places:
            there = self.places[name, not last]
            if not differs(there.type):
                return there._replace(last=last)
            return self._turn(name, there, last)
        kind = self.types[name]
        if name not in self.homes:
            raise KeyError(name)
        self.places[name, False] = Place(Buffer(kind.nbytes, name), kind)
        return self.read(name, last)

    def _turn(self, name: str, there: Place, last: bool) -> Place:
        n, c, *spatial = there.type.shape
        sizes = (n, c, math.prod(spatial)) if last else (n, math.prod(spatial), c)
        is_home = name in self.homes and not last
        buffer = Buffer(there.type.nbytes, name) if is_home else self.buffer(there.type.nbytes)
        spec = turning(*sizes, there.type.dtype)
        self.native(spec, [there.buffer, buffer], "transpose", 1)
        # Another phase turns it again: this one may run without that.
        self.places[name, last] = Place(buffer, there.type, last)
        return self.places[name, last]


def turning(count: int, rows: int, columns: int, dtype: str) -> Spec:
    """The kernel that transposes so many matrices."""
    if dtype.startswith("float"):
        return Spec("transpose", (count, rows, columns), dtype=dtype)
    shape, size = (count, columns, rows), rows * columns
    read = ("load", dtype, 0, 0, (size, 1, columns))
    stage = Stage(shape, "", (Target(1, dtype, 0, dense(shape), 0),), (read,))
    return Spec("staged", (2, (), (stage,), 0))


def differs(kind: TensorType) -> bool:
    """True when channels-last is another order of the numbers."""
    return len(kind.shape) > 2 and kind.shape[1] > 1 and math.prod(kind.shape[2:]) > 1
