"""The acyclic multilevel partitioner: acyclic, balanced, deterministic, and with small cuts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import scheduler as s
from scheduler.partitioning import partition
from scheduler.partitioning.levels import Level, contract, depth_first_runs


def grid(rows, columns):
    at = np.arange(rows * columns).reshape(rows, columns)
    src = np.concatenate([at[:, :-1].ravel(), at[:-1].ravel()])
    dst = np.concatenate([at[:, 1:].ravel(), at[1:].ravel()])
    return rows * columns, src, dst


def windowed(n, span, seed):
    rng = np.random.default_rng(seed)
    dst = np.repeat(np.arange(1, n), 2)
    src = dst - 1 - (rng.random(dst.size) * np.minimum(dst, span)).astype(np.int64)
    return n, src, dst


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 300), span=st.integers(1, 300), k=st.integers(1, 9), seed=st.integers(0, 9))
def test_parts_are_monotone_so_their_quotient_is_acyclic(n, span, k, seed):
    n, src, dst = windowed(n, span, seed)
    found = partition(n, src, dst, k, coarsest=40)
    assert found.part.shape == (n,)
    assert (found.part[src] <= found.part[dst]).all()
    assert found.part.min() >= 0
    assert found.part.max() < k
    assert found.cut == (found.part[src] != found.part[dst]).sum()


@pytest.mark.parametrize("graph", [grid(60, 80), windowed(5000, 50, 1), windowed(5000, 5000, 2)])
def test_parts_are_balanced_and_repeatable(graph):
    n, src, dst = graph
    found = partition(n, src, dst, 8)
    assert np.bincount(found.part, minlength=8).max() <= 1.05 * n / 8
    assert (partition(n, src, dst, 8).part == found.part).all()


def test_the_cut_of_a_grid_is_near_the_best_blocks():
    # 2 x 4 blocks of a 64 x 64 grid cut 64 + 3 * 64 edges
    n, src, dst = grid(64, 64)
    assert partition(n, src, dst, 8).cut <= 1.2 * 256


def test_a_cut_beats_random_topological_cuts_by_far():
    n, src, dst = windowed(4000, 4000, 3)
    rng = np.random.default_rng(0)
    rank = np.zeros(n)
    noise = rng.random(n)
    for a, b in sorted(zip(src.tolist(), dst.tolist(), strict=True)):
        rank[b] = max(rank[b], rank[a] + noise[a])
    part = np.empty(n, dtype=np.int64)
    part[np.argsort(rank, kind="stable")] = np.arange(n) * 8 // n
    assert partition(n, src, dst, 8).cut < 0.7 * (part[src] != part[dst]).sum()


def test_weights_of_nodes_and_edges_count():
    src, dst = np.array([0, 1, 2]), np.array([1, 2, 3])
    found = partition(4, src, dst, 2, node_weight=np.array([3.0, 1, 1, 1]))
    assert found.part.tolist() == [0, 1, 1, 1]
    dear = partition(4, src, dst, 2, edge_weight=np.array([1.0, 9, 1]), slack=0.5)
    assert dear.cut == 1.0


def test_an_edge_against_the_order_is_refused():
    with pytest.raises(s.ScheduleError, match="edge 2 -> 1 runs against the order"):
        partition(3, np.array([0, 2]), np.array([1, 1]), 2)


def test_runs_are_intervals_of_a_topological_order():
    n, src, dst = windowed(500, 20, 4)
    level = Level(n, src, dst, np.ones(src.size), np.ones(n))
    runs = depth_first_runs(level, 4, 1e9)
    assert (runs[src] <= runs[dst]).all()
    assert np.bincount(runs).max() <= 4
    coarse = contract(level, runs)
    assert (coarse.src < coarse.dst).all()
    assert coarse.edge_weight.sum() == (runs[src] != runs[dst]).sum()
    assert coarse.node_weight.sum() == n


def test_multilevel_policy_keeps_gradients_with_their_forwards():
    n = 400
    tasks = [s.Task(f"f{i}", flops=1e9) for i in range(n)]
    tasks += [s.Task(f"g{i}", flops=2e9, together=f"f{i}") for i in reversed(range(n))]
    edges = [(f"f{i}", f"f{i + 1}", 1e3) for i in range(n - 1)]
    edges += [(f"g{i + 1}", f"g{i}", 1e3) for i in range(n - 1)]
    edges += [(f"f{i}", f"g{i}", 1e3) for i in range(n)]
    graph, cluster = s.TaskGraph(tuple(tasks), tuple(edges)), s.Cluster.uniform(4)
    schedule = s.place(graph, cluster, "multilevel")
    s.verify(schedule, graph, cluster, contiguous=True)
    assert schedule.gap < 0.05
