"""Measured seconds of every kernel of a bound executor: they override what op pages estimate."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np

from raysym.planning.plan import Plan, Run, split_entry
from raysym.runtime.local import LocalRuntime
from raysym.runtime.protocol import StepKey


class Profile(NamedTuple):
    """Mean seconds of each run of a plan, by the name of its first output."""

    runs: dict[str, float]

    @property
    def nodes(self) -> dict[str, float]:
        """Seconds of each of the user's nodes with its gradients, for `Cluster.measured`.

        Of all micro-batches together.
        """
        total: dict[str, float] = {}
        for name, seconds in self.runs.items():
            if ":" not in name:  # copies into resident arrays belong to no node
                owner = split_entry(name)[0].partition("_backward")[0]
                total[owner] = total.get(owner, 0.0) + seconds
        return total


def profile_plan(
    plan: Plan, arrays: Mapping[str, Any], steps: int = 5, threads: int = 1
) -> Profile:
    """Run a plan `steps` times in this process, on copies of its resident entries.

    Seconds are this thread's CPU time, so that other programs on the machine do not count; with
    several `threads` they are wall time. Means, because they add up to the step: medians of kernels
    leave out what strikes a different kernel in each step.
    """
    clock = time.thread_time if threads == 1 else time.perf_counter
    seen: dict[str, list[float]] = {}
    begun = 0.0

    def tap(run: Run, args: Sequence[Any], values: Sequence[Any]) -> None:
        nonlocal begun
        now = clock()
        seen.setdefault(run.outs[0], []).append(now - begun)
        begun = now

    runtime = LocalRuntime(threads)
    runtime.load(plan, {name: np.array(array) for name, array in arrays.items()})
    for step in range(steps + 1):
        for phase in plan.phases:
            begun = clock()
            runtime.run(phase, StepKey(0, step), tap)
    runtime.close()
    # The first step pays for memory that the others reuse.
    return Profile({name: fmean(times[1:] or times) for name, times in seen.items()})
