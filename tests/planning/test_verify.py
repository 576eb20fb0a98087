"""verify() refuses schedules broken on purpose, one law at a time."""

from dataclasses import replace

import pytest

import scheduler as s


def good():
    graph = s.TaskGraph(
        (
            s.Task("a", flops=1e9, memory=10),
            s.Task("b", flops=2e9, memory=10, pin="cpu:1"),
            s.Task("c", flops=1e9, memory=10, forbidden=("cpu:1",)),
            s.Task("c_grad", flops=1e9, memory=10, together="c"),
        ),
        (("a", "b", 1e6), ("a", "c", 1e6), ("c", "c_grad", 0.0), ("b", "c_grad", 1e6)),
    )
    cluster = s.Cluster.uniform(2, memory=35.0, flops_per_s=1e9)
    schedule = s.place(graph, cluster, "heft", "makespan")
    s.verify(schedule, graph, cluster)
    return schedule


def change(task, /, **fields):
    def breaking(schedule):
        slots = [x._replace(**fields) if x.task == task else x for x in schedule.slots]
        return replace(schedule, slots=tuple(slots))

    return breaking


def shift(task, by):
    def breaking(schedule):
        slots = [
            x._replace(start=x.start + by, finish=x.finish + by) if x.task == task else x
            for x in schedule.slots
        ]
        return replace(schedule, slots=tuple(slots))

    return breaking


BROKEN = {
    "missing": (lambda x: replace(x, slots=x.slots[:-1]), "runs 0 times"),
    "twice": (lambda x: replace(x, slots=(*x.slots, x.slots[0])), "runs 2 times"),
    "unknown task": (change("a", task="z"), "z is not in the graph"),
    "unknown device": (change("a", device="cpu:7"), "not in the cluster"),
    "pin": (change("b", device="cpu:0"), "pinned to cpu:1"),
    "forbidden": (change("c", device="cpu:1"), "forbidden"),
    "apart": (change("c_grad", device="cpu:1"), "not with c on cpu:0"),
    "too early": (shift("c_grad", -0.5), "its input from"),
    "overlap": (shift("c", -0.5), "overlap"),
    "before zero": (shift("a", -0.5), "expected a time from 0 on"),
    "not finite": (shift("c_grad", float("nan")), "expected a time from 0 on"),
    "too short": (change("a", finish=0.25), "expected 1."),
    "bound": (lambda x: replace(x, known=s.Bound(1e9, "wished")), "above the value"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_verify_refuses_a_broken_schedule(name):
    breaking, message = BROKEN[name]
    schedule = good()
    with pytest.raises(s.ScheduleError, match="the schedule is wrong") as caught:
        s.verify(breaking(schedule), schedule.graph, schedule.cluster)
    assert message in str(caught.value)


def test_verify_refuses_too_little_memory():
    schedule = good()
    small = replace(
        schedule.cluster,
        devices=tuple(replace(d, memory=15.0) for d in schedule.cluster.devices),
    )
    with pytest.raises(s.ScheduleError, match="keeps 30"):
        s.verify(schedule, schedule.graph, small)


def test_verify_refuses_an_order_that_waits_for_itself():
    # no time passes, so only the order can be wrong
    graph = s.TaskGraph((s.Task("a"), s.Task("b")), (("a", "b", 0.0),))
    cluster = s.Cluster((s.Device("cpu:0", overhead_s=0.0),))
    slots = (s.Slot("b", "cpu:0", 0.0, 0.0), s.Slot("a", "cpu:0", 0.0, 0.0))
    with pytest.raises(s.ScheduleError, match="cycle"):
        s.verify(s.Schedule(slots, "mine", "load", graph, cluster), graph, cluster)


def test_verify_refuses_a_split_that_is_not_contiguous():
    graph = s.TaskGraph(tuple(map(s.Task, "abc")), (("a", "b", 1.0), ("b", "c", 1.0)))
    cluster = s.Cluster.uniform(2)
    schedule = s.place(graph, cluster, lambda g, c: {"a": "cpu:0", "b": "cpu:1", "c": "cpu:0"})
    s.verify(schedule, graph, cluster)
    with pytest.raises(s.ScheduleError, match="not contiguous"):
        s.verify(schedule, graph, cluster, contiguous=True)
