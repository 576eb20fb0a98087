"""The simulator: exact without contention, and right about links, limits, memory and noise."""

import pytest

import scheduler as s
from scheduler.pipeline import Stages, one_f_one_b, run, zero_bubble_free, zero_bubble_h1
from scheduler.programs import from_pipeline, from_schedule
from scheduler.simulate import Work, simulate


def cluster(n, **link):
    return s.Cluster(tuple(s.Device(f"cpu:{i}") for i in range(n)), (s.Link(**link),))


@pytest.mark.parametrize("order", [one_f_one_b, zero_bubble_h1, zero_bubble_free])
def test_simulated_pipeline_equals_its_exact_timeline(order):
    machine = cluster(4, latency_s=0.25, bytes_per_s=1e9)
    stages = Stages.even(4, 1, 2, 1, transfer_s=0.25)
    exact = run(order(4, 8), stages)
    found = simulate(from_pipeline(order(4, 8), stages, tuple(machine.index), 0.0), machine)
    assert found.makespan == pytest.approx(exact.makespan)
    assert tuple(found.peak_memory.values()) == exact.peak_memory
    for row, actions in zip(found.rows.values(), exact.order, strict=True):
        assert [id for id, _, _ in row] == [str(a) for a in actions]
        assert [start for _, start, _ in row] == pytest.approx([exact.start[a] for a in actions])


def test_simulated_schedule_is_the_schedule_where_links_are_free():
    graph = s.TaskGraph(
        tuple(s.Task(x, flops=1e9, memory=5) for x in "abcd"),
        (("a", "b", 1e6), ("a", "c", 1e6), ("b", "d", 2e6), ("c", "d", 2e6)),
    )
    machine = s.Cluster.uniform(2, flops_per_s=1e9)
    schedule = s.place(
        graph,
        machine,
        lambda g, c: dict(zip("abcd", ["cpu:0", "cpu:0", "cpu:1", "cpu:0"], strict=True)),
    )
    found = simulate(from_schedule(schedule), machine)
    assert found.makespan == pytest.approx(schedule.makespan)
    assert found.peak_memory == schedule.peak_memory
    assert found.link_bytes == {("cpu:0", "cpu:1"): 1e6, ("cpu:1", "cpu:0"): 2e6}
    assert found.bubbles["cpu:1"] == pytest.approx(1 - 1.000001 / schedule.makespan)


def fan_in(channel):
    links = (s.Link("*", "cpu:2", bytes_per_s=1.0, latency_s=0.5, channel=channel),)
    machine = s.Cluster(tuple(s.Device(f"cpu:{i}") for i in range(3)), links)
    program = {
        "cpu:0": (Work("a", 1.0, (("c", 4.0),)),),
        "cpu:1": (Work("b", 1.0, (("c", 4.0),)),),
        "cpu:2": (Work("c", 1.0),),
    }
    return simulate(program, machine)


def test_links_on_one_channel_share_its_bandwidth():
    # 1 s of compute, 4 s on the wire, half a second of latency, 1 s of compute
    assert fan_in("").makespan == pytest.approx(6.5)
    shared = fan_in("card")
    assert shared.makespan == pytest.approx(10.5)
    assert shared.channel_busy_s == {"card": 8.0}


def test_readers_on_one_device_share_one_message():
    machine = cluster(2, bytes_per_s=1.0, latency_s=0.0)
    program = {
        "cpu:0": (Work("a", 1.0, (("b", 3.0), ("c", 3.0))),),
        "cpu:1": (Work("b", 1.0), Work("c", 1.0)),
    }
    found = simulate(program, machine)
    assert found.makespan == 6.0
    assert found.link_bytes == {("cpu:0", "cpu:1"): 3.0}


def test_in_flight_limit_stalls_the_sender():
    machine = cluster(2, bytes_per_s=1.0, latency_s=0.0)
    program = {
        "cpu:0": tuple(Work(f"a{i}", 1.0, ((f"b{i}", 4.0),)) for i in range(3)),
        "cpu:1": tuple(Work(f"b{i}", 0.0) for i in range(3)),
    }
    free = simulate(program, machine).rows["cpu:0"]
    held = simulate(program, machine, in_flight=1).rows["cpu:0"]
    assert [start for _, start, _ in free] == [0.0, 1.0, 2.0]
    assert [start for _, start, _ in held] == [0.0, 5.0, 10.0]


def test_noise_is_repeatable_by_seed_and_has_mean_one():
    program = {"cpu:0": tuple(Work(f"w{i}", 1.0) for i in range(4000))}
    machine = cluster(1)
    first = simulate(program, machine, noise=0.2, seed=7).makespan
    assert first == simulate(program, machine, noise=0.2, seed=7).makespan
    assert first != simulate(program, machine, noise=0.2, seed=8).makespan
    # 4,000 draws: three standard errors of 0.2 / sqrt(4000) are 0.95 %
    assert first == pytest.approx(4000, rel=0.0095)


def test_memory_grows_and_is_given_back():
    program = {
        "cpu:0": (Work("a", 1.0, (), 5.0), Work("b", 1.0, (), 3.0, 8.0), Work("c", 1, (), 2.0))
    }
    assert simulate(program, cluster(1)).peak_memory == {"cpu:0": 8.0}


def test_workers_that_wait_forever_are_named():
    program = {
        "cpu:0": (Work("b", 1.0), Work("a", 1.0, (("b", 1.0),))),
    }
    with pytest.raises(s.ScheduleError, match="cpu:0 waits at b for 1 inputs"):
        simulate(program, cluster(1))


def test_weak_scaling_of_a_ring_follows_its_closed_form():
    # ring all-reduce (Patarasuk and Yuan 2009): 2 (n - 1) steps of bytes / n, so the time tends to
    # twice the bytes over the bandwidth while latency grows with n
    for n in (2, 4, 16):
        steps, part = 2 * (n - 1), 8.0 / n
        program = {
            f"cpu:{r}": tuple(
                Work(f"{r}.{t}", 0.0, ((f"{(r + 1) % n}.{t + 1}", part),) if t < steps else ())
                for t in range(steps + 1)
            )
            for r in range(n)
        }
        found = simulate(program, cluster(n, bytes_per_s=2.0, latency_s=0.1))
        assert found.makespan == pytest.approx(steps * (part / 2.0 + 0.1))
