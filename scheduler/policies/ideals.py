"""split(): the best contiguous split by largest load, exact where the graph's ideals are few."""

from __future__ import annotations

from scheduler.bounds import Bound
from scheduler.cluster import Cluster
from scheduler.errors import ScheduleError
from scheduler.graph import TaskGraph
from scheduler.schedule import Schedule
from scheduler.splitting.problem import pose
from scheduler.splitting.search import NORMAL, Effort, best_split, place_pieces
from scheduler.text import nbytes
from scheduler.timeline import from_placement
from scheduler.units import condense, largest


def split(
    graph: TaskGraph | tuple[TaskGraph, Cluster],
    cluster: Cluster | None = None,
    effort: Effort = NORMAL,
) -> Schedule:
    """A contiguous split with the smallest largest load; `graph` may be an Instance (graph,
    cluster).

    The devices' forward parts can be ordered so that edges only go to later devices; a task tied to
    another (`together` = its id) sits with it. The bound is over contiguous splits. Raises
    ScheduleError when no contiguous split fits the devices' memory and pins.
    """
    graph, cluster = graph if isinstance(graph, tuple) else (graph, cluster)
    if cluster is None:
        raise ScheduleError("split needs a cluster: got none")
    problem, translation = pose(graph, cluster, condense(graph, cluster))
    found = best_split(problem, effort)
    if found is None:
        raise ScheduleError(
            f"no contiguous split fits: the tasks keep {nbytes(float(graph.memory.sum()))}, the "
            f"devices have {', '.join(f'{d.name} {nbytes(d.memory)}' for d in cluster.devices)}. "
            f"Largest kept: {largest(graph, list(range(len(graph))))}"
        )
    reason = (
        "every contiguous split searched" if found.exact else "contiguous splits below searched"
    )
    where = place_pieces(translation, found.types, found.piece)
    bound = Bound(found.proved, reason)
    return from_placement(graph, cluster, where, "ideals", "load", bound)
