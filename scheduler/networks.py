"""Made networks: wide cells with branches, skips, classes and backward nodes, as split instances.

For tests and benchmarks: like the public instances in kind, larger where exact search is hopeless.
"""

from __future__ import annotations

import random
from typing import NamedTuple

from .cluster import Cluster, Device, Link
from .graph import Task, TaskGraph
from .instances import Instance


class Shape(NamedTuple):
    """`cells` in a row, each of `width` branches of up to `depth` nodes that are joined again.

    A cell reads the one before it and, often, the one before that; `crossing` is the chance that a
    node also reads another branch. `training` gives every node a backward node.
    """

    cells: int
    width: int
    depth: int
    crossing: float = 0.1
    training: bool = False


def made_instance(shape: Shape, accelerators: int, slack: float = 1.3, seed: int = 0) -> Instance:
    """The instance of one seed; `slack` times an equal share of the sizes fits an accelerator."""
    rng = random.Random(seed)
    inputs = _forward(shape, rng)
    n = len(inputs)
    classes = _classes(inputs, rng)
    sizes = [rng.lognormvariate(0.0, 1.0) for _ in range(n)]
    seconds = [rng.lognormvariate(0.0, 0.8) * 10 / n for _ in range(n)]
    costs = [rng.lognormvariate(0.0, 0.8) * 5 / n for _ in range(n)]
    tasks = [Task(str(i), memory=sizes[i], together=f"class {classes[i]}") for i in range(n)]
    edges = [(str(p), str(i), costs[p]) for i, ps in enumerate(inputs) for p in ps]
    profile = {str(i): {"fpga": seconds[i], "cpu": 30 * seconds[i]} for i in range(n)}
    if shape.training:
        for i in reversed(range(n)):
            back = f"{i}b"
            tasks.append(Task(back, memory=sizes[i], together=str(i)))
            profile[back] = {kind: 2 * spent for kind, spent in profile[str(i)].items()}
            edges.append((str(i), back, costs[i]))
            edges += [(back, f"{p}b", costs[i]) for p in inputs[i]]
    room = slack * sum(task.memory for task in tasks) / accelerators
    # a backward node comes after the backward nodes that it reads
    order = sorted(tasks, key=_place)
    return Instance(TaskGraph(tuple(order), tuple(edges)), _cluster(accelerators, room, profile))


def _place(task: Task) -> tuple[bool, int]:
    back = task.id.endswith("b")
    return back, -int(task.id[:-1]) if back else int(task.id)


def _forward(shape: Shape, rng: random.Random) -> list[list[int]]:
    """Inputs of every forward node, in topological order."""
    inputs: list[list[int]] = [[]]
    before, last = 0, 0
    for _ in range(shape.cells):
        ends: list[int] = []
        for _ in range(shape.width):
            ends.append(_branch(shape, rng, inputs, last, ends))
        skip = [before] if before != last and rng.random() < 0.7 else []
        before = last
        inputs.append([*ends, *skip])
        last = len(inputs) - 1
    return inputs


def _branch(
    shape: Shape, rng: random.Random, inputs: list[list[int]], last: int, ends: list[int]
) -> int:
    """Append a chain that starts at `last`; the number of its last node."""
    at = last
    for _ in range(rng.randint(1, shape.depth)):
        other = [rng.choice(ends)] if ends and rng.random() < shape.crossing else []
        inputs.append([at, *other])
        at = len(inputs) - 1
    return at


def _classes(inputs: list[list[int]], rng: random.Random) -> list[int]:
    """A class per node; now and then a node shares that of the only node it reads."""
    classes: list[int] = []
    for i, sources in enumerate(inputs):
        shares = len(sources) == 1 and rng.random() < 0.2
        classes.append(classes[sources[0]] if shares else i)
    return classes


def _cluster(accelerators: int, room: float, profile: dict[str, dict[str, float]]) -> Cluster:
    devices = [Device(f"fpga:{d}", "fpga", memory=room) for d in range(accelerators)]
    devices.append(Device("cpu:0", pays_transfers=False))
    return Cluster(tuple(devices), (Link(bytes_per_s=1.0, latency_s=0.0),), profile)
