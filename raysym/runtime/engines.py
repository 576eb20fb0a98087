"""Engines: what runs the programs of one worker, in whichever process the worker is.

`Interpreter` runs them as they stand; `linked.Linked` turns them into calls of generated kernels.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any, Protocol

from raysym.errors import MXNetError, sentence
from raysym.kernels.room import MOST_BYTES
from raysym.op import Op
from raysym.planning.plan import Plan, Program
from raysym.runtime.compiling import Code, Needs
from raysym.runtime.interpreter import INTERPRETED, Where, Worker
from raysym.runtime.protocol import Linkage, StepKey, Tap
from raysym.types import TensorType


class Engine(Protocol):
    """Runs the phases of one worker."""

    worker: Worker
    programs: dict[str, Program]

    def load(self, programs: Mapping[str, Program], types: Mapping[str, TensorType]) -> None:
        """Add phases; their resident entries are in the worker's values and stay there."""

    def advance(
        self, phase: str, key: StepKey, start: int = 0, tap: Tap | None = None
    ) -> int | None:
        """Run a phase from `start`; where a message was missing, None at the end."""

    def needs(
        self, programs: Mapping[str, Program], types: Mapping[str, TensorType], homes: Sequence[str]
    ) -> Needs:
        """The kernels that `load` will want before it returns."""

    def compiled(self, kernels: Sequence[Any]) -> list[Code]:
        """The code of these kernels, for others on like hosts."""

    def keep(self, codes: Mapping[Any, Code]) -> None:
        """Take in code that a like host has made."""

    def retune(self, phase: str, old: Op, new: Op) -> None:
        """Run `new` wherever the phase runs `old`: the same update with other numbers."""

    def where(self, phase: str) -> Where:
        """Which instruction of the phase runs; asked from another thread."""

    def linked(self, phase: str) -> Linkage | None:
        """How the phase was linked, None when it is interpreted."""

    def is_generated(self, phase: str) -> bool:
        """True when the phase, if it is not watched, runs no reference kernel."""

    def close(self) -> None:
        """End what the engine has started."""


class Engines(Protocol):
    """Opens the engine of each worker; travels to other processes."""

    def open(self, worker: Worker) -> Engine:
        """The engine of a worker that has nothing loaded yet."""

    def work_bytes(self, plan: Plan) -> dict[str, int]:
        """Bytes that each worker would plan for values that come and go."""


def chosen(kernels: str, is_plain: bool) -> str:
    """What "auto" stands for: "generated" if all is float32 on CPUs and llvmlite is installed."""
    if kernels != "auto":
        return kernels
    return "generated" if is_plain and find_spec("llvmlite") else "reference"


def engines_for(
    kernels: str, compiling: str = "before", threads: int = 1, cache_bytes: int = MOST_BYTES
) -> Engines:
    """The engines for "reference" or "generated" kernels.

    `compiling`: "before" the first step, or in the "background" while first steps run on reference
    kernels. `threads`: so many share a generated kernel. `cache_bytes`: what may stay on disk.
    llvmlite is imported when generated kernels are first asked for.
    """
    if kernels not in ("reference", "generated"):
        wanted = "'reference', 'generated' or 'auto'"
        raise MXNetError(f"bind: kernels: got {kernels!r}, expected {wanted}")
    if compiling not in ("before", "background"):
        raise MXNetError(f"bind: compiling: got {compiling!r}, expected 'before' or 'background'")
    if not isinstance(cache_bytes, int) or isinstance(cache_bytes, bool) or cache_bytes < 1:
        raise MXNetError(sentence("bind: cache_bytes", repr(cache_bytes), "a number of bytes"))
    if kernels == "reference":
        return INTERPRETED
    try:
        door = importlib.import_module("raysym.runtime.linked")
    except ModuleNotFoundError as error:
        wrong = f"bind: kernels='generated': {error}. Install raysym[kernels]"
        raise MXNetError(wrong) from error
    made: Engines = door.LinkedEngines(
        background=compiling == "background", threads=threads, cache_bytes=cache_bytes
    )
    return made
