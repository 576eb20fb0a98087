"""Order: nodes that shrink memory run as soon as they can, all others stay as they stood.

The gradient of a weight ends the life of a gradient of data; left to the order of the graph it
would run behind all of these.
"""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence

from raysym.graph import Entry, Node

_MOST_NODES = 8  # that are looked at together


def lean_order(
    nodes: Sequence[Node],
    nbytes: Mapping[Entry, int],
    kept: Container[Entry],
    lazy: Container[Node] = (),
) -> list[Node]:
    """`nodes` in an order that respects their inputs.

    Entries `kept` take no part: they live longer than these nodes, or somewhere else. `lazy` nodes
    run when somebody needs them; where there are some, memory is short, and nodes that nobody here
    reads run as soon as they can: their workspace would lie beside what others make meanwhile.
    """
    return _Order(nodes, nbytes, kept, lazy).run(nodes)


class _Order:
    """What has run, what each node waits for, and who still reads each entry."""

    def __init__(
        self,
        nodes: Sequence[Node],
        nbytes: Mapping[Entry, int],
        kept: Container[Entry],
        lazy: Container[Node],
    ) -> None:
        self.nbytes, self.kept, self.lazy = nbytes, kept, lazy
        self.place = {node: i for i, node in enumerate(nodes)}
        self.waits = dict.fromkeys(nodes, 0)
        self.readers: dict[Entry, dict[Node, None]] = {}
        for node in nodes:
            for entry in dict.fromkeys(node.inputs):
                self.readers.setdefault(entry, {})[node] = None
                self.waits[node] += entry.node in self.waits
        self.done: dict[Node, None] = {}

    def run(self, nodes: Sequence[Node]) -> list[Node]:
        for node in nodes:
            if node in self.lazy:
                continue
            ready = [node, *self._missing(node)[::-1]]
            while ready:
                first = ready.pop()
                if first not in self.done:
                    changed = self._emit(first)
                    ready += [n for entry in changed for n in self._shrinking(entry)][::-1]
                    ready += self._ends(first)[::-1]
        return list(self.done)

    def _ends(self, node: Node) -> list[Node]:
        """Who reads a node, can run and is read by nobody, if memory is short."""
        readers = dict.fromkeys(self._readers(node) if self.lazy else ())
        return [n for n in readers if not self.waits[n] and not self._readers(n)]

    def _missing(self, node: Node, most: float = math.inf) -> list[Node]:
        """What must run before a node, in order; some of it when that is more than `most`."""
        found: set[Node] = set()
        stack = [node] if self.waits[node] else []
        while stack and len(found) <= most:
            for entry in stack.pop().inputs:
                before = entry.node
                if before in self.waits and before not in self.done and before not in found:
                    found.add(before)
                    stack.append(before)
        return sorted(found, key=self.place.__getitem__)

    def _emit(self, node: Node) -> list[Entry]:
        """Run a node; the entries whose readers have changed, or are closer to running."""
        self.done[node] = None
        changed = dict.fromkeys(node.inputs)
        for reader in self._readers(node):
            self.waits[reader] -= 1
            changed.update(dict.fromkeys(reader.inputs))
            if not self.waits[reader]:  # it may be a mere step to its own readers
                changed.update((e, None) for after in self._readers(reader) for e in after.inputs)
        for entry in dict.fromkeys(node.inputs):
            del self.readers[entry][node]
        return list(changed)

    def _readers(self, node: Node) -> list[Node]:
        """Who still reads a node, once for each of the entries that it reads."""
        return [r for entry in node.entries() for r in self.readers.get(entry, ())]

    def _shrinking(self, entry: Entry) -> list[Node]:
        """All who still read an entry and what these wait for, if that frees more than it makes."""
        readers = self.readers[entry]
        if not 0 < len(readers) <= _MOST_NODES or entry in self.kept:
            return []
        nodes: dict[Node, None] = {}
        for node in readers:
            nodes.update(dict.fromkeys([*self._missing(node, _MOST_NODES), node]))
        if len(nodes) > _MOST_NODES or any(node in self.lazy for node in nodes):
            return []
        read = {e for node in nodes for e in node.inputs if e.node not in nodes}
        ends = [e for e in read if self.readers[e].keys() <= nodes.keys()]
        made = [e for n in nodes for e in n.entries() if self.readers.get(e, {}).keys() - nodes]
        return list(nodes) if self._size(made) < self._size(ends) else []

    def _size(self, entries: Sequence[Entry]) -> int:
        return sum(self.nbytes[entry] for entry in entries if entry not in self.kept)
