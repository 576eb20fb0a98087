"""Memory planning: what lives at the same time lies apart, little is wasted, order is lean."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import WIDTH, random_symbol

from raysym.graph import Entry, Graph, Node, node_names, split_variables, variable
from raysym.kernels.steps import Buffer, Step, read_buffers, written_buffers
from raysym.kernels.tracing import Trace, trace
from raysym.op import make_op
from raysym.passes.infer import infer
from raysym.passes.memory import ALIGNMENT, Arena, Lifetime, aligned, lower_bound, plan_memory
from raysym.passes.order import lean_order
from raysym.planning.compile import compile_plan
from raysym.planning.lean import Budget
from raysym.planning.step import Bound
from raysym.runtime.linked import LinkedEngines
from raysym.simple_bind import simple_types

LIFETIMES = st.lists(
    st.tuples(st.integers(0, 5000), st.integers(0, 30), st.integers(0, 30)).map(
        lambda t: Lifetime(t[0], min(t[1:]), max(t[1:]))
    ),
    max_size=40,
)


@settings(deadline=None)
@given(LIFETIMES)
def test_live_buffers_never_overlap(buffers: list[Lifetime]) -> None:
    arena = plan_memory(buffers)
    for i, a in enumerate(buffers):
        for j in range(i):
            b = buffers[j]
            if a.first <= b.last and b.first <= a.last:
                first, second = sorted([(arena.offsets[i], i), (arena.offsets[j], j)])
                assert first[0] + aligned(buffers[first[1]].nbytes) <= second[0]


@settings(deadline=None)
@given(LIFETIMES)
def test_buffers_are_aligned_and_inside(buffers: list[Lifetime]) -> None:
    arena = plan_memory(buffers)
    ends = [o + b.nbytes for o, b in zip(arena.offsets, buffers, strict=True)]
    assert all(offset % ALIGNMENT == 0 for offset in arena.offsets)
    assert max(ends, default=0) <= arena.nbytes


@settings(deadline=None)
@given(LIFETIMES)
def test_the_arena_lies_between_the_bound_and_the_sum(buffers: list[Lifetime]) -> None:
    arena = plan_memory(buffers)
    assert lower_bound(buffers) <= arena.nbytes <= sum(aligned(b.nbytes) for b in buffers)


def test_a_chain_needs_two_places() -> None:
    chain = [Lifetime(1000, i, i + 1) for i in range(20)]
    assert plan_memory(chain).nbytes == 2 * aligned(1000)


def test_large_buffers_come_first_and_small_ones_fill_gaps() -> None:
    buffers = [Lifetime(100, 0, 2), Lifetime(300, 1, 3), Lifetime(200, 3, 4), Lifetime(64, 4, 4)]
    assert plan_memory(buffers) == Arena((320, 0, 320, 0), 576)


# ----- whole programs


def steps_of(seed: int, n_nodes: int, memory: str | None) -> tuple[Trace, list[Step]]:
    """A random training step traced, and its steps: forward, backward, what that used up, again."""
    graph = random_symbol(np.random.default_rng(seed), n_nodes, 1).graph
    args, aux = split_variables(graph)
    types = simple_types(graph, args, {"data": (4, WIDTH)}, None)
    known = {Entry(node): types[Entry(node)] for node in (*args, *aux)}
    asked = {Entry(node): "write" for node in args}
    bound = Bound(graph, node_names(graph), known, infer(graph, known), asked)
    budget = Budget(memory, LinkedEngines().work_bytes) if memory else None
    placement = dict.fromkeys(graph.nodes, "cpu:0")
    plan = compile_plan(bound, placement, "training", budget=budget)[1]
    found = trace(plan.programs["cpu:0"], plan.types, list(plan.homes))
    once = [step for steps in found.phases.values() for step in steps]
    again = [once[clock] for clock in found.again.get("backward", ())]
    return found, [*once, *again, *found.phases.get("backward", ())]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 20), st.sampled_from([None, "minimal"]))
def test_every_step_reads_what_was_written_for_it(
    seed: int, n_nodes: int, memory: str | None
) -> None:
    found, steps = steps_of(seed, n_nodes, memory)
    planned = found.planned()
    arena = plan_memory([buffer.lifetime for buffer in planned])
    offsets = dict(zip(planned, arena.offsets, strict=True))
    lines: list[Buffer | None] = [None] * (arena.nbytes // ALIGNMENT)

    def place(buffer: Buffer) -> range:
        start = offsets[buffer.owner()] // ALIGNMENT
        return range(start, start + aligned(buffer.nbytes) // ALIGNMENT)

    for step in steps:
        for buffer in read_buffers(step):
            assert buffer.home or all(lines[i] is buffer for i in place(buffer))
        for buffer in written_buffers(step):
            for i in () if buffer.home else place(buffer):
                lines[i] = buffer


def test_some_results_take_the_place_of_operands() -> None:
    found, _ = steps_of(3, 20, None)
    assert any(buffer.shares is not None for buffer in found.buffers)


# ----- the order in which nodes run


def order(heads: list[Entry], sizes: dict[str, int], lazy: tuple[str, ...] = ()) -> list[str]:
    nodes = [node for node in Graph.of(heads).nodes if not node.is_variable]
    nbytes = {entry: sizes.get(n.name, 1) for n in nodes for entry in n.entries()}
    kept = {entry for n in nodes for entry in n.inputs if entry.node.is_variable}
    made = lean_order(nodes, nbytes, kept, {n for n in nodes if n.name in lazy})
    assert sorted(n.name for n in made) == sorted(n.name for n in nodes)
    return [node.name for node in made]


def node(name: str, *inputs: Entry) -> Entry:
    op = make_op("add_n", {"num_args": len(inputs)})
    return Entry(Node(op, name, inputs))


def test_the_last_reader_of_a_large_value_runs_at_once() -> None:
    x = variable("x")
    dy = node("dy", x)
    dx = node("dx", dy)
    before = node("before", dx)
    weight = node("weight", dy)
    sizes = {"dy": 10, "dx": 10, "before": 10}
    assert order([before, weight], sizes) == ["dy", "dx", "weight", "before"]


def test_steps_on_the_way_come_along() -> None:
    x = variable("x")
    dy = node("dy", x)
    before = node("before", node("dx", dy))
    weight = node("weight", dy, node("flat", x))
    bias = node("bias", dy)
    sizes = {"dy": 10, "dx": 10, "before": 10, "flat": 3}
    assert order([before, weight, bias], sizes) == ["dy", "dx", "flat", "weight", "bias", "before"]


def test_lazy_nodes_run_when_they_are_needed() -> None:
    x = variable("x")
    again = node("again", x)
    use = node("use", again, node("first", x))
    assert order([again, use], {}, ("again",)) == ["first", "again", "use"]


def test_what_nobody_reads_runs_at_once_where_memory_is_short() -> None:
    x = variable("x")
    dy = node("dy", x, node("again", x))
    before = node("before", node("dx", dy))
    weight = node("weight", dy)
    sizes = {"dy": 10, "dx": 20, "before": 10}
    short = ["again", "dy", "weight", "dx", "before"]
    assert order([before, weight], sizes, ("again",)) == short
    assert order([before, weight], sizes) == ["again", "dy", "dx", "weight", "before"]
