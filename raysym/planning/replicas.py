"""Replicas: the same step on several groups of workers, each with its part of the batch.

Each replica has its rows of data, label and outputs, and a copy of all parameters, so that nobody
waits for anybody before the first gradient is there. See `layout` for who holds what, `reduction`
for gradients and updates, `relay` for states that a forward pass changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from raysym.planning.layout import Layout, replica_names
from raysym.planning.plan import Instruction, Plan, Program, Recv, Run, Send
from raysym.planning.reduction import Reduction
from raysym.planning.relay import Relay
from raysym.planning.unroll import Piece, Unrolling

Bodies = dict[str, list[Instruction]]  # by worker


def replicate(
    unrolling: Unrolling,
    layout: Layout,
    rows: Mapping[str, Sequence[Piece]],
    updates: Mapping[str, Sequence[Run]],
) -> Bodies:
    """The programs of all replicas, by worker; `rows` are the pieces of one replica, `updates`
    the optimizer's runs by worker."""
    found, parts = [], []
    for r in range(layout.n):
        found.append(unrolling.bodies(rows, r * unrolling.size))
        parts.append(unrolling.parts)
    done: Bodies = {}
    for worker, row in rows.items():
        bodies = [_renamed(layout, body[worker], r) for r, body in enumerate(found)]
        relay = Relay(unrolling, layout, worker, {piece.phase for piece in row})
        bodies = _brought_together(bodies, relay, Reduction(unrolling, layout, worker), parts)
        bodies = Reduction(unrolling, layout, worker).updated(bodies, updates.get(worker, ()))
        done |= {layout.names[r][worker]: body for r, body in enumerate(bodies)}
    return done


def with_replicas(plan: Plan, workers: Sequence[str], n_replicas: int) -> Plan:
    """The plan with all workers of all replicas, since workers start before they have work."""
    rows = replica_names(workers, n_replicas)
    every: dict[str, Mapping[str, Program]] = {name: {} for row in rows for name in row.values()}
    return replace(plan, programs={**every, **plan.programs})


def _brought_together(
    bodies: list[list[Instruction]],
    relay: Relay,
    reduction: Reduction,
    parts: Sequence[Mapping[str, list[str]]],
) -> list[list[Instruction]]:
    """States handed on, gradients added up."""
    if len(bodies) == 1:
        return bodies
    split = [relay.split(body, r) for r, body in enumerate(bodies)]
    # Gradients that wait for states of other replicas are added when all is done.
    at_end = any(reduction.is_store(x) for _, late in split for x in late)
    bodies = [[*done, *late] for done, late in split]
    if at_end:
        relay.pass_on(bodies)
        return reduction.weave(bodies, parts, at_end)
    bodies = reduction.weave(bodies, parts, at_end)
    relay.pass_on(bodies)
    return bodies


def _renamed(layout: Layout, body: Sequence[Instruction], r: int) -> list[Instruction]:
    """The body with the names of a replica's workers and of what they hold."""
    names = layout.names[r]

    def own(entries: Sequence[str]) -> tuple[str, ...]:
        return tuple(layout.local(entry, r) for entry in entries)

    done: list[Instruction] = []
    for instruction in body:
        match instruction:
            case Send(entry, to):
                done.append(Send(layout.local(entry, r), names[to]))
            case Recv(entry, source):
                done.append(Recv(layout.local(entry, r), names[source]))
            case Run(outs, op, args):
                done.append(Run(own(outs), op, own(args)))
    return done
