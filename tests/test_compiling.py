"""Kernels of workers on several nodes: each is compiled once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import raysym as mx
from raysym.kernels import llvm
from raysym.kernels.cache import DiskCache
from raysym.kernels.specs import Kernels
from raysym.kernels.team import table_runner
from raysym.runtime.compiling import Needs, compile_once, divide
from raysym.runtime.interpreter import Worker
from raysym.runtime.linked import Linked

NODES = {"cpu:0": "a", "cpu:1": "a", "cpu:2": "b", "cpu:3": "c"}
kernels = st.frozensets(st.integers(0, 9))


@st.composite
def everybodys_needs(draw: st.DrawFn) -> dict[str, Needs]:
    """What workers need; those of a node find the same on its disk."""
    on_disk = {node: draw(kernels) for node in "abc"}
    hosts = {node: draw(st.sampled_from(["x86", "arm"])) for node in "abc"}
    found = {}
    for worker, node in NODES.items():
        wanted, have = draw(kernels), on_disk[node]
        found[worker] = Needs(hosts[node], tuple(wanted & have), tuple(wanted - have))
    return found


@given(everybodys_needs())
def test_what_several_nodes_of_a_host_miss_is_made_once_and_reaches_all(
    needs: dict[str, Needs],
) -> None:
    work = divide(needs, NODES)
    for host in ("x86", "arm"):
        made = Counter(k for w, ks in work.makes.items() if needs[w].host == host for k in ks)
        gets = {(NODES[w], k) for w, ks in work.gets.items() if needs[w].host == host for k in ks}
        makes = {(NODES[w], k) for w, ks in work.makes.items() for k in ks}
        assert all(count == 1 for count in made.values())
        wanted: dict[Any, set[str]] = {}
        missing: dict[Any, set[str]] = {}
        for worker, need in needs.items():
            if need.host == host:
                for kernel in (*need.present, *need.missing):
                    wanted.setdefault(kernel, set()).add(NODES[worker])
                for kernel in need.missing:
                    missing.setdefault(kernel, set()).add(NODES[worker])
        shared = {k for k, nodes in missing.items() if len(wanted[k]) > 1}
        assert set(made) == shared
        for kernel in shared:
            maker = {node for node, k in makes if k == kernel} & wanted[kernel]
            assert len(maker) == 1
            got = {node for node, k in gets if k == kernel}
            assert got == missing[kernel] - maker


def test_a_kernel_that_one_node_has_is_not_compiled_again() -> None:
    work = divide({"cpu:0": Needs("h", (1,), (2,)), "cpu:2": Needs("h", (2,), (1,))}, NODES)
    assert dict(work.makes) == {"cpu:0": [1], "cpu:2": [2]}
    assert dict(work.gets) == {"cpu:2": [1], "cpu:0": [2]}


def test_two_nodes_compile_each_kernel_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = mx.sym.Activation(mx.sym.Variable("data"), act_type="tanh")
    net = mx.sym.FullyConnected(net, num_hidden=6, name="fc")
    executor = net.simple_bind(mx.cpu(), data=(4, 5))
    plan = executor.plan
    programs = {phase: p for phase, p in plan.programs["cpu:0"].items() if p}
    engines = {}
    for name, folder in (("cpu:0", "one"), ("cpu:2", "other")):
        values = {e: np.ones(plan.types[e].shape, np.float32) for e in plan.homes}
        worker = Worker(name, np, values, set(values))
        engines[name] = Linked(worker, Kernels(DiskCache(tmp_path / folder)))

    def call(method: str, args: Mapping[str, tuple[Any, ...]]) -> dict[str, Any]:
        return {name: getattr(engines[name], method)(*own) for name, own in args.items()}

    table_runner()  # is compiled as well, once in a process
    compiled: list[str] = []
    assemble = llvm.assemble
    monkeypatch.setattr(llvm, "assemble", lambda text: compiled.append(text) or assemble(text))
    first = engines["cpu:0"].needs(programs, plan.types, tuple(plan.homes))
    assert not first.present
    compile_once(dict.fromkeys(engines, (programs, plan.types, plan.homes, {})), NODES, call)
    distinct = len(first.missing)
    assert len(compiled) == len(set(compiled)) == distinct > 1
    for engine in engines.values():
        engine.load(programs, plan.types)
        assert engine.linked("forward") is not None
    assert len(compiled) == distinct
