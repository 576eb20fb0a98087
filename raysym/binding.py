"""What bind, simple_bind and reshape share: from arrays and a place to run, make the Executor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import scheduler
from raysym.context import Context, cpu, of_worker
from raysym.errors import MXNetError, in_words
from raysym.executor import Executor
from raysym.graph import Entry, Graph, Node, node_names, split_variables
from raysym.kernels.room import MOST_BYTES
from raysym.nd.creation import zeros
from raysym.ndarray import NDArray
from raysym.passes.infer import infer
from raysym.planning.lean import Budget
from raysym.planning.orders import Schedule
from raysym.planning.partition import place_by_group, place_by_scheduler
from raysym.planning.pipeline import Pipeline, with_their_devices
from raysym.planning.step import Bound
from raysym.planning.update import Optimizer
from raysym.runtime import open_runtime
from raysym.runtime.engines import chosen, engines_for
from raysym.runtime.protocol import DEADLINE_S
from raysym.session import Session
from raysym.types import TensorType
from scheduler.collector import collection_paused

REQUESTS = ("null", "write", "add")


class Where(NamedTuple):
    """Where a bound graph runs: MXNet's contexts, or a cluster with a policy, and the runtime.

    ``cluster``: a number of CPU workers, a `scheduler.Cluster`, or the path of its TOML file.
    ``policy`` and ``objective`` ("load": throughput, "makespan": latency) as in `scheduler.place`.
    ``runtime``: "local", "ray" or a Runtime; by default "ray" when a cluster is given.
    ``threads``: how many threads one worker's kernels use, and CPUs that it takes of a Ray cluster;
    with reference kernels the bits depend on it, with generated ones they do not.
    ``transport``: how workers exchange arrays, "object_store", "socket" or "object_ref"; for some
    pairs only as {(cpu(0), cpu(1)): "socket"}; chosen by where they are if not given.
    ``micro_batches``: cut the batch into so many parts and run them through the workers in the
    order of ``schedule`` (see `planning.pipeline.Pipeline`). The batch axis is 0 for "...data" and
    "...label", or where the ``N`` is in an argument's ``__layout__``; ``batch_axes`` changes it by
    name, adds arguments, and with None takes one out.
    ``data_parallel``: so many groups of workers, each with its share of the batch. ``optimizer``:
    what `Executor.step` updates parameters with, as ("sgd_update", {"lr": 0.1}).
    ``kernels``: "reference", or "generated" for machine code made for this graph (on CPUs; needs
    llvmlite where the workers are), or "auto": generated if all is float32 on CPUs and llvmlite is
    installed here. The bits depend on it. ``compiling``: "before" the first step, or in the
    "background" while first steps run on reference kernels. ``cache_bytes``: how much machine code
    may stay on disk, in the user's cache folder; what was used longest ago goes first.
    ``memory``: bytes for values that come and go on a worker, or "minimal": what forward leaves for
    backward is dropped and made again until that is enough. No bit depends on it.
    ``deadline_s``: how many seconds a step on Ray may take before it ends in a `StallError` that
    names who computes what. Workers that wait for each other, or that are stopped, are found out
    in 3 to 5 s whatever it is; in this process nothing is ended.
    """

    ctx: Context
    group2ctx: Mapping[str, Context]
    cluster: Any = None
    policy: str | Callable[..., Any] = "contiguous"
    objective: str = "load"
    runtime: Any = None
    threads: int = 1
    transport: str | Mapping[tuple[Context, Context], str] | None = None
    micro_batches: int = 1
    schedule: Schedule = "1f1b"
    batch_axes: Mapping[str, int | None] | None = None
    data_parallel: int = 1
    optimizer: Optimizer | None = None
    kernels: str = "reference"
    compiling: str = "before"
    cache_bytes: int = MOST_BYTES
    memory: int | str | None = None
    deadline_s: float = DEADLINE_S

    @property
    def wanted_runtime(self) -> Any:
        """`runtime`, or what it is by default."""
        return self.runtime or ("ray" if self.cluster else "local")

    @property
    def is_remote(self) -> bool:
        """True when workers are other processes."""
        return bool(self.wanted_runtime != "local")


class Arrays(NamedTuple):
    """The arrays of a bound graph, in the order of its lists."""

    args: list[NDArray]
    grads: list[NDArray | None] | None  # None: no gradients were asked for at all
    aux: list[NDArray]

    @property
    def each_grad(self) -> list[NDArray | None]:
        """A gradient array or None for every argument."""
        return [None] * len(self.args) if self.grads is None else self.grads


def where(ctx: Any, group2ctx: Mapping[str, Context] | None, options: Mapping[str, Any]) -> Where:
    """Collect the placement arguments of bind; TypeError for what is no Context."""
    groups = dict(group2ctx or {})
    for name, value in (("ctx", ctx), *groups.items()):
        if not isinstance(value, Context):
            raise TypeError(f"bind: Context type error: {name}: got {value!r}, expected a Context")
    unknown = sorted(set(options) - set(Where._fields))
    if unknown:
        raise TypeError(f"bind: unknown argument {unknown[0]}: expected {in_words(Where._fields)}")
    return Where(ctx, groups, **options)


@collection_paused()
def make_executor(
    symbol: Any, arrays: Arrays, requests: Sequence[str], place: Where, rebind: Any
) -> Executor:
    """Fix types and placement, open the runtime and compile the first mode."""
    graph: Graph = symbol.graph
    arg_nodes, aux_nodes = split_variables(graph)
    bound = _bound(graph, arg_nodes, aux_nodes, arrays, requests)
    array_of = dict(zip([*arg_nodes, *aux_nodes], [*arrays.args, *arrays.aux], strict=True))
    pipeline = _pipeline(place)
    placement, schedule, memory = _place(bound, place, array_of, pipeline)
    outputs = _outputs(bound, place, placement, array_of)
    homes = _homes(bound, arg_nodes, aux_nodes, arrays, outputs)
    workers = sorted(set(placement.values()))
    _check_contexts(homes, place, workers)
    kernels = chosen(place.kernels, is_plain(bound, workers))
    engines = engines_for(kernels, place.compiling, place.threads, place.cache_bytes)
    runtime = open_runtime(
        place.wanted_runtime, place.threads, place.transport, engines, place.deadline_s
    )
    budget = None if place.memory is None else Budget(place.memory, runtime.work_bytes)
    session = Session(bound, placement, runtime, homes, memory, pipeline=pipeline, budget=budget)
    try:
        if pipeline.is_chosen:
            session.plan_step()
        session.mode("training")
        session.admit_step()
    except BaseException:
        runtime.close()
        raise
    return Executor(
        symbol, session, rebind, arrays.args, arrays.grads, arrays.aux, outputs, schedule
    )


def is_plain(bound: Bound, workers: Sequence[str]) -> bool:
    """True when everything is float32 on CPUs."""
    on_cpus = all(of_worker(name).device_type == "cpu" for name in workers)
    return on_cpus and all(kind.dtype == "float32" for kind in bound.types.values())


def type_of(array: NDArray) -> TensorType:
    """Shape and dtype of an array."""
    return TensorType(tuple(array.shape), array.data.dtype.name)


def _bound(
    graph: Graph,
    arg_nodes: Sequence[Node],
    aux_nodes: Sequence[Node],
    arrays: Arrays,
    requests: Sequence[str],
) -> Bound:
    known = {
        Entry(node): type_of(array)
        for node, array in zip([*arg_nodes, *aux_nodes], [*arrays.args, *arrays.aux], strict=True)
    }
    asked = {
        Entry(node): request
        for node, request, grad in zip(arg_nodes, requests, arrays.each_grad, strict=True)
        if request != "null" and grad is not None
    }
    return Bound(graph, node_names(graph), known, infer(graph, known), asked)


def _pipeline(place: Where) -> Pipeline:
    return Pipeline(
        place.micro_batches,
        place.schedule,
        place.batch_axes,
        place.data_parallel,
        place.optimizer,
        None if place.cluster is None else _cluster(place.cluster),
    )


def _place(
    bound: Bound, place: Where, array_of: Mapping[Node, NDArray], pipeline: Pipeline
) -> tuple[dict[Node, str], scheduler.Schedule | None, dict[str, float]]:
    cluster = pipeline.cluster
    if cluster is None:
        # On this machine a variable lives where its array is; a remote one moves to its readers.
        where_of = {} if place.is_remote else {n: a.context for n, a in array_of.items()}
        return place_by_group(bound.graph, place.group2ctx, place.ctx, where_of), None, {}
    placement, schedule = place_by_scheduler(
        bound, cluster, place.policy, place.group2ctx, place.objective
    )
    everywhere = with_their_devices(cluster, set(placement.values()), pipeline)
    return placement, schedule, {device.name: device.memory for device in everywhere.devices}


def _cluster(given: Any) -> scheduler.Cluster:
    if isinstance(given, scheduler.Cluster):
        return given
    if isinstance(given, int) and not isinstance(given, bool) and given > 0:
        return scheduler.Cluster.uniform(given)
    if isinstance(given, (str, Path)):
        return scheduler.Cluster.load(given)
    raise TypeError(
        f"bind: cluster: got {given!r}, expected a number of workers, a Cluster or a TOML file"
    )


def _outputs(
    bound: Bound,
    place: Where,
    placement: Mapping[Node, str],
    array_of: Mapping[Node, NDArray],
) -> list[NDArray]:
    """One array per head; a head that is a bound variable is that variable's array."""
    made = []
    for entry in bound.graph.outputs:
        kind = bound.types[entry]
        ctx = _output_context(place, placement[entry.node])
        own = array_of.get(entry.node)
        made.append(zeros(kind.shape, ctx, kind.dtype) if own is None else own)
    return made


def _output_context(place: Where, worker: str) -> Context:
    if place.is_remote:  # the driver's side of a remote array is in host memory
        return cpu()
    return of_worker(worker) if place.cluster is None else place.ctx


def _homes(
    bound: Bound,
    arg_nodes: Sequence[Node],
    aux_nodes: Sequence[Node],
    arrays: Arrays,
    outputs: Sequence[NDArray],
) -> dict[str, NDArray]:
    homes: dict[str, NDArray] = {}
    for node, array, grad in zip(arg_nodes, arrays.args, arrays.each_grad, strict=True):
        homes[bound.names[node]] = array
        if grad is not None:
            _check_grad(node, array, grad)
            homes[f"grad:{bound.names[node]}"] = grad
    homes.update(
        {bound.names[node]: array for node, array in zip(aux_nodes, arrays.aux, strict=True)}
    )
    homes.update({f"output:{i}": array for i, array in enumerate(outputs)})
    return homes


def _check_grad(node: Node, array: NDArray, grad: NDArray) -> None:
    if type_of(grad) != type_of(array):
        raise MXNetError(
            f"bind: gradient array of '{node.name}': got {type_of(grad)}, expected {type_of(array)}"
        )
    here, there = grad.context, array.context
    if here != there and "gpu" in (here.device_type, there.device_type):
        raise MXNetError(f"bind: gradient array of '{node.name}': got {here}, expected {there}")


def _check_contexts(homes: Mapping[str, NDArray], place: Where, workers: Sequence[str]) -> None:
    """Without groups or a cluster, all arrays belong to the one context that was given."""
    if place.group2ctx or place.is_remote or place.cluster is not None or len(workers) != 1:
        return
    for name, array in homes.items():
        if not name.startswith("output:") and array.context != place.ctx:
            raise MXNetError(f"bind: '{name}' is on {array.context}, expected {place.ctx}")
