"""Contexts name the device that holds an array or runs a group of nodes: cpu(0), gpu(1)."""

from __future__ import annotations

import threading
from typing import Any


class _Current(threading.local):
    def __init__(self) -> None:
        self.stack: list[Context] = []


_current = _Current()


class Context:
    """A device by type and number; usable as a `with` block that sets the default device.

    ``Context("gpu", 1)`` is ``gpu(1)``. `cpu(i)` with different i share this machine's cores when
    a program runs in-process; on a cluster each is a worker of its own.
    """

    devtype2str = {1: "cpu", 2: "gpu", 3: "cpu_pinned", 5: "cpu_shared"}
    devstr2type = {"cpu": 1, "gpu": 2, "cpu_pinned": 3, "cpu_shared": 5}
    device_type: str
    device_id: int

    def __init__(self, device_type: str | Context, device_id: int = 0) -> None:
        if isinstance(device_type, Context):
            kind, device_id = device_type.device_type, device_type.device_id
        else:
            kind = device_type
        if kind not in self.devstr2type:
            known = ", ".join(self.devstr2type)
            raise KeyError(f"unknown device type: got {kind!r}, expected one of {known}")
        self.device_type = kind
        self.device_id = int(device_id)

    @property
    def device_typeid(self) -> int:
        """MXNet's number of the device type, as written in .params files."""
        return self.devstr2type[self.device_type]

    @property
    def worker(self) -> str:
        """Name of the worker that stands for this device in plans: ``cpu:0``."""
        kind = "gpu" if self.device_type == "gpu" else "cpu"
        return f"{kind}:{self.device_id}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Context) and (self.device_type, self.device_id) == (
            other.device_type,
            other.device_id,
        )

    def __hash__(self) -> int:
        return hash((self.device_type, self.device_id))

    def __repr__(self) -> str:
        return f"{self.device_type}({self.device_id})"

    def __enter__(self) -> Context:
        _current.stack.append(self)
        return self

    def __exit__(self, *exc: Any) -> None:
        _current.stack.pop()


def cpu(device_id: int = 0) -> Context:
    """The CPU device number `device_id`."""
    return Context("cpu", device_id)


def gpu(device_id: int = 0) -> Context:
    """The GPU device number `device_id`."""
    return Context("gpu", device_id)


def cpu_pinned(device_id: int = 0) -> Context:
    """Page-locked host memory; behaves as `cpu` here."""
    return Context("cpu_pinned", device_id)


def cpu_shared(device_id: int = 0) -> Context:
    """Shared host memory; behaves as `cpu` here."""
    return Context("cpu_shared", device_id)


def current_context() -> Context:
    """The context of the innermost ``with`` block, or cpu(0)."""
    return _current.stack[-1] if _current.stack else cpu()


def of_worker(name: str) -> Context:
    """The context that a worker name such as ``gpu:1`` stands for."""
    kind, _, number = name.partition(":")
    return Context(kind, int(number))
