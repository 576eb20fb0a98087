"""HEFT against the paper's own example, and list schedules on graphs small enough to see
through."""

import pytest

import scheduler as s
from scheduler.policies.gaps import Gaps
from scheduler.policies.heft import upward_ranks

# Topcuoglu, Hariri, Wu 2002, figure 2: seconds of ten tasks on three processors, bytes on edges
SECONDS = [
    (14, 16, 9), (13, 19, 18), (11, 13, 19), (13, 8, 17), (12, 13, 10),
    (13, 16, 9), (7, 15, 11), (5, 11, 14), (18, 12, 20), (21, 7, 16),
]  # fmt: skip
EDGES = [
    (1, 2, 18), (1, 3, 12), (1, 4, 9), (1, 5, 11), (1, 6, 14), (2, 8, 19), (2, 9, 16), (3, 7, 23),
    (4, 8, 27), (4, 9, 23), (5, 9, 13), (6, 8, 15), (7, 10, 17), (8, 10, 11), (9, 10, 13),
]  # fmt: skip
RANKS = [108, 77, 80, 80, 69, 63.333, 42.667, 35.667, 44.333, 14.667]


def topcuoglu():
    devices = tuple(s.Device(f"p{i}") for i in range(3))
    cluster = s.Cluster(devices, (s.Link(bytes_per_s=1, latency_s=0),)).measured(
        {f"t{i + 1}": {f"p{d}": row[d] for d in range(3)} for i, row in enumerate(SECONDS)}
    )
    tasks = tuple(s.Task(f"t{i + 1}") for i in range(10))
    return s.TaskGraph(tasks, tuple((f"t{a}", f"t{b}", w) for a, b, w in EDGES)), cluster


def test_heft_ranks_are_those_of_the_paper():
    assert upward_ranks(*topcuoglu()) == pytest.approx(RANKS, abs=5e-4)  # printed to 3 places


def test_heft_makespan_is_80_as_in_the_paper():
    graph, cluster = topcuoglu()
    schedule = s.place(graph, cluster, "heft", objective="makespan")
    assert schedule.makespan == 80
    s.verify(schedule, graph, cluster)


def test_heft_on_unlike_links_uses_the_link_of_each_pair():
    graph, cluster = topcuoglu()
    slow = s.Link("p2", "*", bytes_per_s=0.01, latency_s=0)
    unlike = s.Cluster(cluster.devices, (*cluster.links, slow), cluster.profile)
    schedule = s.place(graph, unlike, "heft", objective="makespan")
    s.verify(schedule, graph, unlike)
    assert schedule.makespan > 80


def test_heft_fills_a_gap_it_left():
    # c waits for a's value on the other device; d fits before it
    graph = s.TaskGraph(
        (s.Task("a", pin="cpu:0"), s.Task("c", pin="cpu:1"), s.Task("d", pin="cpu:1")),
        (("a", "c", 1e9),),
    )
    cluster = s.Cluster.uniform(2).measured({"a": 1.0, "c": 5.0, "d": 0.5})
    schedule = s.place(graph, cluster, "heft", objective="makespan")
    starts = {slot.task: slot.start for slot in schedule.slots}
    assert starts["d"] == 0.0
    assert starts["c"] == pytest.approx(2.00005)


def test_gaps_find_the_first_fit_across_many_blocks():
    gaps = Gaps()
    for i in range(500):
        gaps.append(10.0 * i, 10.0 * i + (5.0 if i == 321 else 1.0))
    assert gaps.first_fit(0.0, 2.0, limit=1e9) == 3210.0
    assert gaps.first_fit(0.0, 2.0, limit=3212.0) == -1.0
    assert gaps.first_fit(15.5, 0.5, limit=1e9) == 20.0
    gaps.fill(3210.0, 3214.0)
    assert gaps.first_fit(0.0, 2.0, limit=1e9) == -1.0
    assert gaps.first_fit(3200.5, 1.0, limit=1e9) == 3214.0


def test_etf_starts_the_task_that_can_start_first():
    graph = s.TaskGraph((s.Task("a"), s.Task("b"), s.Task("c")), (("a", "c", 0.0),))
    cluster = s.Cluster.uniform(2).measured({"a": 1.0, "b": 3.0, "c": 1.0})
    schedule = s.place(graph, cluster, "etf", objective="makespan")
    assert schedule.makespan == 3.0
    s.verify(schedule, graph, cluster)


def test_etf_goes_where_memory_is_left():
    graph = s.TaskGraph(tuple(s.Task(x, memory=6) for x in "abc"))
    small = s.Cluster.uniform(3, memory=10.0).measured(dict.fromkeys("abc", 1.0))
    schedule = s.place(graph, small, "etf")
    assert sorted(schedule.placement.values()) == ["cpu:0", "cpu:1", "cpu:2"]
