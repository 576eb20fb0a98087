"""Contiguous splits: the public instances at their optimum, and tiny ones against brute force."""

import itertools
import random
from pathlib import Path

import pytest

import scheduler as s

GRAPHS = Path(__file__).resolve().parents[3] / "shared" / "graphs"
# smallest largest loads of contiguous splits, as published with the instances (README there)
OPTIMA = {
    "bert24_inference": 17.7899,
    "bert24_training": 41.7458,
    "gnmt_inference": 32.9107,
    "gnmt_training": 107.004,
    "resnet50_inference": 33.7747,
    "resnet50_training": 78.6318,
}


@pytest.mark.parametrize("name", OPTIMA)
def test_split_reaches_the_published_optimum_with_proof(name):
    path = GRAPHS / f"{name}.json"
    if not path.exists():
        pytest.skip(f"{path.name} is not beside this checkout")
    instance = s.load_instance(path)
    schedule = s.split(instance)
    assert schedule.load == pytest.approx(OPTIMA[name], rel=1e-5)  # published to six digits
    assert schedule.gap < 1e-9
    assert schedule.bound.reason == "every contiguous split searched"
    s.verify(schedule, *instance, contiguous=True)


def tiny(seed, n, fpgas, cpus, memory):
    r = random.Random(seed)
    tasks, edges, profile = [], [], {}
    for i in range(n):
        tasks.append(s.Task(str(i), memory=r.randint(0, 3), together=f"class {i}"))
        profile[str(i)] = {"fpga": r.choice([0, r.random()]), "cpu": 3 * r.random()}
        cost = r.choice([0.0, r.random() * 0.3])
        edges += [(str(p), str(i), cost) for p in r.sample(range(i), min(i, r.randint(0, 2)))]
    # one cost per value, as in the published format
    costs = {}
    edges = [(a, b, costs.setdefault(a, c)) for a, b, c in edges]
    for i in reversed(range(n)):
        if r.random() < 0.5:
            tasks.append(s.Task(f"{i}grad", memory=1, together=str(i)))
            profile[f"{i}grad"] = {"fpga": r.random(), "cpu": 3 * r.random()}
            if i + 1 < n and f"{i + 1}grad" in profile:
                edges.append((f"{i + 1}grad", f"{i}grad", r.random() * 0.3))
    devices = [s.Device(f"fpga:{d}", "fpga", memory=memory) for d in range(fpgas)]
    devices += [s.Device(f"cpu:{d}", "cpu", pays_transfers=False) for d in range(cpus)]
    cluster = s.Cluster(tuple(devices), (s.Link(bytes_per_s=1.0, latency_s=0.0),), profile)
    return s.TaskGraph(tuple(tasks), tuple(edges)), cluster


def brute_force(graph, cluster, n):
    """The best load over every assignment of the n classes that can be ordered."""
    forward = [(int(a), int(b)) for a, b, _ in graph.edges if int_or_none(a) and int_or_none(b)]
    best = float("inf")
    for where in itertools.product(range(len(cluster.devices)), repeat=n):
        pairs = {(where[a], where[b]) for a, b in forward if where[a] != where[b]}
        if acyclic(pairs):
            best = min(best, load_of(graph, cluster, where))
    return best


def int_or_none(text):
    return text.isdigit()


def acyclic(pairs):
    while pairs:
        sinks = {b for _, b in pairs} - {a for a, _ in pairs}
        if not sinks:
            return False
        pairs = {(a, b) for a, b in pairs if b not in sinks}
    return True


def load_of(graph, cluster, where):
    home = {t.id: where[int(t.id.removesuffix("grad"))] for t in graph.tasks}
    totals = []
    for d, device in enumerate(cluster.devices):
        kept = sum(t.memory for t in graph.tasks if home[t.id] == d)
        if kept > device.memory:
            return float("inf")
        total = sum(cluster.profile[t.id][device.kind] for t in graph.tasks if home[t.id] == d)
        if device.pays_transfers:
            out = {(a, c) for a, b, c in graph.edges if home[a] == d != home[b]}
            into = {(a, c) for a, b, c in graph.edges if home[b] == d != home[a]}
            total += sum(c for _, c in out) + sum(c for _, c in into)
        totals.append(total)
    return max(totals)


@pytest.mark.parametrize("seed", range(40))
def test_split_equals_brute_force_on_tiny_graphs(seed):
    n, fpgas, cpus = 3 + seed % 5, 1 + seed % 3, seed % 2
    graph, cluster = tiny(seed, n, fpgas, cpus, memory=[1e9, 9.0][seed % 3 == 0])
    expected = brute_force(graph, cluster, n)
    if expected == float("inf"):
        with pytest.raises(s.ScheduleError, match="Largest kept"):
            s.split(graph, cluster)
        return
    schedule = s.split(graph, cluster)
    assert schedule.load == pytest.approx(expected, rel=1e-9)
    assert schedule.gap < 1e-9
    s.verify(schedule, graph, cluster, contiguous=True)
