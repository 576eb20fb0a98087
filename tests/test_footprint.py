"""Planned memory against measured memory, and how an executor tells of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import raysym as mx

pytest.importorskip("llvmlite")
GROUPS = {"a": mx.cpu(0), "b": mx.cpu(1)}


def network() -> mx.Symbol:
    """Layers of many sizes, all with generated kernels, in two groups."""
    value = mx.sym.Variable("data")
    for i, width in enumerate((700, 300, 900, 200)):
        with mx.AttrScope(ctx_group="ab"[i // 2]):
            value = mx.sym.FullyConnected(value, num_hidden=width, name=f"fc{i}")
            value = mx.sym.Activation(value, act_type="relu", name=f"act{i}")
    with mx.AttrScope(ctx_group="b"):
        return mx.sym.SoftmaxOutput(value, name="softmax")


def bound(**where: Any) -> mx.Executor:
    return network().simple_bind(mx.cpu(), data=(500, 400), **where)


def trained(executor: mx.Executor) -> mx.Executor:
    executor.forward(is_train=True)
    executor.backward()
    return executor


def in_every_mode(executor: mx.Executor) -> mx.Executor:
    trained(executor)
    executor.forward(is_train=False)
    executor.step()
    return executor


# Interpreted workers of one process have their peaks at different times: one of them is measured.
@pytest.mark.parametrize(
    ("kernels", "groups", "used"),
    [
        ("reference", None, trained),
        ("generated", None, trained),
        ("generated", GROUPS, trained),
        ("generated", None, in_every_mode),
        ("generated", GROUPS, in_every_mode),
    ],
)
def test_the_planned_peak_is_the_measured_one(
    kernels: str, groups: Any, used: Callable[[mx.Executor], mx.Executor]
) -> None:
    where = {"kernels": kernels, "group2ctx": groups}
    used(bound(**where))  # kernels are compiled, everything is imported
    tracemalloc.start()
    try:
        executor = used(bound(**where))
        used(executor)
        measured = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    planned = sum(use.total for use in executor.memory().values())
    assert abs(measured - planned) < 0.1 * planned


PEAK = Path(__file__).parent.parent / "benchmarks" / "peak.py"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_process_grows_by_what_a_large_network_has_planned() -> None:
    def peak(mode: str, kept: str) -> dict[str, float]:
        command = [sys.executable, str(PEAK), "resnet18", mode, kept]
        env = {**os.environ, "PYTHONPATH": str(PEAK.parent.parent)}
        text = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
        found: dict[str, float] = json.loads(text)
        return found

    for what in (("training", "default"), ("training", "minimal"), ("inference", "default")):
        peak(*what)  # compiles, which takes memory of its own
        found = peak(*what)
        assert found["planned"] > 60, what
        assert abs(found["measured"] - found["planned"]) < 0.1 * found["planned"], what


@pytest.mark.parametrize("groups", [None, GROUPS], ids=["one", "two"])
def test_no_part_of_an_arena_is_for_nothing(groups: Any) -> None:
    executor = bound(kernels="generated", group2ctx=groups)
    engines = executor._session.runtime.engines  # type: ignore[attr-defined]
    rng = np.random.default_rng(0)
    for array in executor.arg_dict.values():
        array[:] = rng.uniform(0.1, 1, array.shape)
    arenas = [engine.made[0].arena for engine in engines.values()]
    for arena in arenas:
        arena.fill(0xA5)
    trained(executor)
    for arena in arenas:
        assert np.count_nonzero(arena != 0xA5) > 0.9 * arena.nbytes


def test_an_executor_tells_its_memory() -> None:
    net = mx.sym.argsort(mx.sym.exp(mx.sym.Variable("x") * 2) + 1, name="wave")
    for kernels, work in (("reference", 96), ("generated", 64)):
        executor = net.simple_bind(mx.cpu(), grad_req="null", kernels=kernels, x=(3, 4))
        executor.forward()
        use = executor.memory("inference")["cpu:0"]
        assert (use.arguments, use.heads, use.work, use.total) == (48, 48, work, 96 + work)
        text = executor.debug_str()  # bind has loaded "training" to see that it can be
        assert f"\ncpu:0, training: work {work} bytes\n" in text
        assert f"\ncpu:0, inference: work {work} bytes\n" in text
        assert f"\ncpu:0: arguments 48, heads 48, work {2 * work} bytes\n" in text


def test_an_executor_tells_of_every_mode_that_is_loaded() -> None:
    executor = bound(kernels="generated")
    wanted = r"memory: mode: got 'step', expected one of training$"
    with pytest.raises(mx.MXNetError, match=wanted):
        executor.memory("step")
    in_every_mode(executor)
    modes = ("training", "inference", "step")
    works = [executor.memory(mode)["cpu:0"].work for mode in modes]
    made = executor._session.runtime.engines["cpu:0"].made  # type: ignore[attr-defined]
    assert works == [worker.nbytes for worker in made]
    found = executor.memory()["cpu:0"]
    alone = executor.memory("training")["cpu:0"]
    assert found == alone._replace(work=sum(works))
    held = f"cpu:0: arguments {found.arguments}, gradients {found.gradients}, heads {found.heads}"
    assert executor.debug_str().splitlines()[-5:] == [
        *(f"cpu:0, {mode}: work {work} bytes" for mode, work in zip(modes, works, strict=True)),
        f"{held}, work {sum(works)} bytes",
        f"Total {sum(works) / 2**20:.4g} MB allocated",
    ]


def test_a_linked_program_is_part_of_the_text() -> None:
    net = mx.sym.argsort(mx.sym.exp(mx.sym.Variable("x") * 2) + 1, name="wave")
    executor = net.simple_bind(mx.cpu(), grad_req="null", kernels="generated", x=(3, 4))
    assert (
        "\ncpu:0: arena 64 bytes\n"
        "inference:\n"
        "  call      _mul_scalar+exp+_plus_scalar (flat_map)\n"
        "  reference wave = argsort\n"
    ) in executor.debug_str()
