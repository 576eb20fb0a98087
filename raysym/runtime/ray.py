"""The one door to ray: worker processes as actors in a placement group, and shared memory.

Ray places, starts, watches and ends the workers and owns the shared memory; steps travel over the
channels of `transport`. Nothing is restarted or retried by Ray: a fresh process would have lost
its arrays.
"""

from __future__ import annotations

import ctypes
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import ray
from ray import cloudpickle
from ray.exceptions import (
    ActorDiedError,
    ActorHandleNotFoundError,
    GetTimeoutError,
    RayActorError,
    RayError,
)
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import (
    NodeAffinitySchedulingStrategy,
    PlacementGroupSchedulingStrategy,
)

from raysym.context import Context, gpu, of_worker
from raysym.errors import PlacementError, StallError, WorkerError
from raysym.runtime.crew import START_S
from raysym.runtime.engines import Engines
from raysym.runtime.host import Health, Host, Site
from raysym.runtime.interpreter import INTERPRETED
from raysym.runtime.links import Wanted
from raysym.runtime.parcel import modules_in
from raysym.runtime.protocol import DEADLINE_S
from raysym.runtime.pulse import read_pulse
from raysym.runtime.resident import ResidentRuntime

ROOM_S = 60.0  # how long the cluster may take to find room for the workers
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")  # in Ray's messages
_LIVES = 64  # peers that may watch a worker's life by an open call


class ObjectStore:
    """Blocks of shared memory that are Ray objects.

    Every process of a node maps the store for reading and writing. An object is immutable by
    convention only; these are private to one run, and channels say whose turn it is to write.
    """

    def allocate(self, nbytes: int) -> tuple[Any, Any]:
        """A block of zeros: its reference, boxed so that calls pass it on, and its bytes."""
        handle = [ray.put(np.zeros(nbytes, np.uint8))]
        return handle, self.open(handle)

    def open(self, handle: Any) -> Any:
        """The bytes of a block, writable."""
        view = ray.get(handle[0], timeout=ROOM_S)
        block = (ctypes.c_uint8 * view.nbytes).from_address(view.__array_interface__["data"][0])
        block._object = view  # the object stays where it is while somebody holds its view
        return np.frombuffer(block, np.uint8)


def here() -> Site:
    """The node of this process, its address, and its object store."""
    node = ray.get_runtime_context().get_node_id()
    return Site(node, ray.util.get_node_ip_address(), ObjectStore())


class WorkerActor(Host):
    """A worker in an actor: the loop, messages by call and the watch have threads of their own."""

    def __init__(
        self, name: str, threads: int, secret: bytes, engines: Engines, deadline_s: float
    ) -> None:
        super().__init__(name, threads, secret, here, engines, deadline_s, _own_context(name))

    def join_by_mail(self, name: str, peers: Mapping[str, Any]) -> None:
        """Exchange arrays with `peers`, who are actors, by calls of their `deliver`."""
        for peer, actor in peers.items():
            channel = self.add_mail(peer, _post_to(actor, name))
            actor.alive.remote().future().add_done_callback(lambda _, c=channel: c.lose())

    @ray.method(concurrency_group="loop")
    def serve(self) -> str:
        """Obey the driver until it closes its channel."""
        return super().serve()

    @ray.method(concurrency_group="mail")
    def deliver(self, source: str, what: Any, array: Any) -> None:
        """A message by actor call."""
        super().deliver(source, what, array)

    @ray.method(concurrency_group="watch")
    def health(self) -> Health:
        """What the loop is doing right now."""
        return super().health()

    @ray.method(concurrency_group="life")
    def alive(self) -> None:
        """Returns when this worker lets go."""
        super().alive()


def _own_context(worker: str) -> Context:
    """The device of a worker as CUDA counts them in this process."""
    ctx = of_worker(worker)
    if ctx.device_type != "gpu":
        return ctx
    given = ray.get_runtime_context().get_accelerator_ids()["GPU"][0]
    return gpu(cuda_number(given, os.environ.get("CUDA_VISIBLE_DEVICES", "")))


def cuda_number(given: str, visible: str) -> int:
    """The number of the GPU that Ray has given: Ray usually hides all others from CUDA."""
    seen = visible.split(",")
    return seen.index(given) if given in seen else int(given)


def _post_to(actor: Any, name: str) -> Callable[[Any, Any], None]:
    def post(what: Any, array: Any) -> None:
        actor.deliver.remote(name, what, array)

    return post


_Actor: Any = ray.remote(
    max_restarts=0,
    max_task_retries=0,
    concurrency_groups={"loop": 1, "mail": 1, "watch": 1, "life": _LIVES},
)(WorkerActor)
_read_pulse: Any = ray.remote(num_cpus=0, max_retries=0)(read_pulse)


@contextmanager
def _by_value(names: Iterable[str]) -> Iterator[None]:
    """Pickle classes of these modules as code: workers may not have the user's modules."""
    known = cloudpickle.list_registry_pickle_by_value()
    modules = [sys.modules[name] for name in names if name not in known]
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)


class RayFleet:
    """One actor per worker; see `fleet.Fleet`. What fails to start leaves nothing behind."""

    def __init__(
        self,
        workers: tuple[str, ...],
        threads: int,
        secret: bytes,
        engines: Engines = INTERPRETED,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        _connect(len(workers) * threads)
        _check_devices(workers)
        self.names = workers
        self.actors: dict[str, Any] = {}
        bundles = [_resources(name, threads) for name in workers]
        self._group: Any = placement_group(bundles, strategy="PACK")
        try:
            if not self._group.wait(ROOM_S):
                raise _no_room(workers, bundles)
            for i, name in enumerate(workers):
                self.actors[name] = self._actor(i, name, threads, secret, engines, deadline_s)
            self.site = here()
            self._processes = self.call("process", dict.fromkeys(workers, ()), START_S)
        except BaseException:
            self.close()
            raise

    def _actor(self, bundle: int, name: str, threads: int, *options: Any) -> Any:
        need = _resources(name, threads)
        where = PlacementGroupSchedulingStrategy(self._group, placement_group_bundle_index=bundle)
        return _Actor.options(
            num_cpus=need["CPU"], num_gpus=need.get("GPU", 0), scheduling_strategy=where
        ).remote(name, threads, *options)

    def call(self, method: str, args: Mapping[str, tuple[Any, ...]], timeout_s: float) -> Any:
        """Call a method on the workers named; results by worker.

        WorkerError names a dead worker, StallError one that does not answer in time.
        """
        return self.finish(self.start(method, args), timeout_s)

    def start(self, method: str, args: Mapping[str, tuple[Any, ...]]) -> Any:
        """Begin a call."""
        with _by_value({m for call in args.values() for a in call for m in modules_in(a)}):
            return method, {n: getattr(self.actors[n], method).remote(*a) for n, a in args.items()}

    def answers(self, calls: Any) -> dict[str, Any]:
        """The results that are here, None for a process that could not be looked at."""
        _, refs = calls
        ready = ray.wait([*refs.values()], num_returns=len(refs), timeout=0)[0] if refs else []
        found = {}
        for name in [name for name, ref in refs.items() if ref in ready]:
            try:
                found[name] = ray.get(refs.pop(name))
            except RayActorError as error:
                raise _died(name, error) from None
            except RayError:
                found[name] = None
        return found

    def observe(self, names: Iterable[str]) -> Any:
        """Begin to take the pulse of workers: by a task on each one's node."""
        refs = {}
        for name in names:
            node, pid = self._processes[name]
            there = NodeAffinitySchedulingStrategy(node, soft=False)
            refs[name] = _read_pulse.options(scheduling_strategy=there).remote(pid)
        return "observe", refs

    def finish(self, calls: Any, timeout_s: float) -> Any:
        """The results of a call that was begun; errors as for `call`."""
        method, refs = calls
        deadline, results = time.monotonic() + timeout_s, {}
        for name, ref in refs.items():
            try:
                results[name] = ray.get(ref, timeout=max(0.0, deadline - time.monotonic()))
            except GetTimeoutError:
                why = f"{method}: no answer within {timeout_s:g} s from {name}"
                raise StallError(why) from None
            except RayActorError as error:
                raise _died(name, error) from None
        return results

    def join_by_mail(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Let the pairs of workers exchange arrays by actor calls."""
        peers: dict[str, dict[str, Any]] = {}
        for one, other in pairs:
            peers.setdefault(one, {})[other] = self.actors[other]
        self.call("join_by_mail", {name: (name, found) for name, found in peers.items()}, START_S)

    def room(self) -> dict[str, float]:
        """Bytes of object store by node."""
        nodes = [node for node in ray.nodes() if node["Alive"]]
        return {n["NodeID"]: n["Resources"].get("object_store_memory", 0.0) for n in nodes}

    def close(self) -> None:
        """Kill the workers and give their resources back."""
        if not ray.is_initialized():
            return
        try:
            for actor in self.actors.values():
                ray.kill(actor)
        except ActorHandleNotFoundError:  # of an earlier Ray in this process: gone with it
            return
        self.actors.clear()
        remove_placement_group(self._group)


def _died(name: str, error: Exception) -> WorkerError:
    lines = _COLOUR.sub("", str(error)).strip().splitlines()
    if isinstance(error, ActorDiedError) and "creation task" in lines[0]:  # its cause comes last
        return WorkerError(f"worker {name} could not be made: {lines[-1].strip()}")
    return WorkerError(f"worker {name} died: {lines[0]}")


class RayRuntime(ResidentRuntime):
    """The distributed runtime on Ray actors."""

    def __init__(
        self,
        threads: int = 1,
        transport: Wanted = None,
        engines: Engines = INTERPRETED,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        super().__init__(RayFleet, threads, transport, engines, deadline_s)

    @property
    def _actors(self) -> Mapping[str, Any]:
        return {} if self.crew.fleet is None else self.crew.fleet.actors  # type: ignore[attr-defined]


def _connect(n_cpus: int) -> None:
    """Join the cluster that this job runs on, or start Ray here with room for all workers."""
    if ray.is_initialized():
        return
    if "RAY_ADDRESS" in os.environ:
        ray.init(log_to_driver=False)
        return
    # Logical CPUs: room for this executor and for others that are bound later.
    room = max(os.cpu_count() or 1, 2 * n_cpus, 16)
    ray.init(
        num_cpus=room, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR
    )


def _resources(worker: str, threads: int) -> dict[str, float]:
    """A processor for each thread that runs kernels."""
    need = {"CPU": float(threads)}
    return {**need, "GPU": 1.0} if worker.startswith("gpu") else need


def _no_room(workers: Iterable[str], bundles: list[dict[str, float]]) -> PlacementError:
    total = {key: sum(b.get(key, 0.0) for b in bundles) for key in ("CPU", "GPU")}
    free = ray.available_resources()
    return PlacementError(
        f"the cluster cannot hold the workers {', '.join(workers)}: need {total}, "
        f"free are {free.get('CPU', 0)} CPU, {free.get('GPU', 0)} GPU"
    )


def _check_devices(workers: Iterable[str]) -> None:
    """Refuse at once what the cluster does not have, instead of waiting for it."""
    wanted = [name for name in workers if name.startswith("gpu")]
    found = ray.cluster_resources().get("GPU", 0)
    if len(wanted) > found:
        raise PlacementError(
            f"{', '.join(wanted)}: the Ray cluster has {found:g} GPUs, expected {len(wanted)}"
        )
