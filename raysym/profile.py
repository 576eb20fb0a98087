"""Measured seconds of every kernel of a bound executor: they override what op pages estimate."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np

from raysym.planning.plan import Plan, Run, split_entry
from raysym.runtime.local import LocalRuntime
from raysym.runtime.protocol import StepKey
from raysym.runtime.threads import pinned


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
    plan: Plan, arrays: Mapping[str, Any], steps: int = 5, at_once: int = 1
) -> Profile:
    """Run a plan `steps` times in this process, on copies of its resident entries.

    `at_once` threads do so at the same time, each on copies of its own: cores that share memory,
    caches and clock rate are slower when all are busy, as those of a pipeline are. Seconds are CPU
    time of a thread, so that other programs on the machine do not count. Means, because they add up
    to the step: medians of kernels leave out what strikes a different kernel in each step.
    """
    if at_once < 1:
        raise ValueError(f"profile: at_once: got {at_once}, expected at least 1")
    measure = partial(_run_s, plan, arrays, steps)
    with pinned(1), ThreadPoolExecutor(at_once) as pool:
        others = [pool.submit(measure) for _ in range(at_once - 1)]
        found = [measure(), *(other.result() for other in others)]
    return Profile({name: fmean(runs[name] for runs in found) for name in found[0]})


def _run_s(plan: Plan, arrays: Mapping[str, Any], steps: int) -> dict[str, float]:
    """Mean CPU seconds of each run in this thread."""
    seen: dict[str, list[float]] = {}
    begun = 0.0

    def tap(run: Run, args: Sequence[Any], values: Sequence[Any]) -> None:
        nonlocal begun
        now = time.thread_time()
        seen.setdefault(run.outs[0], []).append(now - begun)
        begun = now

    runtime = LocalRuntime()
    runtime.load(plan, {name: np.array(array) for name, array in arrays.items()})
    for step in range(steps + 1):
        for phase in plan.phases:
            begun = time.thread_time()
            runtime.run(phase, StepKey(0, step), tap)
    runtime.close()
    # The first step pays for memory that the others reuse.
    return {name: fmean(times[1:] or times) for name, times in seen.items()}
