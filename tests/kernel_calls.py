"""Help for tests of generated kernels: one cache for all of them, and calls on arrays."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np

from raysym.kernels.link import LinkedWorker, link
from raysym.kernels.link import shared_kernels as kernels
from raysym.kernels.specs import Kernels, Spec
from raysym.kernels.team import Team
from raysym.op import Op
from raysym.planning.plan import Run
from raysym.runtime.protocol import StepKey
from raysym.types import TensorType


def call(spec: Spec, *args: np.ndarray | int) -> None:
    """Run one kernel on arrays and ints."""
    numbers = [a if isinstance(a, int) else a.ctypes.data for a in args]
    table = np.array(numbers, np.int64)
    function = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(kernels().address(spec))
    function(table.ctypes.data)


def linked_op(
    op: Op,
    arrays: Sequence[np.ndarray],
    outs: Sequence[TensorType],
    poison: bool = True,
    used: Kernels | None = None,
    team: Team | None = None,
) -> tuple[list[np.ndarray], LinkedWorker]:
    """One op linked as a program of its own: its results and what was linked."""
    names = [f"in{i}" for i in range(len(arrays))]
    results = [np.full(t.shape, 7, t.dtype) for t in outs]
    made = [f"out{i}" for i in range(len(outs))]
    homes = dict(zip([*names, *made], [*arrays, *results], strict=True))
    types = {name: TensorType(a.shape, a.dtype.name) for name, a in homes.items()}
    program = (Run(tuple(made), op, tuple(names)),)
    used = used or kernels()
    worker = link({"forward": program}, types, homes, kernels=used, poison=poison, team=team)
    worker.phases["forward"].advance(StepKey(0, 1), 0)
    return results, worker
