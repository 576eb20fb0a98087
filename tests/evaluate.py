"""The shortest interpreter there can be, for tests of ops and passes: a graph and its feeds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from raysym.graph import Entry, Graph
from raysym.op import call_kernel


def evaluate(
    graph: Graph, feeds: Mapping[Entry, np.ndarray], seed: int = 0, xp: Any = np
) -> list[np.ndarray]:
    """Values of the graph's outputs, computed with the array library `xp`."""
    values = dict(feeds)
    with np.errstate(all="ignore"):
        for number, node in enumerate(graph.nodes):
            if not node.is_variable:
                rng = np.random.Generator(np.random.Philox(key=[seed, number]))
                made = call_kernel(node.op, xp, [values[e] for e in node.inputs], rng)
                values.update(zip(node.entries(), made, strict=True))
    return [values[entry] for entry in graph.outputs]
