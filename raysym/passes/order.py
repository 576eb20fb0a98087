"""Order: nodes that shrink memory run as soon as they can, all others stay as they stood.

The gradient of a weight ends the life of a gradient of data; left to the order of the graph it
would run behind all of these.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence

from raysym.graph import Entry, Node

_MOST_READERS = 8


def lean_order(
    nodes: Sequence[Node],
    nbytes: Mapping[Entry, int],
    kept: Container[Entry],
    lazy: Container[Node] = (),
) -> list[Node]:
    """`nodes` in an order that respects their inputs.

    Entries `kept` take no part: they live longer than these nodes, or somewhere else. `lazy` nodes
    run when somebody needs them.
    """
    return _Order(nodes, nbytes, kept).run(nodes, lazy)


class _Order:
    """What has run, what each node waits for, and who still reads each entry."""

    def __init__(
        self, nodes: Sequence[Node], nbytes: Mapping[Entry, int], kept: Container[Entry]
    ) -> None:
        self.nbytes, self.kept = nbytes, kept
        self.waits = dict.fromkeys(nodes, 0)
        self.readers: dict[Entry, dict[Node, None]] = {}
        for node in nodes:
            for entry in dict.fromkeys(node.inputs):
                self.readers.setdefault(entry, {})[node] = None
                self.waits[node] += entry.node in self.waits
        self.done: dict[Node, None] = {}

    def run(self, nodes: Sequence[Node], lazy: Container[Node]) -> list[Node]:
        for node in nodes:
            if node in lazy:
                continue
            ready = [node, *self._missing(node)]
            while ready:
                first = ready.pop()
                if first not in self.done:
                    changed = self._emit(first)
                    ready += [n for entry in changed for n in self._shrinking(entry)][::-1]
        return list(self.done)

    def _missing(self, node: Node) -> list[Node]:
        """What must run before a node, last things first."""
        if not self.waits[node]:
            return []
        found: dict[Node, None] = {}
        stack = [entry.node for entry in node.inputs]
        while stack:
            before = stack.pop()
            if before in self.waits and before not in self.done:
                found.pop(before, None)  # behind all who wait for it
                found[before] = None
                stack += [entry.node for entry in before.inputs]
        return list(found)

    def _emit(self, node: Node) -> list[Entry]:
        """Run a node; the entries whose readers have changed, or are closer to running."""
        self.done[node] = None
        changed = dict.fromkeys(node.inputs)
        for entry in node.entries():
            for reader in self.readers.get(entry, ()):
                self.waits[reader] -= 1
                changed.update(dict.fromkeys(reader.inputs))
        for entry in dict.fromkeys(node.inputs):
            del self.readers[entry][node]
        return list(changed)

    def _shrinking(self, entry: Entry) -> list[Node]:
        """All who still read an entry, if they can run and free more than they make."""
        group = self.readers[entry]
        if not 0 < len(group) <= _MOST_READERS or entry in self.kept:
            return []
        if any(self.waits[node] for node in group):
            return []
        read = {e for node in group for e in node.inputs}
        ends = [e for e in read if self.readers[e].keys() <= group.keys()]
        made = [e for node in group for e in node.entries() if self.readers.get(e)]
        return list(group) if self._size(made) < self._size(ends) else []

    def _size(self, entries: Sequence[Entry]) -> int:
        return sum(self.nbytes[entry] for entry in entries if entry not in self.kept)
