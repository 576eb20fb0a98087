"""Links: which transport connects each pair of endpoints, and how large their rings must be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from raysym.context import Context
from raysym.errors import MXNetError, PlacementError, in_words, sentence
from raysym.planning.plan import Plan, Send
from raysym.runtime.orders import DRIVER
from raysym.runtime.transport import OBJECT_REF, OBJECT_STORE, TRANSPORTS, Address, choose
from raysym.runtime.transport.protocol import INLINE_NBYTES, SLOTS

# Arrays between driver and worker go through rings of at most this much, in pieces if larger.
DRIVER_RING_NBYTES = 4 << 20
STORE_SHARE = 0.8  # of a node's object store may be rings

# (sender, receiver) -> slots and bytes per slot
Rings: TypeAlias = dict[tuple[str, str], tuple[int, int]]
# One transport for all workers, or by pair of workers; what is not named is chosen.
Wanted: TypeAlias = str | Mapping[frozenset[str], str] | None


def wanted_transports(given: Any) -> Wanted:
    """What a user asked for: a transport, or transports by pair of contexts; MXNetError if not."""
    if not isinstance(given, Mapping):
        return None if given is None else _known(given, "transport")
    found: dict[frozenset[str], str] = {}
    for pair, transport in given.items():
        known = found.setdefault(_pair(pair), _known(transport, f"transport of {pair}"))
        if known != transport:
            raise MXNetError(sentence(f"transport of {pair}", transport, f"{known} either way"))
    return found


def _known(transport: Any, what: str) -> str:
    if transport not in TRANSPORTS:
        raise MXNetError(sentence(what, repr(transport), f"one of {in_words(TRANSPORTS)}"))
    return str(transport)


def _pair(given: Any) -> frozenset[str]:
    ends = given if isinstance(given, tuple) else ()
    if len(ends) != 2 or not all(isinstance(end, Context) for end in ends) or ends[0] == ends[1]:
        raise MXNetError(sentence("transport by pair", repr(given), "two different contexts"))
    return frozenset(end.worker for end in ends)


@dataclass(frozen=True)
class Links:
    """The transport of each ordered pair of endpoints, and the node of each endpoint."""

    transports: Mapping[tuple[str, str], str] = field(default_factory=dict)
    nodes: Mapping[str, str] = field(default_factory=dict)

    @staticmethod
    def between(addresses: Mapping[str, Address], driver: Address, wanted: Wanted) -> Links:
        """Choose by node, or take the transport that is `wanted`.

        PlacementError where that is not possible, or a pair is wanted that is none of workers.
        """
        ends = {**addresses, DRIVER: driver}
        for pair in wanted if isinstance(wanted, Mapping) else ():
            if not pair <= set(addresses):
                expected = f"two of {in_words(addresses)}"
                raise PlacementError(sentence("transport by pair", sorted(pair), expected))
        found: dict[tuple[str, str], str] = {}
        for a in ends:
            for b in ends:
                found[a, b] = _transport(a, b, choose(ends[a], ends[b]), wanted)
        return Links(found, {name: end.node for name, end in ends.items()})

    def to_driver(self, worker: str) -> str:
        """The transport between the driver and a worker."""
        return self.transports[worker, DRIVER]

    def calls(
        self, addresses: Mapping[str, Address]
    ) -> dict[str, tuple[dict[str, tuple[Address, str]], int]]:
        """For each worker: whom it opens channels to, and how many others open one to it."""
        names = list(addresses)
        found = {}
        for i, name in enumerate(names):
            targets = {
                peer: (addresses[peer], self.transports[name, peer])
                for peer in names[:i]
                if self.transports[name, peer] != OBJECT_REF
            }
            callers = sum(self.transports[name, p] != OBJECT_REF for p in names[i + 1 :])
            found[name] = targets, callers + 1  # the driver calls as well
        return found

    def by_mail(self) -> list[tuple[str, str]]:
        """Ordered pairs of workers that exchange arrays by actor calls."""
        return [(a, b) for (a, b), how in self.transports.items() if how == OBJECT_REF and a != b]


def _transport(a: str, b: str, fits: str, wanted: Wanted) -> str:
    if isinstance(wanted, Mapping):
        wanted = wanted.get(frozenset((a, b)))
    if wanted is None or (wanted == OBJECT_REF and DRIVER in (a, b)):  # the driver is no actor
        return fits
    if wanted == OBJECT_STORE and fits != OBJECT_STORE:
        raise PlacementError(f"transport 'object_store': {a} and {b} are on different nodes")
    return wanted


def link_plan(plan: Plan, links: Links) -> Plan:
    """The plan with the transport of each edge that it uses."""
    used = {(w, i.to): 0 for w, i in _sends(plan)}
    return replace(plan, links={edge: links.transports[edge] for edge in used})


def _sends(plan: Plan) -> Iterable[tuple[str, Send]]:
    for worker, phases in plan.programs.items():
        for body in phases.values():
            yield from ((worker, i) for i in body if type(i) is Send)


def ring_sizes(plan: Plan, links: Links, held: Rings, room: Mapping[str, float]) -> Rings:
    """The rings that the plan needs and that are not there yet, large enough for its messages.

    PlacementError when the rings do not fit into a node's object store.
    """
    largest: dict[tuple[str, str], int] = {}
    for worker, send in _sends(plan):
        edge = worker, send.to
        largest[edge] = max(largest.get(edge, 0), plan.types[send.entry].nbytes)
    for entry, home in plan.homes.items():
        nbytes = min(plan.types[entry].nbytes, DRIVER_RING_NBYTES)
        for edge in ((DRIVER, home), (home, DRIVER)):
            largest[edge] = max(largest.get(edge, 0), nbytes)
    needed: Rings = {}
    for edge, nbytes in largest.items():
        is_large = nbytes > INLINE_NBYTES and links.transports[edge] == OBJECT_STORE
        if is_large and held.get(edge, (0, 0))[1] < nbytes:
            needed[edge] = SLOTS, -(-nbytes // 64) * 64  # rows stay aligned for vector loads
    _check_room({**held, **needed}, links, room)
    return needed


def _check_room(rings: Rings, links: Links, room: Mapping[str, float]) -> None:
    used: dict[str, int] = {}
    for (source, _), (slots, nbytes) in rings.items():
        node = links.nodes[source]
        used[node] = used.get(node, 0) + slots * nbytes
    for node, nbytes in used.items():
        limit = room.get(node, float("inf")) * STORE_SHARE
        if nbytes > limit:
            biggest: Any = max(rings, key=lambda edge: rings[edge][1])
            raise PlacementError(
                f"object store of node {node[:8]}: the rings need {nbytes} bytes, expected at "
                f"most {limit:.0f}. Largest: {biggest[0]} to {biggest[1]}, "
                f"{SLOTS} slots of {rings[biggest][1]} bytes"
            )
