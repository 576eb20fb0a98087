"""Lower bounds that bind: memory and links, by cases small enough to solve by hand."""

import pytest

import scheduler as s


def two(memory=float("inf"), slower=1.0, link=None):
    devices = (
        s.Device("fast", "gpu", 10.0, 1e9, memory, overhead_s=0.0),
        s.Device("slow", "cpu", 10.0 / slower, 1e9, overhead_s=0.0),
    )
    return s.Cluster(devices, (link or s.Link(bytes_per_s=1.0, latency_s=0.0),))


def test_memory_binds_when_the_fast_device_is_small():
    # ten tasks of 1 s (fast) or 9 s (slow); the fast device keeps 5 of them: load at least 45 s.
    # Without its memory limit 9 go there and one elsewhere: 9 s each.
    tasks = tuple(s.Task(f"t{i}", flops=10.0, memory=1.0) for i in range(10))
    graph = s.TaskGraph(tasks)
    roomy = s.place(graph, two(slower=9.0), "auto")
    assert roomy.load == pytest.approx(9.0)
    assert roomy.bound.reason == "the work of all devices"
    tight = s.place(graph, two(memory=5.0, slower=9.0), "auto")
    assert tight.load == pytest.approx(45.0)
    assert tight.bound.reason == "the memory of fast"
    # the dual is searched by a few hundred steps, not solved: within a tenth of the true 45 s
    assert 0.9 * 45.0 <= tight.lower_bound <= 45.0 * (1 + 1e-9)


def test_memory_bound_is_fractional():
    # three tasks that keep 2 of 3 bytes each: no two share the fast device, but halves would
    tasks = tuple(s.Task(f"t{i}", flops=10.0, memory=2.0) for i in range(3))
    schedule = s.place(s.TaskGraph(tasks), two(memory=3.0, slower=100.0), "auto")
    assert schedule.load == pytest.approx(200.0)
    assert schedule.lower_bound <= 150.0 * (1 + 1e-9)
    assert schedule.lower_bound > 120.0


def pinned_pair(middle=False):
    tasks = [s.Task("a", 10.0, pin="fast"), s.Task("b", 10.0, pin="slow")]
    edges = [("a", "b", 30.0)]
    if middle:
        tasks.insert(1, s.Task("m", 10.0))
        edges = [("a", "m", 30.0), ("m", "b", 20.0)]
    return s.TaskGraph(tuple(tasks), tuple(edges))


def test_a_link_between_pinned_tasks_binds_the_makespan():
    schedule = s.place(pinned_pair(), two(), "heft", "makespan")
    assert schedule.makespan == pytest.approx(32.0)
    assert schedule.lower_bound == pytest.approx(32.0)
    assert schedule.bound.reason == "the link fast -> slow on the path from a to b"


def test_a_link_that_free_tasks_must_cross_binds_the_makespan():
    # a on fast, b on slow, m on either: the cheaper crossing is behind m
    schedule = s.place(pinned_pair(middle=True), two(), "auto", "makespan")
    assert schedule.makespan == pytest.approx(1 + 1 + 20 + 1)
    assert schedule.gap < 1e-9
    assert schedule.bound.reason == "the link fast -> slow on the path from m to b"


def test_a_link_between_pinned_tasks_binds_the_load():
    schedule = s.place(pinned_pair(), two(), "auto")
    assert schedule.load == pytest.approx(31.0)
    assert schedule.gap < 1e-9
    assert schedule.bound.reason == "the link between fast and slow: pinned tasks"


def test_a_value_pays_once_out_and_once_in_per_device():
    devices = tuple(s.Device(f"d{i}", flops_per_s=10.0, overhead_s=0.0) for i in range(3))
    cluster = s.Cluster(devices, (s.Link(bytes_per_s=1.0, latency_s=0.0),))
    pins = {"a": "d0", "b": "d1", "c": "d1", "e": "d2"}
    graph = s.TaskGraph(
        tuple(s.Task(id, 10.0, pin=pin) for id, pin in pins.items()),
        (("a", "b", 5.0), ("a", "c", 5.0), ("a", "e", 7.0)),
    )
    schedule = s.place(graph, cluster, "contiguous")
    assert schedule.loads == pytest.approx({"d0": 8.0, "d1": 7.0, "d2": 8.0})
    assert schedule.lower_bound == pytest.approx(8.0)
    assert schedule.gap < 1e-9


def test_without_pins_no_link_binds():
    graph = s.TaskGraph((s.Task("a", 10.0), s.Task("b", 10.0)), (("a", "b", 30.0),))
    schedule = s.place(graph, two(), "heft", "makespan")
    assert schedule.makespan == pytest.approx(2.0)
    assert schedule.bound.reason == "the critical path to b"
    assert schedule.gap < 1e-9


def test_tasks_kept_with_a_pinned_one_are_pinned():
    tasks = (s.Task("a", 10.0, pin="fast"), s.Task("b", 10.0, together="a"))
    schedule = s.place(s.TaskGraph(tasks), two(), "auto")
    assert schedule.lower_bound == pytest.approx(2.0)


def test_an_unreachable_free_host_pays_no_transfers():
    host = s.Device("host", flops_per_s=10.0, overhead_s=0.0, pays_transfers=False)
    other = s.Device("d", flops_per_s=10.0, overhead_s=0.0)
    cluster = s.Cluster((host, other), (s.Link(bytes_per_s=1.0, latency_s=0.0),))
    tasks = (s.Task("a", 10.0, pin="host"), s.Task("b", 10.0, pin="d"))
    schedule = s.place(s.TaskGraph(tasks, (("a", "b", 4.0),)), cluster, "contiguous")
    assert schedule.loads == pytest.approx({"host": 1.0, "d": 5.0})
    assert schedule.lower_bound == pytest.approx(5.0)
