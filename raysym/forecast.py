"""What a cut would cost: placement, Gantt, step time and memory, without arrays and without Ray."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from typing import Any, NamedTuple

import scheduler
from raysym.binding import is_plain
from raysym.context import Context
from raysym.errors import in_words
from raysym.graph import Entry, Graph, Node, node_names, split_variables
from raysym.passes.infer import infer
from raysym.planning.check import check
from raysym.planning.compile import compile_plan
from raysym.planning.footprint import Footprint, footprints
from raysym.planning.lean import Budget, Measure
from raysym.planning.orders import Schedule
from raysym.planning.partition import place_by_scheduler
from raysym.planning.pipeline import STEP, Pipeline, with_their_devices
from raysym.planning.plan import Plan
from raysym.planning.predict import Prediction, predict
from raysym.planning.step import Bound
from raysym.planning.update import Optimizer
from raysym.runtime.engines import chosen, engines_for
from raysym.simple_bind import simple_types
from raysym.symbol import Symbol

WORKER = "cpu:0"


class Forecast(NamedTuple):
    """The plan of a symbol on a cluster, and what it should cost.

    ``cluster`` has the devices of all replicas, ``schedule`` places the nodes of the first.
    """

    plan: Plan
    schedule: scheduler.Schedule
    prediction: Prediction
    peak_nbytes: dict[str, int]
    cluster: scheduler.Cluster

    def __str__(self) -> str:
        chart = ["", *self.prediction.chart()] if STEP in self.prediction.phases else []
        return "\n".join([*self._cut(), "", str(self.schedule), *chart, "", *self._costs()])

    def _cut(self) -> list[str]:
        lines, placed = ["cut"], self.schedule.placement
        for device in self.schedule.cluster.devices:
            names = [task for task, name in placed.items() if name == device.name]
            lines.append(f"  {device.name}: {len(names)} nodes{_ends(names)}")
        more = [worker for worker in self.plan.workers if worker not in placed.values()]
        return [*lines, f"  {in_words(more)}: replicas"] if more else lines

    def _costs(self) -> list[str]:
        phases = ", ".join(f"{name} {_ms(s)}" for name, s in self.prediction.phases.items())
        lines = [f"predicted step time {_ms(self.prediction.total_s)} ({phases})"]
        for name, nbytes in self.peak_nbytes.items():
            limit = self.cluster.devices[self.cluster.index[name]].memory
            lines.append(f"  {name}: peak memory {_mb(nbytes)} of {_mb(limit)}")
        value, bound = self.schedule.value, self.schedule.lower_bound
        lines.append(
            f"{self.schedule.objective}: {_ms(value)}, no schedule beats {_ms(bound)} "
            f"({self.schedule.bound.reason}), gap {self.schedule.gap:.1%}"
        )
        return lines


def forecast(
    symbol: Symbol,
    shapes: Mapping[str, tuple[int, ...]],
    cluster: scheduler.Cluster,
    *,
    policy: str | Callable[..., Any] = "auto",
    objective: str = "load",
    is_train: bool = True,
    fixed: Container[str] = (),
    group2ctx: Mapping[str, Context] | None = None,
    type_dict: Mapping[str, Any] | None = None,
    micro_batches: int = 1,
    schedule: Schedule = "1f1b",
    batch_axes: Mapping[str, int | None] | None = None,
    data_parallel: int = 1,
    optimizer: Optimizer | None = None,
    kernels: str = "reference",
    memory: int | str | None = None,
) -> Forecast:
    """Plan `symbol` for input `shapes` on `cluster`; MXNetError as bind would raise.

    `policy` and `objective` as in `scheduler.place`. With `is_train` every argument but those
    `fixed` gets a gradient. All other options as for bind (see `binding.Where`). With one that only
    whole steps have, such as `micro_batches`, `data_parallel` or `optimizer`, the plan is that of
    `Executor.step`, gradients brought together and parameters updated. Replicas that `cluster` has
    no devices for are on devices like those of the first.
    """
    bound = _bound(symbol.graph, shapes, is_train, type_dict, fixed)
    placement, placed = place_by_scheduler(bound, cluster, policy, group2ctx or {}, objective)
    pipeline = Pipeline(micro_batches, schedule, batch_axes, data_parallel, optimizer, cluster)
    is_step = pipeline.slices > 1 or pipeline.is_chosen
    mode = "inference" if not is_train else STEP if is_step else "training"
    workers = sorted(set(placement.values()))
    measure = _measure(kernels, bound, workers)
    budget = None if memory is None else Budget(memory, measure)
    everywhere = with_their_devices(cluster, workers, pipeline)
    limits = {device.name: device.memory for device in everywhere.devices}
    plan = compile_plan(bound, placement, mode, limits, pipeline=pipeline, budget=budget)[1]
    return Forecast(plan, placed, predict(plan, everywhere), check(plan), everywhere)


def planned_memory(
    symbol: Symbol,
    shapes: Mapping[str, tuple[int, ...]],
    *,
    is_train: bool = True,
    fixed: Container[str] = (),
    kernels: str = "reference",
    memory: int | str | None = None,
    type_dict: Mapping[str, Any] | None = None,
) -> Footprint:
    """Bytes that `symbol` would take on one CPU: nothing is allocated, linked or compiled.

    With `is_train` every argument but those `fixed` gets a gradient. `kernels` and `memory` as for
    bind.
    """
    bound = _bound(symbol.graph, shapes, is_train, type_dict, fixed)
    measure = _measure(kernels, bound, [WORKER])
    budget = None if memory is None else Budget(memory, measure)
    placement = dict.fromkeys(bound.graph.nodes, WORKER)
    mode = "training" if is_train else "inference"
    plan = compile_plan(bound, placement, mode, budget=budget)[1]
    states = {bound.names[node] for node in split_variables(bound.graph)[1]}
    return footprints([plan], states, [measure(plan)])[WORKER]


def _measure(kernels: str, bound: Bound, workers: list[str]) -> Measure:
    return engines_for(chosen(kernels, is_plain(bound, workers))).work_bytes


def _bound(
    graph: Graph,
    shapes: Mapping[str, tuple[int, ...]],
    is_train: bool,
    type_dict: Mapping[str, Any] | None,
    fixed: Container[str],
) -> Bound:
    args, aux = split_variables(graph)
    known = simple_types(graph, args, shapes, type_dict)
    trained = [node for node in _floats(args, known) if is_train and node.name not in fixed]
    asked: dict[Entry, str] = dict.fromkeys(map(Entry, trained), "write")
    known = {Entry(node): known[Entry(node)] for node in [*args, *aux]}
    return Bound(graph, node_names(graph), known, infer(graph, known), asked)


def _floats(nodes: list[Node], known: Mapping[Entry, Any]) -> list[Node]:
    return [node for node in nodes if known[Entry(node)].dtype.startswith("float")]


def _ends(names: list[str]) -> str:
    if len(names) < 3:
        return f" ({', '.join(names)})" if names else ""
    return f" ({names[0]} .. {names[-1]})"


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.4g} ms"


def _mb(nbytes: float) -> str:
    return "unlimited" if nbytes == float("inf") else f"{nbytes / 2**20:.4g} MB"
