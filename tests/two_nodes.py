"""Two nodes: raylets with addresses of their own, and a driver beside the first.

A process has one Ray, and tests have theirs: all but `There` runs in the process that it starts.
"""

from __future__ import annotations

import importlib
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import raysym as mx
from raysym.runtime.pulse import _family

CPUS = 3  # of each node
OTHER = "127.0.0.2"  # the first node has the address of this machine
_ROOT = Path(__file__).parent.parent
_STORE_NBYTES = 400 << 20
_WAIT_S = 600.0  # for any one thing, on a busy machine
_cluster: list[Any] = []  # of this process
_caches: list[Path] = []


class There:
    """Runs functions of importable modules in a process with two nodes, one at a time."""

    def __init__(self, folder: Path) -> None:
        self._pool = ProcessPoolExecutor(1, get_context("spawn"), _start, (folder,))
        self._pid = self._pool.submit(os.getpid).result(_WAIT_S)

    def __call__(self, what: Callable[..., Any], *args: Any, **options: Any) -> Any:
        try:
            return self._pool.submit(what, *args, **options).result(_WAIT_S)
        except (TimeoutError, KeyboardInterrupt):
            self._kill()  # nothing can be run there any more
            raise

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)  # Ray ends the nodes of a process that is gone

    def close(self) -> None:
        """End the nodes and the process, whatever it does."""
        with suppress(BrokenProcessPool):
            self(_stop)
        self._kill()
        self._pool.shutdown()


def _ray() -> Any:
    return importlib.import_module("ray")


def _start(folder: Path) -> None:
    os.environ["RAY_AUTH_MODE"] = "disabled"
    os.environ["PYTHONPATH"] = os.pathsep.join([str(_ROOT), str(_ROOT / "tests")])
    _caches[:] = folder / "first", folder / "other"
    options = {"head_node_args": {**_node(0), "include_dashboard": False}}
    make = importlib.import_module("ray.cluster_utils").Cluster
    _cluster.append(make(initialize_head=True, **options))
    add_other()
    _ray().init(address=_cluster[0].address, log_to_driver=False)


def _node(number: int) -> dict[str, Any]:
    cache = {"XDG_CACHE_HOME": str(_caches[number])}
    return {"num_cpus": CPUS, "object_store_memory": _STORE_NBYTES, "env_vars": cache}


def _stop() -> None:
    _ray().shutdown()
    _cluster.pop().shutdown()


def add_other() -> None:
    """Start the other node; returns when the cluster has it."""
    _cluster[0].add_node(node_ip_address=OTHER, **_node(1))
    _cluster[0].wait_for_nodes()


def kill_other() -> None:
    """The raylet of the other node is gone at once, with its workers and all that it started."""
    [node] = _cluster[0].worker_nodes
    [raylet] = node.all_processes["raylet"]
    for pid in list(_family(raylet.process.pid)):
        os.kill(pid, signal.SIGKILL)
    _cluster[0].remove_node(node, allow_graceful=False)


def remove_other() -> None:
    """The other node leaves the cluster: its raylet ends, and then what finds it gone."""
    [node] = _cluster[0].worker_nodes
    _cluster[0].remove_node(node)


def hosts() -> dict[str, str]:
    """The address of each living node by its number."""
    return {n["NodeID"]: n["NodeManagerAddress"] for n in _ray().nodes() if n["Alive"]}


def kernels_of_both() -> set[str]:
    """Files of kernels that both nodes have, each on a disk of its own."""
    first, other = ({p.name for p in (c / "raysym" / "kernels").iterdir()} for c in _caches)
    return first & other


@contextmanager
def room(first: int, other: int) -> Iterator[None]:
    """So many CPUs of the nodes are free within the block, the others are taken."""
    util = _ray().util
    free = {host: other if host == OTHER else first for host in hosts().values()}
    # A sliver of what only this node has ties a group to it.
    taken = [{"CPU": CPUS - n, f"node:{h}": 0.001} for h, n in free.items() if n < CPUS]
    groups = [util.placement_group([bundle]) for bundle in taken]
    try:
        assert all(group.wait(_WAIT_S) for group in groups)
        yield
    finally:
        for group in groups:
            util.remove_placement_group(group)


def where(executor: mx.Executor) -> dict[str, str]:
    """The address of the node of each worker, and of the driver."""
    address_of = hosts()
    nodes = executor._session.runtime.crew.links.nodes
    return {name: address_of[node] for name, node in nodes.items()}
