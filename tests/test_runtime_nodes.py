"""Several nodes: edges within one and between two in one plan, and the death of one of them.

Two raylets on this machine, and a driver in a process of its own; see `two_nodes`.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from on_nodes import (
    Ran,
    listeners,
    node_lost,
    pipeline,
    refusal,
    replicas,
    stages,
    wide,
    worker_killed,
)
from two_nodes import CPUS, OTHER, There, kernels_of_both, kill_other, remove_other

import raysym as mx
from raysym.planning.plan import Plan, Send, parse

pytestmark = [pytest.mark.ray, pytest.mark.cluster]
WITHIN, BETWEEN = "object_store", "socket"


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[There]:
    process = There(tmp_path_factory.mktemp("nodes"))
    yield process
    process.close()


def assert_edges_follow_nodes(ran: Ran, n_each: int) -> Plan:
    """Both nodes have so many workers; memory links those of one node, a socket those of two."""
    hosts = [host for name, host in ran.hosts.items() if name != "driver"]
    assert len(set(hosts)) == 2
    assert all(hosts.count(host) == n_each for host in hosts)
    plan = parse(ran.plan)
    for (a, b), how in plan.links.items():
        assert how == (WITHIN if ran.hosts[a] == ran.hosts[b] else BETWEEN), (a, b)
    assert {*plan.links.values()} == {WITHIN, BETWEEN}
    return plan


# ----- the same bits


@pytest.mark.parametrize(
    ("n_each", "n", "schedule", "kernels"),
    [
        (2, 4, "1f1b", "generated"),
        (2, 8, "zero_bubble_h1", "reference"),
        (3, 2, "zero_bubble_free", "reference"),
        (3, 4, "gpipe", "generated"),
    ],
)
def test_pipelines_give_the_bits_of_one_process(
    there: There, n_each: int, n: int, schedule: str, kernels: str
) -> None:
    where = {"micro_batches": n, "schedule": schedule, "kernels": kernels}
    ran = there(pipeline, (n_each, n_each), **where)
    assert_edges_follow_nodes(ran, n_each)
    cpu0 = ran.plan.partition("  step:")[0]
    assert f"link  -> cpu:1 {WITHIN}" in cpu0
    assert f"link  -> cpu:{2 * n_each - 1} {BETWEEN}" in cpu0
    if kernels == "generated":
        assert len(there(kernels_of_both)) > 2  # kernels, not only the files for claims and sizes


def test_pairs_of_workers_have_the_transport_that_is_wanted(there: There) -> None:
    wanted = {(mx.cpu(0), mx.cpu(1)): "socket", (mx.cpu(1), mx.cpu(2)): "object_ref"}
    links = parse(there(pipeline, (2, 2), micro_batches=2, transport=wanted).plan).links
    assert {links["cpu:0", "cpu:1"], links["cpu:1", "cpu:0"]} == {"socket"}
    assert {links["cpu:1", "cpu:2"], links["cpu:2", "cpu:1"]} == {"object_ref"}
    assert {links["cpu:2", "cpu:3"], links["cpu:3", "cpu:2"]} == {WITHIN}
    assert {links["cpu:0", "cpu:3"], links["cpu:3", "cpu:0"]} == {BETWEEN}


@pytest.mark.parametrize("kernels", ["reference", "generated"])
def test_arrays_of_any_size_stay_and_cross(there: There, kernels: str) -> None:
    """The driver hands out and takes 9.6 MB, which its rings carry in pieces."""
    plan = assert_edges_follow_nodes(there(wide, kernels), 2)
    sizes: dict[str, set[int]] = {WITHIN: set(), BETWEEN: set()}
    for worker, programs in plan.programs.items():
        for send in (i for body in programs.values() for i in body if type(i) is Send):
            sizes[plan.links[worker, send.to]].add(plan.types[send.entry].nbytes)
    for found in sizes.values():
        assert found >= {4 * 4, 4 * 4 * 4096, 4 * 4 * 300_000}


@pytest.mark.parametrize(
    ("n", "optimizer", "kernels"),
    [(2, "sgd_mom_update", "generated"), (3, "adam_update", "reference")],
)
def test_replicas_with_updates_give_the_bits_of_one_process(
    there: There, n: int, optimizer: str, kernels: str
) -> None:
    ran = there(replicas, n, optimizer, kernels=kernels, micro_batches=2)
    assert_edges_follow_nodes(ran, n)


# ----- placement


@pytest.mark.parametrize(("first", "other"), [(1, 3), (3, 1), (0, 3)])
def test_workers_go_where_cpus_are(there: There, first: int, other: int) -> None:
    """Also all to the node where the driver is not."""
    hosts = dict(there(pipeline, (first, other)).hosts)
    driver = hosts.pop("driver")
    assert driver != OTHER
    assert [*hosts.values()].count(driver) == first
    assert [*hosts.values()].count(OTHER) == other


def test_workers_that_do_not_fit_are_refused(there: There) -> None:
    why, left = there(refusal, 1, group2ctx=stages(4))
    assert "the cluster cannot hold the workers cpu:0, cpu:1, cpu:2, cpu:3" in why
    assert "need {'CPU': 4.0, 'GPU': 0.0}, free are 2" in why
    assert left == 0


def test_workers_on_gpus_that_no_node_has_are_refused(there: There) -> None:
    why, left = there(refusal, CPUS, group2ctx={**stages(4), "g3": mx.gpu(1)})
    assert why == "gpu:1: the Ray cluster has 0 GPUs, expected 1"
    assert left == 0


@pytest.mark.parametrize("wanted", [WITHIN, {(mx.cpu(0), mx.cpu(3)): WITHIN}])
def test_memory_of_one_node_is_refused_between_two(there: There, wanted: Any) -> None:
    why, left = there(refusal, 2, group2ctx=stages(4), transport=wanted)
    assert "transport 'object_store'" in why
    assert "on different nodes" in why
    assert left == 0


def test_ports_are_open_at_the_nodes_address_until_all_have_met(there: There) -> None:
    found = there(listeners)
    assert set(found.hosts.values()) == {OTHER, found.hosts["driver"]}
    for name, ports in {**found.workers, "driver": found.driver}.items():
        addresses: dict[int, Any] = dict(ports)
        assert len(ports) == len(addresses) == 2
        host, port = addresses[socket.AF_INET]
        assert host == found.hosts[name]
        assert port > 0
        assert addresses[socket.AF_UNIX].startswith(b"\0raysym-")  # of no file
    assert found.afterwards == [[]] * 5


# ----- death


@pytest.mark.parametrize(("seed", "transport"), [(0, None), (1, None), (2, "object_ref")])
def test_a_worker_killed_on_the_other_node_is_named(
    there: There, seed: int, transport: str | None
) -> None:
    end = there(worker_killed, seed, transport)
    [victim] = end.victims
    assert end.error == f"worker {victim} died"
    assert end.later == f"this executor cannot go on: worker {victim} died"
    assert end.left == []


@pytest.mark.parametrize(("seed", "lose"), [(0, kill_other), (1, remove_other)])
def test_the_loss_of_a_node_is_told_with_the_name_of_one_of_its_workers(
    there: There, seed: int, lose: Callable[[], None]
) -> None:
    end, ran = there(node_lost, seed, lose)
    assert end.error in [f"worker {name} died" for name in end.victims]
    assert end.later == f"this executor cannot go on: {end.error}"
    assert end.left == []
    assert_edges_follow_nodes(ran, CPUS)
