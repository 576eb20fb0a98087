"""Programs on their way to another process, behind what their ops must find there; their types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raysym.planning.lifetimes import made, uses
from raysym.planning.plan import Plan, Program, Run
from raysym.runtime.protocol import Arrays
from raysym.types import TensorType


class Parcel(dict[str, Program]):
    """The programs of a worker, by phase. It arrives as a plain dict.

    The luggage of their ops is unpickled first and makes these ops known.
    """

    def luggage(self) -> tuple[Any, ...]:
        """What the ops need there, each piece once."""
        runs = [i for program in self.values() for i in program if type(i) is Run]
        return tuple(dict.fromkeys(piece for run in runs for piece in run.op.luggage()))

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpacked, (self.luggage(), dict(self))


def _unpacked(luggage: tuple[Any, ...], programs: Mapping[str, Program]) -> Mapping[str, Program]:
    return programs


def modules_in(argument: Any) -> set[str]:
    """Names of the modules that define what a parcel carries; of anything else, none."""
    return {p.module for p in argument.luggage()} if isinstance(argument, Parcel) else set()


def types_for(programs: Mapping[str, Program], arrays: Arrays, plan: Plan) -> dict[str, TensorType]:
    """Types of what a worker's programs read and make, and of its arrays."""
    bodies = programs.values()
    names = {*arrays}.union(*map(uses, bodies), *map(made, bodies))
    return {name: plan.types[name] for name in names if name in plan.types}
