"""Discrete-event simulation of programs: workers run their work in order and send what they make.

Deterministic: equal times are served in order of arrival. Links that share a channel share its
bytes per second, one message after another; latency overlaps. A worker stalls while a channel that
it sends on has `in_flight` messages under way.
"""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass, field
from heapq import heappop, heappush

import numpy as np

from .cluster import Cluster
from .errors import ScheduleError
from .graph import Array


@dataclass(frozen=True)
class Work:
    """One piece of work: an id, seconds, and messages to other pieces (id, bytes).

    It waits for every message that names it; messages to one device travel as one, the largest.
    `grows` bytes are kept when it starts and `frees` given back when it ends.
    """

    id: str
    seconds: float
    sends: tuple[tuple[str, float], ...] = ()
    grows: float = 0.0
    frees: float = 0.0


Program = dict[str, tuple[Work, ...]]  # device name -> work in order


@dataclass(frozen=True)
class Simulation:
    """What happened: rows of (id, start, finish) per device, and the sums over them."""

    rows: dict[str, list[tuple[str, float, float]]]
    peak_memory: dict[str, float]
    link_bytes: dict[tuple[str, str], float]
    channel_busy_s: dict[str, float]
    events: int

    @property
    def makespan(self) -> float:
        """Seconds until the last work is done."""
        return max((row[-1][2] for row in self.rows.values() if row), default=0.0)

    @property
    def bubbles(self) -> dict[str, float]:
        """Idle share of each device over the makespan."""
        whole = self.makespan
        busy = {name: sum(b - a for _, a, b in row) for name, row in self.rows.items()}
        return {name: 1.0 - b / whole if whole > 0 else 0.0 for name, b in busy.items()}


def simulate(
    program: Program,
    cluster: Cluster,
    noise: float = 0.0,
    seed: int = 0,
    in_flight: int | None = None,
) -> Simulation:
    """Run `program`. `noise` is the standard deviation of the log of compute times.

    Raises ScheduleError when workers wait for each other forever, naming who waits for what.
    """
    run = _Run(program, cluster, in_flight)
    if noise > 0:
        run.disturb(noise, np.random.default_rng(seed))
    run.loop()
    return run.result()


@dataclass
class _Channel:
    free: float = 0.0
    busy: float = 0.0
    under_way: int = 0
    stalled: deque[int] = field(default_factory=deque)


_Message = tuple[_Channel, list[str]]
_Route = tuple[_Channel, float, float, list[float]]


class _Run:
    def __init__(self, program: Program, cluster: Cluster, in_flight: int | None) -> None:
        self.cluster = cluster
        self.limit = in_flight if in_flight is not None else 1 << 60
        self.names = list(program)
        self.rows = [list(program[name]) for name in self.names]
        self.device = [cluster.index[name] for name in self.names]
        self.home = {w.id: r for r, row in enumerate(self.rows) for w in row}
        self.seconds = [[w.seconds for w in row] for row in self.rows]
        self.missing: dict[str, int] = defaultdict(int)
        for row in self.rows:
            for work in row:
                for target, _ in work.sends:
                    self.missing[target] += 1
        self.next = [0] * len(self.rows)
        self.idle = [True] * len(self.rows)
        self.started: list[list[float]] = [[] for _ in self.rows]
        self.ended: list[list[float]] = [[] for _ in self.rows]
        self.kept, self.peak = [0.0] * len(self.rows), [0.0] * len(self.rows)
        self.channels: dict[str, _Channel] = {}
        self.routes: dict[tuple[int, int], _Route] = {}
        self.heap: list[tuple[float, int, int, _Message | None]] = []
        self.count = 0

    def disturb(self, noise: float, rng: np.random.Generator) -> None:
        """Multiply every compute time by a log-normal factor of mean 1."""
        for row in self.seconds:
            factors: Array = np.exp(rng.normal(-noise * noise / 2, noise, len(row)))
            row[:] = (np.array(row) * factors).tolist()

    def loop(self) -> None:
        """Serve events in order of time: work that ends, messages that arrive."""
        for rank in range(len(self.rows)):
            self.try_start(rank, 0.0)
        while self.heap:
            now, _, rank, message = heappop(self.heap)
            if message is None:
                self.end(now, rank)
            else:
                self.arrive(now, rank, message)
        if any(n < len(row) for n, row in zip(self.next, self.rows, strict=True)):
            raise ScheduleError(self._deadlock())

    def push(self, time: float, rank: int, message: _Message | None) -> None:
        """Queue an event; the count keeps equal times in order."""
        heappush(self.heap, (time, self.count, rank, message))
        self.count += 1

    def try_start(self, rank: int, now: float) -> None:
        """Start the next work of a rank if it is idle and all inputs are there."""
        at = self.next[rank]
        if not self.idle[rank] or at >= len(self.rows[rank]):
            return
        work = self.rows[rank][at]
        if self.missing[work.id]:
            return
        if work.sends and self.limit < 1 << 60 and self.stalls(rank, work):
            return
        self.idle[rank] = False
        self.started[rank].append(now)
        self.kept[rank] += work.grows
        if self.kept[rank] > self.peak[rank]:
            self.peak[rank] = self.kept[rank]
        self.push(now + self.seconds[rank][at], rank, None)

    def stalls(self, rank: int, work: Work) -> bool:
        """Whether a channel that `work` sends on is full; the rank is then queued there."""
        for target, _ in work.sends:
            other = self.home[target]
            if other != rank:
                channel = self.route(rank, other)[0]
                if channel.under_way >= self.limit:
                    channel.stalled.append(rank)
                    return True
        return False

    def end(self, now: float, rank: int) -> None:
        """Finish the current work of a rank and send its messages, one per device."""
        work = self.rows[rank][self.next[rank]]
        self.ended[rank].append(now)
        self.kept[rank] -= work.frees
        self.next[rank] += 1
        self.idle[rank] = True
        away: dict[int, tuple[list[str], float]] = {}
        for target, nbytes in work.sends:
            other = self.home[target]
            if other == rank:
                self.missing[target] -= 1
            else:
                targets, most = away.get(other, ([], 0.0))
                targets.append(target)
                away[other] = targets, max(most, nbytes)
        for other, (targets, nbytes) in away.items():
            self.send(now, rank, other, targets, nbytes)
        self.try_start(rank, now)

    def send(self, now: float, rank: int, other: int, targets: list[str], nbytes: float) -> None:
        """Put one message on its channel; all readers on the other device get it together."""
        channel, latency, per_byte, total = self.route(rank, other)
        begin = channel.free if channel.free > now else now
        channel.free = begin + nbytes * per_byte
        channel.busy += nbytes * per_byte
        channel.under_way += 1
        total[0] += nbytes
        self.push(channel.free + latency, other, (channel, targets))

    def arrive(self, now: float, rank: int, message: _Message) -> None:
        """Hand a message over; start its readers and the ranks that stalled on its channel."""
        channel, targets = message
        channel.under_way -= 1
        for target in targets:
            self.missing[target] -= 1
        self.try_start(rank, now)
        for stalled in list(channel.stalled):
            channel.stalled.popleft()
            self.try_start(stalled, now)

    def route(self, rank: int, other: int) -> _Route:
        """Channel, latency, seconds per byte and the byte count of a pair of ranks."""
        route = self.routes.get((rank, other))
        if route is None:
            a, b = self.device[rank], self.device[other]
            link = self.cluster.link(self.cluster.devices[a], self.cluster.devices[b])
            name = link.channel or f"{self.names[rank]} -> {self.names[other]}"
            channel = self.channels.setdefault(name, _Channel())
            route = (channel, link.latency_s, 1.0 / link.bytes_per_s, [0.0])
            self.routes[rank, other] = route
        return route

    def _deadlock(self) -> str:
        lines = []
        for name, row, at in zip(self.names, self.rows, self.next, strict=True):
            if at < len(row):
                lines.append(f"{name} waits at {row[at].id} for {self.missing[row[at].id]} inputs")
        return "\n".join(["the simulation stands still:", *lines[:10]])

    def result(self) -> Simulation:
        """Collect the rows and sums."""
        rows = {
            name: [(w.id, a, b) for w, a, b in zip(row, begun, done, strict=True)]
            for name, row, begun, done in zip(
                self.names, self.rows, self.started, self.ended, strict=True
            )
        }
        links = {
            (self.names[a], self.names[b]): t[0] for (a, b), (_, _, _, t) in self.routes.items()
        }
        return Simulation(
            rows=rows,
            peak_memory=dict(zip(self.names, self.peak, strict=True)),
            link_bytes=links,
            channel_busy_s={name: channel.busy for name, channel in self.channels.items()},
            events=self.count,
        )
