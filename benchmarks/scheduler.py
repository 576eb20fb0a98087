"""The scheduler against its peers and its own promises: quality beside time, on one core.

    OMP_NUM_THREADS=1 python benchmarks/scheduler.py [--graphs FOLDER] [--quick] [--part NAME]

Needs numpy; with pymetis the cuts stand beside METIS's, with scipy beside a spectral bound. Writes
benchmarks/results/scheduler.txt and .json. Times are CPU seconds of this process.
"""

import argparse
import importlib
import json
import platform
import sys
import time
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np

# This file is named like the package, which lies one folder up. Where a neighbour asked for the
# package and found this file first, the package takes its place.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
if __name__ == "scheduler":
    del sys.modules["scheduler"]
    importlib.import_module("scheduler")
import scheduler as s
from scheduler.networks import Shape, made_instance
from scheduler.partitioning import partition
from scheduler.pipeline import NAMED, Stages, one_f_one_b, run, search
from scheduler.policies.intervals import intervals
from scheduler.programs import from_pipeline
from scheduler.simulate import simulate

try:
    import pymetis
except ImportError:
    pymetis = None
try:
    from scipy.sparse import coo_array, csgraph
    from scipy.sparse.linalg import eigsh
except ImportError:
    eigsh = None

RESULTS = Path(__file__).parent / "results"
EXPERTS = ("bert24_inference", "bert24_training", "gnmt_inference", "gnmt_training")
INSTANCES = (*EXPERTS, "resnet50_inference", "resnet50_training")
# cells, width, depth, crossings, backward nodes; accelerators (see scheduler/networks.py)
LARGE = {
    "inception": (Shape(12, 6, 6), 6),
    "training, small": (Shape(8, 5, 6, training=True), 6),
    "nas": (Shape(25, 8, 5, 0.3), 8),
    "wide": (Shape(12, 24, 6, 0.05), 8),
    "two cells": (Shape(2, 60, 10, 0.1), 5),
    "training": (Shape(30, 10, 5, training=True), 8),
    "deep": (Shape(80, 10, 6), 8),
}


def timed(call, *args, **kwargs):
    """Result and CPU seconds."""
    begin = time.process_time()
    result = call(*args, **kwargs)
    return result, time.process_time() - begin


def grid(n):
    """A square grid whose edges go right and down."""
    side = int(n**0.5)
    at = np.arange(side * side).reshape(side, side)
    src = np.concatenate([at[:, :-1].ravel(), at[:-1].ravel()])
    dst = np.concatenate([at[:, 1:].ravel(), at[1:].ravel()])
    return side * side, src, dst


def windowed(n, span):
    """Two inputs per node, drawn from the `span` nodes before it."""
    rng = np.random.default_rng(0)
    dst = np.repeat(np.arange(1, n), 2)
    src = dst - 1 - (rng.random(dst.size) * np.minimum(dst, span)).astype(np.int64)
    keys = np.unique(src * n + dst)
    return n, keys // n, keys % n


def layered(n, width):
    """Layers of `width` nodes; two random inputs from the layer before."""
    rng = np.random.default_rng(0)
    dst = np.repeat(np.arange(width, n), 2)
    src = (dst // width - 1) * width + rng.integers(0, width, dst.size)
    keys = np.unique(src * n + dst)
    return n, keys // n, keys % n


def random_topological_cut(n, src, dst, k):
    """Edges cut by k equal pieces of a random topological order (a random ready node goes next)."""
    starts = np.concatenate([[0], np.cumsum(np.bincount(src, minlength=n))]).tolist()
    targets = dst[np.argsort(src, kind="stable")].tolist()
    waiting = np.bincount(dst, minlength=n).tolist()
    ready = [v for v in range(n) if not waiting[v]]
    draws = np.random.default_rng(1).random(n).tolist()
    part = np.empty(n, dtype=np.int64)
    for place in range(n):
        pick = int(draws[place] * len(ready))
        ready[pick], ready[-1] = ready[-1], ready[pick]
        v = ready.pop()
        part[v] = place * k // n
        for w in targets[starts[v] : starts[v + 1]]:
            waiting[w] -= 1
            if not waiting[w]:
                ready.append(w)
    return int((part[src] != part[dst]).sum())


def metis_cut(n, src, dst, k):
    """Cut and CPU seconds of METIS on the undirected graph (it may make cycles)."""
    if pymetis is None:
        return None, None
    ends, others = np.concatenate([src, dst]), np.concatenate([dst, src])
    starts = np.concatenate([[0], np.cumsum(np.bincount(ends, minlength=n))])
    others = others[np.argsort(ends, kind="stable")]
    adjacency = pymetis.CSRAdjacency(starts, others)
    (cut, _), seconds = timed(pymetis.part_graph, k, adjacency)
    return cut, seconds


def spectral_bound(n, src, dst, k, slack=0.03):
    """Donath and Hoffman 1973: half the smallest Laplacian eigenvalues times the part sizes."""
    if eigsh is None or n > 20_000:
        return None
    ones = np.ones(src.size)
    graph = coo_array((ones, (src, dst)), shape=(n, n)).tocsr()
    laplacian = csgraph.laplacian(graph + graph.T).tocsc().astype(float)
    values = np.sort(eigsh(laplacian, k, sigma=-1e-3, return_eigenvectors=False))
    sizes = np.full(k, n / k * (1 + slack))
    sizes[-1] = n - sizes[:-1].sum()
    return float(0.5 * (np.maximum(values, 0) * sizes).sum())


def cuts(n, k, note):
    """Our acyclic cut beside METIS, a random topological cut and the bound."""
    graphs = {
        "grid": grid(n),
        "window 100": windowed(n, 100),
        "window 1000": windowed(n, 1000),
        "layers of 1000": layered(n, 1000),
        "random": windowed(n, n),
    }
    rows = []
    for name, (size, src, dst) in graphs.items():
        found, seconds = timed(partition, size, src, dst, k)
        assert (found.part[src] <= found.part[dst]).all()
        metis, metis_s = metis_cut(size, src, dst, k)
        row = {
            "graph": name,
            "nodes": size,
            "edges": int(src.size),
            "cut": int(found.cut),
            "seconds": seconds,
            "largest part": float(np.bincount(found.part, minlength=k).max() * k / size),
            "metis": metis,
            "metis seconds": metis_s,
            "ratio": None if metis is None else found.cut / metis,
            "random cut": random_topological_cut(size, src, dst, k),
            "bound": spectral_bound(size, src, dst, k),
        }
        rows.append(row)
        note(row)
    return rows


def splits(folder, note):
    """The public instances: load, time, gap; beside the expert and interval DP on one order."""
    rows = []
    for name in INSTANCES:
        path = folder / f"{name}.json"
        if not path.exists():
            note({"instance": name, "skipped": "not found"})
            continue
        instance = s.load_instance(path)
        schedule, seconds = timed(s.split, instance)
        s.verify(schedule, *instance, contiguous=True)
        row = {
            "instance": name,
            "load": schedule.load,
            "gap": schedule.gap,
            "seconds": seconds,
            "interval DP": s.place(*instance, "intervals").load,
            "expert": expert_load(folder, name, instance),
        }
        rows.append(row)
        note(row)
    return rows


def expert_load(folder, name, instance):
    """The load of the person's split, by our cost model."""
    path = folder / f"{name.replace('resnet50_training', 'resnet50_inference')}_expert.json"
    if not path.exists():
        return None
    pieces = json.loads(path.read_text(encoding="utf-8"))["fpgas"]
    home = {str(id): f"fpga:{d}" for d, piece in enumerate(pieces) for id in piece["nodes"]}
    for task in instance.graph.tasks:
        home.setdefault(task.id, home.get(task.together))
    return s.place(*instance, lambda graph, cluster: home).load


def list_schedules(n, note):
    """HEFT on a large graph, Schedule included."""
    size, src, dst = windowed(n, 1000)
    rng = np.random.default_rng(2)
    tasks = tuple(s.Task(f"t{i}", flops=float(f)) for i, f in enumerate(rng.random(size) * 1e9))
    edges = zip(src.tolist(), dst.tolist(), strict=True)
    graph = s.TaskGraph(tasks, tuple((f"t{a}", f"t{b}", 1e5) for a, b in edges))
    rows = []
    for name in ("heft", "contiguous", "multilevel"):
        schedule, seconds = timed(s.place, graph, s.Cluster.uniform(8), name, "makespan")
        row = {"policy": name, "tasks": size, "devices": 8, "seconds": seconds}
        row |= {"makespan": schedule.makespan, "bound": schedule.lower_bound}
        rows.append(row)
        note(row)
    return rows


def pipelines(note):
    """Bubbles of the named orders and of the search, and memory in micro-batches."""
    rows = []
    for f, i, w in ((1, 1, 1), (18.522, 18.086, 9.337)):
        stages = Stages.even(8, f, i, w)
        for name in sorted(set(NAMED) - {"interleaved"}):
            timeline = run(NAMED[name](8, 24), stages)
            row = {"F:I:W": f"{f}:{i}:{w}", "order": name, "bubble": timeline.bubble}
            rows.append(row | {"memory": max(timeline.peak_memory)})
            note(rows[-1])
        for cap in (4, 8, 15):
            timeline, seconds = timed(search, stages, 24, cap)
            row = {"F:I:W": f"{f}:{i}:{w}", "order": f"search, cap {cap}"}
            row |= {"bubble": timeline.bubble, "memory": max(timeline.peak_memory)}
            rows.append(row | {"seconds": seconds})
            note(rows[-1])
    return rows


def simulation(workers, batches, note):
    """A million events."""
    cluster = s.Cluster.uniform(workers)
    order, stages = one_f_one_b(workers, batches), Stages.even(workers, 1.0, 1.0, 1.0)
    program = from_pipeline(order, stages, tuple(cluster.index), 1e6)
    found, seconds = timed(simulate, program, cluster, noise=0.05, seed=1)
    row = {"workers": workers, "events": found.events, "seconds": seconds}
    note(row | {"makespan": found.makespan})
    return [row]


def large_splits(scale, note):
    """Made instances: split beside interval DP on the order and on the chain of merged nodes."""
    rows = []
    for name, (shape, accelerators) in LARGE.items():
        if scale > 1:
            shape = shape._replace(cells=max(2, shape.cells // scale))
        instance = made_instance(shape, accelerators)
        schedule, seconds = timed(s.split, instance)
        s.verify(schedule, *instance, contiguous=True)
        row = {"instance": name, "tasks": len(instance.graph), "devices": accelerators + 1}
        row |= {"load": schedule.load, "gap": schedule.gap, "binds": schedule.bound.reason}
        row |= {"seconds": seconds, "interval DP": s.place(*instance, "intervals").load}
        row |= {"merged chain": merged_load(instance)}
        rows.append(row)
        note(row)
    return rows


def merged_load(instance):
    """The load of interval DP on the chain of merged nodes; None if no such cut fits."""
    try:
        return s.place(*instance, partial(intervals, merged=True)).load
    except s.ScheduleError:
        return None


def text_of(row):
    """One row as a line."""
    cells = [f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()]
    return "  " + ", ".join(cells)


def note(row):
    """Show a row as soon as it is there."""
    print(text_of(row), flush=True)


def keep(results):
    """Write the results as JSON and as text."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "scheduler.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
    lines = []
    for name, rows in results.items():
        lines += [name, *map(text_of, rows)]
    (RESULTS / "scheduler.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main():
    """Run all parts, or one, print and write them."""
    parser = argparse.ArgumentParser(description=__doc__)
    beside = Path(__file__).resolve().parents[2] / "shared" / "graphs"
    parser.add_argument("--graphs", type=Path, default=beside, help="folder of the instances")
    parser.add_argument("--quick", action="store_true", help="a tenth of the sizes; kept nowhere")
    parser.add_argument("--part", help="run only this part and keep the results of the others")
    options = parser.parse_args()
    scale = 10 if options.quick else 1
    parts = {
        "contiguous splits": lambda: splits(options.graphs, note),
        "contiguous splits, large": lambda: large_splits(scale, note),
        "acyclic parts, large": lambda: cuts(1_000_000 // scale, 8, note),
        "acyclic parts, small": lambda: cuts(10_000, 8, note),
        "list schedules": lambda: list_schedules(100_000 // scale, note),
        "pipelines": lambda: pipelines(note),
        "simulator": lambda: simulation(1024, 250 // scale, note),
    }
    if options.part and options.part not in parts:
        parser.error(f"--part: got {options.part!r}, expected one of {list(parts)}")
    path = RESULTS / "scheduler.json"
    old = json.loads(path.read_text(encoding="utf-8")) if options.part and path.exists() else {}
    for name in [options.part] if options.part else parts:
        print(name, flush=True)
        machine = f"{platform.machine()}, Python {platform.python_version()}"
        made = {"date": str(date.today()), "machine": f"{machine}, numpy {np.__version__}"}
        old[name] = [made, *parts[name]()]
    if not options.quick:
        keep({name: old[name] for name in parts if name in old})


if __name__ == "__main__":
    main()
