"""Masks behind max pooling: what is zeroed where data is not positive is zeroed window by window.

The gradient of relu before max pooling multiplies with the mask ``y > 0``. Of a window, only its
maximum gets any gradient, so the mask of the maxima does the same on far fewer numbers; and nobody
reads the data after the gradient of the pooling, which may then take its place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any, cast

from raysym.graph import Entry, Graph, Node, apply
from raysym.ops.pooling import Pool


def mask_maxima(graph: Graph, old_of: dict[Node, Node]) -> Graph:
    """``pool_gradient(g, y) * (y > 0)`` becomes ``pool_gradient(g * (max y > 0), y)``.

    No number changes, but zeros may lose their sign.
    """
    uses = Counter([*(e for node in graph.nodes for e in node.inputs), *graph.outputs])
    maxima: dict[Hashable, Entry] = {}

    def visit(node: Node, inputs: tuple[Entry, ...]) -> Sequence[Entry]:
        spread = _spread_of(node, inputs)
        if spread is not None and uses[node.inputs[0]] == 1:
            head, data = spread.inputs
            found = maxima.get(_geometry(spread, data))
            if found is not None:
                mask = apply("_greater_scalar", found, scalar=0.0)
                masked = apply("elemwise_mul", head, mask)
                return spread.with_inputs((masked, data)).entries()
        kept = node.with_inputs(inputs)
        if _is(kept, "Pooling") and cast(Any, kept.op).pool_type == "max":
            maxima[_geometry(kept, inputs[0])] = Entry(kept)
        return kept.entries()

    return graph.map(visit, old_of)


def _spread_of(node: Node, inputs: Sequence[Entry]) -> Node | None:
    """The pooling's gradient that a node masks by the sign of the pooling's data, or None."""
    if not _is(node, "elemwise_mul"):
        return None
    spread, mask = (entry.node for entry in inputs)
    if not (_is(spread, "_backward_Pooling_max") and _is(mask, "_greater_scalar")):
        return None
    is_sign = vars(mask.op)["scalar"] == 0 and mask.inputs[0] == spread.inputs[1]
    return spread if is_sign else None


def _is(node: Node, name: str) -> bool:
    return not node.is_variable and node.op.name == name


def _geometry(node: Node, data: Entry) -> Hashable:
    return tuple(sorted(cast(Pool, node.op).given_geometry().items())), data
