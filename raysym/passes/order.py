"""Order: nodes that shrink memory run as soon as they can, all others stay as they stood.

The gradient of a weight ends the life of a gradient of data; left to the order of the graph it
would run behind all of these.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence

from raysym.graph import Entry, Node


def lean_order(
    nodes: Sequence[Node], nbytes: Mapping[Entry, int], kept: Container[Entry]
) -> list[Node]:
    """`nodes` in an order that respects their inputs.

    Entries `kept` take no part: they live longer than these nodes, or somewhere else.
    """
    return _Order(nodes, nbytes, kept).run(nodes)


class _Order:
    """What has run, what each node waits for, and who still reads each entry."""

    def __init__(
        self, nodes: Sequence[Node], nbytes: Mapping[Entry, int], kept: Container[Entry]
    ) -> None:
        self.nbytes, self.kept = nbytes, kept
        self.waits = {node: 0 for node in nodes}
        self.readers: dict[Entry, dict[Node, None]] = {}
        for node in nodes:
            for entry in dict.fromkeys(node.inputs):
                self.readers.setdefault(entry, {})[node] = None
                self.waits[node] += entry.node in self.waits
        self.done: dict[Node, None] = {}

    def run(self, nodes: Sequence[Node]) -> list[Node]:
        for node in nodes:
            ready = [node]
            while ready:
                first = ready.pop()
                if first not in self.done and (first is node or self._shrinks(first)):
                    ready += self._emit(first)[::-1]
        return list(self.done)

    def _emit(self, node: Node) -> list[Node]:
        """Run a node; those whose prospects have changed."""
        self.done[node] = None
        touched: dict[Node, None] = {}
        for entry in node.entries():
            for reader in self.readers.get(entry, ()):
                self.waits[reader] -= 1
                touched[reader] = None
        for entry in dict.fromkeys(node.inputs):
            left = self.readers[entry]
            del left[node]
            if len(left) == 1:
                touched.update(left)
        return list(touched)

    def _shrinks(self, node: Node) -> bool:
        if self.waits[node]:
            return False
        ends = [e for e in dict.fromkeys(node.inputs) if len(self.readers[e]) == 1]
        made = [e for e in node.entries() if self.readers.get(e)]
        return self._size(made) < self._size(ends)

    def _size(self, entries: Sequence[Entry]) -> int:
        return sum(self.nbytes[entry] for entry in entries if entry not in self.kept)
