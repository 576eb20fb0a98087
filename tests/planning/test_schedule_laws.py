"""Every policy on random DAGs, clusters and pins: verified, bounded, deterministic; or refused
clearly."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import scheduler as s

NAMES = [*s.POLICIES, "auto"]
seconds = st.sampled_from([0.0, 1e6, 3e8, 1e9])


@st.composite
def problems(draw):
    k = draw(st.integers(1, 3))
    n = draw(st.integers(1, 12))
    devices = [f"cpu:{d}" for d in range(k)]
    tasks, edges = [], []
    for i in range(n):
        tied = draw(st.sampled_from([None] * 4 + [f"t{i // 2}", "group"]))
        pin = draw(st.sampled_from([None] * 8 + [devices[0]]))
        memory = draw(st.integers(0, 4))
        forbidden = draw(st.sampled_from([()] * 6 + [(devices[-1],)])) if k > 1 else ()
        tasks.append(s.Task(f"t{i}", draw(seconds), draw(seconds), memory, pin, tied, forbidden))
        sources = draw(st.sets(st.integers(0, i - 1), max_size=3)) if i else ()
        edges += [
            (f"t{p}", f"t{i}", draw(st.sampled_from([0.0, 1e3, 1e8]))) for p in sorted(sources)
        ]
    room = draw(st.sampled_from([math.inf, 4.0 * n, 2.0 * n]))
    speed = [draw(st.sampled_from([1e9, 4e9])) for _ in range(k)]
    cluster = s.Cluster(
        tuple(s.Device(d, flops_per_s=f, memory=room) for d, f in zip(devices, speed, strict=True)),
        (s.Link(latency_s=draw(st.sampled_from([0.0, 1e-3]))),),
    )
    return s.TaskGraph(tuple(tasks), tuple(edges)), cluster


def placed(graph, cluster, policy, objective):
    try:
        return s.place(graph, cluster, policy, objective)
    except s.ScheduleError as refusal:
        return refusal


@pytest.mark.parametrize("objective", ["load", "makespan"])
@pytest.mark.parametrize("policy", NAMES)
@settings(max_examples=15, deadline=None)
@given(problem=problems())
def test_policy_keeps_every_law_or_refuses(policy, objective, problem):
    graph, cluster = problem
    schedule = placed(graph, cluster, policy, objective)
    if isinstance(schedule, s.ScheduleError):
        told = str(schedule)
        assert "no " in told or any(device.name in told for device in cluster.devices)
        return
    s.verify(schedule, graph, cluster)
    assert schedule.value >= schedule.lower_bound * (1 - 1e-9)
    assert schedule == s.place(graph, cluster, policy, objective)


@settings(max_examples=15, deadline=None)
@given(problem=problems())
def test_auto_is_never_worse_than_any_policy(problem):
    graph, cluster = problem
    values = []
    for policy in s.POLICIES:
        try:
            values.append(s.place(graph, cluster, policy, "makespan").value)
        except s.ScheduleError:
            continue
    if values:
        assert s.place(graph, cluster, "auto", "makespan").value <= min(values) * (1 + 1e-9)


@settings(max_examples=25, deadline=None)
@given(problem=problems())
def test_contiguous_policies_are_contiguous(problem):
    graph, cluster = problem
    for policy in ("intervals", "ideals"):
        try:
            schedule = s.place(graph, cluster, policy)
        except s.ScheduleError:
            continue
        s.verify(schedule, graph, cluster, contiguous=True)


def test_ideals_are_never_worse_than_intervals():
    graph = s.TaskGraph(
        tuple(s.Task(x, flops=f) for x, f in zip("abcdef", [4, 1, 4, 1, 4, 1], strict=True)),
        (("a", "c", 1e3), ("b", "d", 1e9), ("c", "e", 1e3), ("d", "f", 1e9)),
    )
    cluster = s.Cluster.uniform(3, flops_per_s=1.0)
    exact = s.place(graph, cluster, "ideals")
    assert exact.load < s.place(graph, cluster, "intervals").load
    assert exact.gap < 1e-9
