"""Splits where exact search is hopeless: never worse than interval DP, an honest gap."""

from functools import partial

import pytest

import scheduler as s
from scheduler.networks import Shape, made_instance
from scheduler.policies.intervals import intervals
from scheduler.splitting.search import Effort

QUICK = Effort(states=3_000, pairs=3_000_000, pool=400)
SHAPES = {
    "wide": (Shape(3, 10, 3, 0.1), 4),
    "crossing": (Shape(5, 6, 4, 0.5), 3),
    "training": (Shape(3, 8, 3, 0.1, training=True), 4),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", SHAPES)
def test_split_is_never_worse_than_interval_dp(name, seed):
    instance = made_instance(*SHAPES[name], seed=seed)
    schedule = s.split(instance, effort=QUICK)
    s.verify(schedule, *instance, contiguous=True)
    assert schedule.lower_bound <= schedule.load * (1 + 1e-9)
    assert schedule.load <= s.place(*instance, "intervals").load * (1 + 1e-9)
    try:
        merged = s.place(*instance, partial(intervals, merged=True))
    except s.ScheduleError:  # a merged node may be too large for any device
        return
    assert schedule.load <= merged.load * (1 + 1e-9)


def test_split_is_better_than_interval_dp_on_most():
    better = 0
    for name, (shape, accelerators) in SHAPES.items():
        instance = made_instance(shape, accelerators, seed=7)
        load = s.split(instance, effort=QUICK).load
        better += load < s.place(*instance, "intervals").load * (1 - 1e-3)
        assert s.split(instance, effort=QUICK).load == load, name
    assert better >= 2


def test_a_spent_effort_leaves_an_honest_gap():
    instance = made_instance(Shape(3, 6, 3, 0.2), 3)
    rough = s.split(instance, effort=QUICK)
    exact = s.split(instance)
    assert exact.gap < 1e-9
    assert rough.lower_bound <= exact.load * (1 + 1e-9) <= rough.load * (1 + 2e-9)
    assert rough.bound.reason != "every contiguous split searched" or rough.gap < 1e-9


def test_made_networks_are_what_they_say():
    graph, cluster = made_instance(Shape(2, 3, 2, training=True), 2, slack=1.5)
    backward = [task for task in graph.tasks if task.id.endswith("b")]
    assert len(backward) * 2 == len(graph)
    assert all(task.together == task.id[:-1] for task in backward)
    assert cluster.devices[0].memory == pytest.approx(0.75 * float(graph.memory.sum()))
    assert made_instance(Shape(2, 3, 2, training=True), 2, slack=1.5).graph == graph
