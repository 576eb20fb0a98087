"""The distributed runtime: one Ray actor per worker; the one door to ray.

A worker gets its programs once; a phase is one call per worker. Arrays go from worker to worker
through the object store, as arguments of the receiver's `post`, while both run their phase. What
a worker raises comes back as a value; a worker that dies is named within seconds.
"""

from __future__ import annotations

import logging
import os
import pickle
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from raysym.context import of_worker
from raysym.device import array_module, place, to_numpy
from raysym.errors import MXNetError, PlacementError, StallError, WorkerError
from raysym.planning.plan import Plan, Program
from raysym.runtime.interpreter import Worker, run_program
from raysym.runtime.protocol import Arrays, StepKey, Tap
from raysym.runtime.threads import pinned

START_S = 60.0  # how long workers may take to start
STEP_S = 300.0  # how long a phase may take before it is called a stall
CLOSE_S = 2.0


class _Aborted(Exception):
    """A peer failed: this worker gives its phase up."""


class Mail:
    """The messages of one worker: `post` brings them in, `recv` waits for them."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.peers: dict[str, Any] = {}
        self.turn = -1  # number of the phase that runs; messages carry it
        self._arrived: dict[tuple[int, str, str], Any] = {}
        self._aborted = -1
        self._changed = threading.Condition()

    def begin(self, turn: int) -> None:
        """Start a phase; what an aborted one left behind is dropped."""
        with self._changed:
            self.turn = turn
            self._arrived = {key: a for key, a in self._arrived.items() if key[0] >= turn}

    def post(self, turn: int, source: str, entry: str, array: Any) -> None:
        """A message has come; a view into the object store must not outlive it, so copy."""
        with self._changed:
            self._arrived[turn, source, entry] = np.array(array)
            self._changed.notify_all()

    def abort(self, turn: int) -> None:
        """Wake the phase if it waits: a peer has failed."""
        with self._changed:
            self._aborted = turn
            self._changed.notify_all()

    def send(self, to: str, entry: str, array: Any) -> None:
        """Hand an array to the peer through the object store; never waits."""
        self.peers[to].post.remote(self.turn, self.name, entry, to_numpy(array))

    def recv(self, source: str, entry: str) -> Any:
        """The array from the peer; waits until it is here."""
        key, deadline = (self.turn, source, entry), time.monotonic() + STEP_S
        with self._changed:
            while key not in self._arrived:
                if self._aborted == self.turn:
                    raise _Aborted
                if not self._changed.wait(max(0.0, deadline - time.monotonic())):
                    raise StallError(f"worker {self.name} waits for {entry} from {source}")
            array = self._arrived.pop(key)
        return place(array, of_worker(self.name))


class Host:
    """A worker process: holds its arrays, runs its programs, takes messages meanwhile."""

    def __init__(self, name: str, threads: int) -> None:
        self._worker = Worker(name, array_module(of_worker(name)))
        self._programs: dict[str, Program] = {}
        self._mail = Mail(name)
        self._threads = threads

    def connect(self, peers: Mapping[str, Any]) -> None:
        """Learn the handles of the other workers."""
        self._mail.peers = dict(peers)

    def load(self, programs: Mapping[str, Program], arrays: Arrays) -> None:
        """Add phases and resident entries."""
        self._programs.update(programs)
        for entry, array in arrays.items():
            self._worker.values[entry] = place(array, of_worker(self._worker.name))
            self._worker.homes.add(entry)

    def push(self, arrays: Arrays) -> None:
        """Overwrite resident entries."""
        for entry, array in arrays.items():
            self._worker.values[entry][...] = self._worker.xp.asarray(array)

    def fetch(self, names: Iterable[str]) -> dict[str, Any]:
        """Content of resident entries, copied: the worker may write to them right after."""
        return {name: np.array(to_numpy(self._worker.values[name])) for name in names}

    def run(
        self, phase: str, turn: int, key: StepKey, feeds: Arrays, watched: bool
    ) -> tuple[bytes | None, list[Any], dict[str, float]]:
        """One phase: the pickled error if it failed, what a monitor sees, seconds so far."""
        seen: list[Any] = []
        tap: Tap | None = (lambda *what: seen.append(what)) if watched else None
        self._mail.begin(turn)
        try:
            self.push(feeds)
            with pinned(self._threads):
                run_program(self._worker, self._programs[phase], self._mail, key, tap=tap)
        except Exception as error:
            return _pickled(error), seen, self._worker.clock.as_dict()
        return None, seen, self._worker.clock.as_dict()

    def pid(self) -> int:
        """The process, for those who look after it."""
        return os.getpid()

    @ray.method(concurrency_group="mail")
    def post(self, turn: int, source: str, entry: str, array: Any) -> None:
        """Take a message from a peer."""
        self._mail.post(turn, source, entry, array)

    @ray.method(concurrency_group="mail")
    def abort(self, turn: int) -> None:
        """Give a phase up."""
        self._mail.abort(turn)


# Nothing is restarted or retried by Ray: a fresh process would have lost its arrays.
Actor: Any = ray.remote(max_restarts=0, max_task_retries=0, concurrency_groups={"mail": 1})(Host)


def _pickled(error: BaseException) -> bytes:
    try:
        return pickle.dumps(error)
    except Exception:  # an exception of the user's that does not travel
        return pickle.dumps(MXNetError(f"{type(error).__name__}: {error}"))


class RayRuntime:
    """Workers are actors in a placement group; the driver makes one call per worker and phase."""

    shares_memory = False

    def __init__(self, threads: int = 1, step_timeout_s: float = STEP_S) -> None:
        self._threads, self._timeout_s = threads, step_timeout_s
        self._actors: dict[str, Any] = {}
        self._home_of: dict[str, str] = {}
        self._phases: dict[str, set[str]] = {}
        self._feeds: dict[str, dict[str, Any]] = {}
        self._seconds: dict[str, dict[str, float]] = {}
        self._group: Any = None
        self._turn = 0
        self._broken = ""

    # ----- starting

    def load(self, plan: Plan, arrays: Arrays) -> None:
        """Start the workers if need be; give them their programs and arrays."""
        self._check()
        if not self._actors:
            self._start(plan.workers)
        self._home_of.update(plan.homes)
        calls = {}
        for name in plan.workers:
            own = {entry: array for entry, array in arrays.items() if plan.homes[entry] == name}
            programs = {phase: p for phase, p in plan.programs[name].items() if p}
            self._phases.setdefault(name, set()).update(programs)
            calls[name] = self._actors[name].load.remote(programs, own)
        self._wait(calls, self._timeout_s, "load")

    def _start(self, workers: Iterable[str]) -> None:
        workers = list(workers)
        _connect(len(workers))
        bundles = [_resources(name) for name in workers]
        _check_devices(workers)
        self._group = placement_group(bundles, strategy="PACK")
        if not self._group.wait(START_S):
            total = {key: sum(b.get(key, 0.0) for b in bundles) for key in ("CPU", "GPU")}
            free = ray.available_resources()
            self.close()
            raise PlacementError(
                f"the cluster cannot hold the workers {', '.join(workers)}: need {total}, "
                f"free are {free.get('CPU', 0)} CPU, {free.get('GPU', 0)} GPU"
            )
        for i, name in enumerate(workers):
            self._actors[name] = self._actor(name, i)
            self._seconds[name] = {}
        calls = {n: a.connect.remote(_others(self._actors, n)) for n, a in self._actors.items()}
        self._wait(calls, START_S, "start")

    def _actor(self, name: str, bundle: int) -> Any:
        need = _resources(name)
        where = PlacementGroupSchedulingStrategy(self._group, placement_group_bundle_index=bundle)
        return Actor.options(
            num_cpus=need["CPU"],
            num_gpus=need.get("GPU", 0),
            scheduling_strategy=where,
        ).remote(name, self._threads)

    # ----- running

    def run(self, phase: str, key: StepKey, tap: Tap | None = None) -> None:
        """One call per worker; the first error is raised here, as it was raised there."""
        self._check()
        self._turn += 1
        calls = {}
        for name, actor in self._actors.items():
            if phase in self._phases[name]:
                feeds = self._feeds.pop(name, {})
                calls[name] = actor.run.remote(phase, self._turn, key, feeds, tap is not None)
        results = self._collect(calls, phase)
        for name, (_, seen, seconds) in results.items():
            self._seconds[name] = seconds
            if tap is not None:
                for what in seen:
                    tap(*what)

    def _collect(self, calls: Mapping[str, Any], phase: str) -> dict[str, Any]:
        """All results; the first failure makes the other workers give up, then is raised."""
        name_of = {ref: name for name, ref in calls.items()}
        waiting, results = list(name_of), {}
        failure: BaseException | None = None
        deadline = time.monotonic() + self._timeout_s
        while waiting:
            ready, waiting = ray.wait(waiting, timeout=max(0.0, deadline - time.monotonic()))
            if not ready:
                failure = failure or self._stalled([name_of[ref] for ref in waiting], phase)
                self._break(str(failure))
                break
            name = name_of[ready[0]]
            error = self._result(ready[0], name, results)
            if error is not None and (failure is None or isinstance(failure, _Aborted)):
                failure = error
                for other in (name_of[ref] for ref in waiting):
                    self._actors[other].abort.remote(self._turn)
        if failure is not None:
            raise failure
        return results

    def _result(self, ref: Any, name: str, results: dict[str, Any]) -> BaseException | None:
        try:
            results[name] = ray.get(ref)
        except RayError as error:
            return self._death(name, error)
        blob = results[name][0]
        return None if blob is None else pickle.loads(blob)

    def _stalled(self, names: Iterable[str], phase: str) -> StallError:
        return StallError(
            f"{phase}: no answer within {self._timeout_s:g} s from {', '.join(names)}"
        )

    def _death(self, name: str, error: RayError) -> WorkerError:
        first = str(error).strip().splitlines()[0]
        self._break(f"worker {name} died: {first}")
        return WorkerError(self._broken)

    def _break(self, why: str) -> None:
        self._broken = self._broken or why

    def _check(self) -> None:
        if self._broken:
            raise WorkerError(f"this executor cannot go on: {self._broken}")

    def _wait(self, calls: Mapping[str, Any], timeout_s: float, what: str) -> dict[str, Any]:
        results: dict[str, Any] = {}
        deadline = time.monotonic() + timeout_s
        for name, ref in calls.items():
            try:
                results[name] = ray.get(ref, timeout=max(0.0, deadline - time.monotonic()))
            except GetTimeoutError:
                raise self._stalled([name], what) from None
            except RayActorError as error:
                raise self._death(name, error) from None
        return results

    # ----- arrays

    def push(self, arrays: Arrays) -> None:
        """Overwrite resident entries; they travel with the next phase."""
        for entry, array in arrays.items():
            # A copy: the user may write into the array before the call is on its way.
            self._feeds.setdefault(self._home_of[entry], {})[entry] = np.array(to_numpy(array))

    def fetch(self, names: Iterable[str]) -> dict[str, Any]:
        """Content of resident entries."""
        self._check()
        asked: dict[str, list[str]] = {}
        for name in names:
            asked.setdefault(self._home_of[name], []).append(name)
        calls = {worker: self._actors[worker].fetch.remote(n) for worker, n in asked.items()}
        found: dict[str, Any] = {}
        for arrays in self._wait(calls, self._timeout_s, "fetch").values():
            found.update(arrays)
        return found

    def timings(self) -> dict[str, dict[str, float]]:
        """Seconds that each worker spent computing, communicating and waiting so far."""
        return {name: dict(seconds) for name, seconds in self._seconds.items()}

    # ----- ending

    def close(self) -> None:
        """Kill the workers and give their resources back."""
        self._break("it was closed")
        if not ray.is_initialized():
            return
        for actor in self._actors.values():
            ray.kill(actor)
        self._actors.clear()
        if self._group is not None:
            remove_placement_group(self._group)
            self._group = None


def _connect(n_workers: int) -> None:
    """Join the cluster that this job runs on, or start Ray here with room for all workers."""
    if ray.is_initialized():
        return
    if "RAY_ADDRESS" in os.environ:
        ray.init(log_to_driver=False)
        return
    # Logical CPUs: room for this executor and for others that are bound later.
    room = max(os.cpu_count() or 1, 2 * n_workers, 16)
    ray.init(
        num_cpus=room, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR
    )


def _others(actors: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {peer: actor for peer, actor in actors.items() if peer != name}


def _resources(worker: str) -> dict[str, float]:
    return {"CPU": 1.0, "GPU": 1.0} if worker.startswith("gpu") else {"CPU": 1.0}


def _check_devices(workers: Iterable[str]) -> None:
    """Refuse at once what the cluster does not have, instead of waiting for it."""
    wanted = [name for name in workers if name.startswith("gpu")]
    found = ray.cluster_resources().get("GPU", 0)
    if len(wanted) > found:
        raise PlacementError(
            f"{', '.join(wanted)}: the Ray cluster has {found:g} GPUs, expected {len(wanted)}"
        )
