"""Kernels of workers on several nodes: each is compiled on one of the nodes that need it.

Within a node workers share the disk cache; between nodes machine code travels through the driver.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

# Machine code and what its cache knows it by.
Code: TypeAlias = tuple[bytes, bytes]
# Calls a method on workers, with arguments by worker; results by worker.
Call: TypeAlias = Callable[[str, Mapping[str, tuple[Any, ...]]], Mapping[str, Any]]


class Needs(NamedTuple):
    """Kernels that a worker will use: code is the same on nodes of one `host`."""

    host: str = ""
    present: tuple[Hashable, ...] = ()
    missing: tuple[Hashable, ...] = ()


class Work(NamedTuple):
    """By worker: kernels that it compiles for others too, and those that it gets."""

    makes: dict[str, list[Hashable]]
    gets: dict[str, list[Hashable]]


def divide(needs: Mapping[str, Needs], nodes: Mapping[str, str]) -> Work:
    """Who compiles what: of the nodes that need a kernel one that has it, else the least busy.

    A kernel that one node alone needs is left to it. The first worker of a node acts for it.
    """
    speakers: dict[str, str] = {}
    wanted: dict[tuple[str, Hashable], dict[str, bool]] = defaultdict(dict)  # node -> has it
    for worker, (host, present, missing) in needs.items():
        speakers.setdefault(nodes[worker], worker)
        for kernels, has in ((present, True), (missing, False)):
            for kernel in kernels:
                wanted[host, kernel][nodes[worker]] = has
    work = Work(defaultdict(list), defaultdict(list))
    for (_, kernel), where in wanted.items():
        if len(where) > 1 and not all(where.values()):
            _assign(kernel, {speakers[node]: has for node, has in where.items()}, work)
    return work


def _assign(kernel: Hashable, where: Mapping[str, bool], work: Work) -> None:
    maker = min(where, key=lambda worker: (not where[worker], len(work.makes[worker])))
    work.makes[maker].append(kernel)
    for worker, has in where.items():
        if not has and worker != maker:
            work.gets[worker].append(kernel)


def compile_once(
    loads: Mapping[str, tuple[Any, ...]], nodes: Mapping[str, str], call: Call
) -> None:
    """Before `loads`: let each kernel be compiled on one node and kept on all that need it.

    Nothing to do where all workers are on one node. `loads` are the arguments of `Host.load`.
    """
    if len({nodes[worker] for worker in loads}) < 2:
        return
    asked = {w: (programs, types, tuple(own)) for w, (programs, types, own, _) in loads.items()}
    needs: Mapping[str, Needs] = call("needs", asked)
    work = divide(needs, nodes)
    makes = {worker: (tuple(kernels),) for worker, kernels in work.makes.items() if kernels}
    made: Mapping[str, Sequence[Code]] = call("compiled", makes)
    codes = {
        (needs[worker].host, kernel): code
        for worker, found in made.items()
        for kernel, code in zip(*makes[worker], found, strict=True)
    }
    gets = {
        worker: ({kernel: codes[needs[worker].host, kernel] for kernel in kernels},)
        for worker, kernels in work.gets.items()
    }
    call("keep", gets)
