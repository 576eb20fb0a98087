"""Clusters: TOML, links, profiles; and costs of tasks and transfers."""

import math

import numpy as np
import pytest

import scheduler as s


def mixed():
    devices = (
        s.Device("cpu:0", "cpu", 1e10, 1e9, 16e9),
        s.Device("gpu:0", "gpu", 1e13, 1e12, 8e9, overhead_s=1e-5, pays_transfers=False),
        s.Device("gpu:1", "gpu", 1e13, 1e12),
    )
    links = (
        s.Link("*", "*", 1e9, 1e-3),
        s.Link("gpu", "gpu", 1e11, 1e-5, channel="nvlink"),
        s.Link("cpu:0", "gpu:1", 5e9, 1e-4),
    )
    return s.Cluster(devices, links, {"conv1": {"cpu": 0.5, "gpu:1": 0.01}, "fc": 0.25})


def test_toml_reads_back(tmp_path):
    path = tmp_path / "machine.toml"
    mixed().save(path)
    assert s.Cluster.load(path) == mixed()
    assert s.Cluster.load(path).devices[2].memory == math.inf


def test_toml_with_an_unknown_field_names_it(tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text('[[devices]]\nname = "cpu:0"\nspeed = 3.0\n')
    with pytest.raises(s.ScheduleError, match=r"bad\.toml: a Device table is wrong: .*speed"):
        s.Cluster.load(path)


def test_the_most_exact_link_wins_and_holds_both_ways():
    cluster = mixed()
    assert cluster.transfer_s(1e9, "cpu:0", "gpu:0") == pytest.approx(1.001)
    assert cluster.transfer_s(1e9, "gpu:1", "cpu:0") == pytest.approx(0.2001)
    assert cluster.transfer_s(1e9, "gpu:0", "gpu:1") == pytest.approx(0.01001)
    assert cluster.transfer_s(1e9, "gpu:0", "gpu:0") == 0.0


def test_seconds_are_overhead_plus_roofline_or_the_profile():
    cluster = mixed()
    tasks = (
        s.Task("mm", flops=1e10, nbytes=1e6),
        s.Task("copy", flops=1e3, nbytes=1e9),
        s.Task("conv1", flops=1e12),
        s.Task("fc", flops=1e12),
    )
    expected = [
        [1 + 1e-6, 1e-3 + 1e-5, 1e-3 + 1e-6],
        [1 + 1e-6, 1e-3 + 1e-5, 1e-3 + 1e-6],
        [0.5, 0.1 + 1e-5, 0.01],
        [0.25, 0.25, 0.25],
    ]
    table = cluster.seconds(s.TaskGraph(tasks))
    assert table == pytest.approx(np.array(expected))
    singly = [[cluster.compute_s(task, device) for device in cluster.devices] for task in tasks]
    assert table == pytest.approx(np.array(singly))


def test_a_profile_is_added_to_the_formulas():
    cluster = mixed().measured({"mm": 2.0})
    assert cluster.compute_s(s.Task("mm"), cluster.devices[0]) == 2.0
    assert cluster.compute_s(s.Task("fc"), cluster.devices[0]) == 0.25


def test_loads_count_each_value_once_out_and_once_in_per_device():
    graph = s.TaskGraph(
        tuple(map(s.Task, "abcd")), (("a", "b", 2.0), ("a", "c", 2.0), ("a", "d", 2.0))
    )
    devices = tuple(s.Device(f"cpu:{i}", overhead_s=1.0) for i in range(3))
    cluster = s.Cluster(devices, (s.Link(bytes_per_s=1.0, latency_s=0.0),))
    schedule = s.place(graph, cluster, lambda g, c: [0, 1, 1, 2])
    assert schedule.loads == {"cpu:0": 1 + 2, "cpu:1": 2 + 2, "cpu:2": 1 + 2}


def test_wrong_clusters_are_refused():
    with pytest.raises(s.ScheduleError, match="at least one device"):
        s.Cluster(())
    with pytest.raises(s.ScheduleError, match="names must differ"):
        s.Cluster((s.Device("cpu:0"), s.Device("cpu:0")))


def test_kernel_classes_have_their_own_rates(tmp_path):
    device = s.Device("cpu:0", flops_per_s=10.0, overhead_s=1.0, rates={"matmul": 100.0})
    cluster = s.Cluster((device,))
    cluster.save(tmp_path / "rates.toml")
    assert s.Cluster.load(tmp_path / "rates.toml") == cluster
    parts = (s.Part("matmul", 200.0, 0.0), s.Part("elementwise", 30.0, 0.0))
    graph = s.TaskGraph(
        (
            s.Task("plain", flops=50.0),
            s.Task("product", flops=50.0, kind="matmul"),
            s.Task("other", flops=50.0, kind="convolution"),
            s.Task("fused", flops=230.0, parts=parts),
        )
    )
    expected = [1 + 5.0, 1 + 0.5, 1 + 5.0, (1 + 2.0) + (1 + 3.0)]
    assert cluster.seconds(graph)[:, 0] == pytest.approx(expected)
    assert [cluster.compute_s(task, device) for task in graph.tasks] == pytest.approx(expected)
    schedule = s.place(graph, cluster)
    s.verify(schedule, graph, cluster)
    assert schedule.whatif(flops=2).load == pytest.approx(
        5.0 + sum(e - 1 for e in expected[:3]) / 2 + 2.5
    )


def test_a_class_without_a_rate_runs_at_flops_per_s():
    device = s.Device("cpu:0", flops_per_s=10.0, rates={"matmul": 100.0})
    assert device.rate("matmul") == 100.0
    assert device.rate("pooling") == device.rate("") == 10.0
