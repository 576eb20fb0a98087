"""Device, Link and Cluster: what a machine can do, and what a task or a transfer costs on it.

A Cluster is one cost model; `measured` overrides its formulas with seconds from a profile.
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from .errors import ScheduleError
from .graph import Array, Part, Task, TaskGraph

Profile = Mapping[str, float | Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Device:
    """One place of execution: `flops_per_s`, `bytes_per_s` (its memory), `memory` in bytes.

    `rates` are flop/s by kernel class; a class that is not there runs at `flops_per_s`.
    `overhead_s` is spent once per kernel call, whatever its size. `pays_transfers`: moving values
    in and out takes this device's own time (false for a host whose memory is where they lie).
    """

    name: str
    kind: str = "cpu"
    flops_per_s: float = 5e10
    bytes_per_s: float = 1e10
    memory: float = math.inf
    overhead_s: float = 1e-6
    pays_transfers: bool = True
    rates: Mapping[str, float] = field(default_factory=dict, hash=False)

    def rate(self, kind: str) -> float:
        """Operations per second in kernels of one class."""
        return self.rates.get(kind, self.flops_per_s)

    def call_s(self, call: Part) -> float:
        """Seconds of one kernel call: its overhead and a roofline."""
        busy = max(call.flops / self.rate(call.kind), call.nbytes / self.bytes_per_s)
        return self.overhead_s + busy


@dataclass(frozen=True, slots=True)
class Link:
    """Transfers from `a` to `b` (device names, kinds, or "*"): latency in seconds, bytes per
    second.

    Links with the same `channel` share it in the simulator (one network card, one bus).
    """

    a: str = "*"
    b: str = "*"
    bytes_per_s: float = 1e9
    latency_s: float = 5e-5
    channel: str = ""


@dataclass(frozen=True)
class Cluster:
    """Devices and the links between them. A link given one way holds both ways.

    The most exact link wins: device names before kinds before "*". Without any, `Link()` is used.
    """

    devices: tuple[Device, ...]
    links: tuple[Link, ...] = (Link(),)
    profile: Profile = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "devices", tuple(self.devices))
        object.__setattr__(self, "links", tuple(self.links))
        if not self.devices:
            raise ScheduleError("a cluster needs at least one device: got none")
        if len(self.index) != len(self.devices):
            raise ScheduleError(f"device names must differ: got {[d.name for d in self.devices]}")

    @classmethod
    def uniform(cls, n: int, kind: str = "cpu", **numbers: Any) -> Cluster:
        """`n` equal devices `kind:0`, `kind:1`, ...; `numbers` go to each Device."""
        return cls(tuple(Device(f"{kind}:{i}", kind, **numbers) for i in range(n)))

    @classmethod
    def load(cls, path: str | Path) -> Cluster:
        """Read a TOML file with [[devices]] and [[links]] tables; see README.md."""
        table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        devices = tuple(_record(Device, row, path) for row in table.get("devices", ()))
        links = tuple(_record(Link, row, path) for row in table.get("links", ()))
        return cls(devices, links or (Link(),), table.get("profile", {}))

    def save(self, path: str | Path) -> None:
        """Write the TOML that `load` reads."""
        tables = [_toml("devices", asdict(device)) for device in self.devices]
        tables += [_toml("links", asdict(link)) for link in self.links]
        if self.profile:
            lines = [f"{json.dumps(k)} = {_toml_value(v)}" for k, v in self.profile.items()]
            tables.append("\n".join(["[profile]", *lines]))
        Path(path).write_text("\n\n".join(tables) + "\n", encoding="utf-8")

    def measured(self, profile: Profile) -> Cluster:
        """The same cluster with seconds per task id, or per task id and device name or kind."""
        return replace(self, profile={**self.profile, **profile})

    @cached_property
    def index(self) -> dict[str, int]:
        """Position of each device by name."""
        return {device.name: i for i, device in enumerate(self.devices)}

    @cached_property
    def capacity(self) -> Array:
        """Memory of each device in bytes, float64[D]."""
        return np.array([device.memory for device in self.devices])

    @cached_property
    def latency_s(self) -> Array:
        """Seconds before the first byte arrives, float64[D, D], zero on the diagonal."""
        return self._pairs(lambda link: link.latency_s)

    @cached_property
    def s_per_byte(self) -> Array:
        """Seconds per byte, float64[D, D], zero on the diagonal."""
        return self._pairs(lambda link: 1.0 / link.bytes_per_s)

    def compute_s(self, task: Task, device: Device) -> float:
        """Seconds of `task` on `device`: its measured time, else overhead plus a roofline."""
        known = self.profile.get(task.id)
        if isinstance(known, Mapping):
            known = known.get(device.name, known.get(device.kind))
        if known is not None:
            return float(known)
        return sum(device.call_s(call) for call in task.calls)

    def seconds(self, graph: TaskGraph) -> Array:
        """Seconds of each task on each device, float64[N, D]."""
        table = np.empty((len(graph), len(self.devices)))
        for d, device in enumerate(self.devices):
            table[:, d] = _formula_s(graph, device)
        known = self.profile.keys() & graph.index.keys() if self.profile else ()
        for i in [graph.index[id] for id in known]:
            table[i] = [self.compute_s(graph.tasks[i], device) for device in self.devices]
        return table

    def transfer_s(self, nbytes: float, a: str, b: str) -> float:
        """Seconds to move `nbytes` from device `a` to device `b`; 0 on one device."""
        i, j = self.index[a], self.index[b]
        return float(self.latency_s[i, j] + nbytes * self.s_per_byte[i, j])

    def link(self, a: Device, b: Device) -> Link:
        """The link that carries transfers from `a` to `b`."""
        best = min(self.links, key=lambda link: _distance(link, a, b), default=Link())
        return best if _distance(best, a, b) < _NO_FIT else Link()

    @cached_property
    def _classes(self) -> tuple[list[Device], Array]:
        # devices that no link names differ by kind only: a thousand workers are one or two classes
        named = {end for link in self.links for end in (link.a, link.b)} & self.index.keys()
        keys = [d.name if d.name in named else f"kind {d.kind}" for d in self.devices]
        firsts = {key: self.devices[i] for i, key in reversed(list(enumerate(keys)))}
        numbers = {key: i for i, key in enumerate(firsts)}
        return list(firsts.values()), np.array([numbers[key] for key in keys])

    def _pairs(self, number: Callable[[Link], float]) -> Array:
        heads, of = self._classes
        small = np.array([[number(self.link(a, b)) for b in heads] for a in heads], dtype=float)
        table: Array = small[of][:, of]
        np.fill_diagonal(table, 0.0)
        return table


def _formula_s(graph: TaskGraph, device: Device) -> Array:
    """Seconds of every task on one device by overhead and roofline, summed over its calls."""
    calls = graph.calls
    if calls is None:
        rate, flops, nbytes = device.rate(""), graph.flops, graph.touched_nbytes
        whole: Array = device.overhead_s + np.maximum(flops / rate, nbytes / device.bytes_per_s)
        return whole
    rates = np.array([device.rate(kind) for kind in calls.kinds])[calls.kind]
    busy = np.maximum(calls.flops / rates, calls.nbytes / device.bytes_per_s)
    return np.bincount(calls.task, weights=device.overhead_s + busy, minlength=len(graph))


_NO_FIT = (100, 0)


def _distance(link: Link, a: Device, b: Device) -> tuple[int, int]:
    forth = _misfit(link.a, a) + _misfit(link.b, b)
    back = _misfit(link.a, b) + _misfit(link.b, a)
    return (forth, 0) if forth <= back else (back, 1)


def _misfit(end: str, device: Device) -> int:
    ranks = {device.name: 0, device.kind: 1, "*": 3}
    return ranks.get(end, 100)


def _record(kind: type[Any], row: dict[str, Any], path: str | Path) -> Any:
    try:
        return kind(**row)
    except TypeError as error:
        raise ScheduleError(f"{path}: a {kind.__name__} table is wrong: {error}") from None


def _toml(name: str, row: dict[str, Any]) -> str:
    said = [f"{key} = {_toml_value(v)}" for key, v in row.items() if v != {}]
    return "\n".join([f"[[{name}]]", *said])


def _toml_value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{json.dumps(k)} = {float(v)!r}" for k, v in value.items()) + " }"
    return json.dumps(value) if isinstance(value, str | bool) else repr(float(value))
