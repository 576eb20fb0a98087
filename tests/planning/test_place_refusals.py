"""Clear refusals: contradictory pins, memory that does not suffice, wrong requests."""

import pytest

import scheduler as s

POLICIES = [*s.POLICIES, "auto"]


def refusal(tasks, cluster, policy="contiguous", edges=()):
    with pytest.raises(s.ScheduleError) as caught:
        s.place(s.TaskGraph(tuple(tasks), tuple(edges)), cluster, policy)
    return str(caught.value)


@pytest.mark.parametrize("policy", POLICIES)
def test_contradictory_pins_name_both_tasks(policy):
    tasks = [s.Task("w", pin="cpu:0", together="k"), s.Task("g", pin="cpu:1", together="k")]
    assert refusal(tasks, s.Cluster.uniform(2), policy) == (
        "contradictory pins: w to cpu:0 and g to cpu:1, but they must stay together"
    )


@pytest.mark.parametrize("policy", POLICIES)
def test_one_task_above_every_memory_names_it(policy):
    tasks = [s.Task("small", memory=1e6), s.Task("table", memory=7e9)]
    assert refusal(tasks, s.Cluster.uniform(2, memory=4e9), policy) == (
        "cpu:0 needs 7 GB of memory, has 4 GB: 3 GB too much. Largest kept: table (7 GB)"
    )


@pytest.mark.parametrize("policy", POLICIES)
def test_pins_above_one_memory_name_the_largest_holders(policy):
    tasks = [s.Task(x, memory=m, pin="cpu:1") for x, m in (("a", 2e9), ("b", 3e9), ("c", 1e9))]
    assert refusal(tasks, s.Cluster.uniform(2, memory=4e9), policy) == (
        "cpu:1 needs 6 GB of memory, has 4 GB: 2 GB too much. "
        "Largest kept: b (3 GB), a (2 GB), c (1 GB)"
    )


@pytest.mark.parametrize("policy", POLICIES)
def test_all_memory_together_too_small(policy):
    tasks = [s.Task(f"t{i}", memory=1e9) for i in range(5)]
    assert refusal(tasks, s.Cluster.uniform(2, memory=2e9), policy) == (
        "all devices together need 5 GB of memory, have 4 GB: 1 GB too much. "
        "Largest kept: t0 (1 GB), t1 (1 GB), t2 (1 GB)"
    )


def test_no_contiguous_cut_fits_though_a_scattered_one_would():
    tasks = [s.Task(x, memory=m) for x, m in (("a", 2), ("b", 3), ("c", 3), ("d", 2))]
    cluster = s.Cluster.uniform(2, memory=5.0)
    assert s.place(s.TaskGraph(tuple(tasks)), cluster).peak_memory == {"cpu:0": 5, "cpu:1": 5}
    tasks = [tasks[0], tasks[3], tasks[1], tasks[2]]
    assert refusal(tasks, cluster) == (
        "no contiguous cut fits: the tasks keep 10 B, the devices have cpu:0 5 B, cpu:1 5 B. "
        "Largest kept: b (3 B), c (3 B), a (2 B)"
    )


def test_pin_to_an_unknown_device():
    assert refusal([s.Task("a", pin="gpu:0")], s.Cluster.uniform(2)) == (
        "task 'a' is pinned to gpu:0, the cluster has cpu:0, cpu:1"
    )


def test_forbidden_everywhere():
    assert refusal([s.Task("a", forbidden=("cpu",))], s.Cluster.uniform(2)) == (
        "task 'a' is left with no device, but forbidden on cpu"
    )


def test_unknown_policy_and_objective():
    graph, cluster = s.TaskGraph((s.Task("a"),)), s.Cluster.uniform(1)
    with pytest.raises(s.ScheduleError, match="policy: got 'best', expected one of"):
        s.place(graph, cluster, "best")
    with pytest.raises(s.ScheduleError, match="objective: got 'speed'"):
        s.place(graph, cluster, objective="speed")


def test_graph_refuses_what_is_no_topological_graph():
    a, b = s.Task("a"), s.Task("b")
    with pytest.raises(s.ScheduleError, match="edge b -> a runs against the order"):
        s.TaskGraph((a, b), (("b", "a", 1.0),))
    with pytest.raises(s.ScheduleError, match="'z', which is not in the graph"):
        s.TaskGraph((a, b), (("a", "z", 1.0),))
    with pytest.raises(s.ScheduleError, match="'a' stands twice"):
        s.TaskGraph((a, a))
