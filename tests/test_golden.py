"""Values, gradients, aux states and names against the real MXNet 1.9.1, case by case."""

from __future__ import annotations

import numpy as np
import pytest
from golden import FOLDER, GOLDEN, call, difference, failures

import raysym as mx

# Cases in which raysym differs on purpose, with the reason. They must differ: see below.
EXCEPTIONS: dict[str, str] = {
    "LeakyReLU/0": "selu: MXNet takes lambda (alpha + y) for the slope, right is lambda alpha + y",
    "RNN_rnn_relu/3": "MXNet's own float64 kernel gives a gradient that differs from differences",
    "dag/97": "prelu: here MXNet's memory plan happens to leave the head gradient intact",
}

by_kind: dict[str, list[str]] = {}
for _id, _case in GOLDEN.cases.items():
    by_kind.setdefault(_case["kind"], []).append(_id)

pytestmark = pytest.mark.skipif(not FOLDER.exists(), reason="the golden data is not at hand")


@pytest.mark.parametrize("name", [*by_kind.get("op", ()), *by_kind.get("dag", ())])
def test_case(name: str) -> None:
    found = list(failures(GOLDEN.cases[name]))
    assert bool(found) == (name in EXCEPTIONS), found


@pytest.mark.parametrize("default_kernels", ["generated"], indirect=True)
@pytest.mark.parametrize("name", by_kind.get("op", ()))
def test_op_on_generated_kernels(name: str, default_kernels: str) -> None:
    found = list(failures(GOLDEN.cases[name]))
    assert bool(found) == (name in EXCEPTIONS), found


# A hundred kernels of its own for each graph: a few stand for all; see --kernels in conftest.py.
@pytest.mark.parametrize("default_kernels", ["generated"], indirect=True)
@pytest.mark.parametrize("name", by_kind.get("dag", ())[::25])
def test_graph_on_generated_kernels(name: str, default_kernels: str) -> None:
    assert not list(failures(GOLDEN.cases[name]))


# The record also holds three optimizer steps of each net with Module: they wait for Module.
@pytest.mark.parametrize("name", by_kind.get("net", ()))
def test_whole_net(name: str) -> None:
    case = GOLDEN.cases[name]
    prefix = str(FOLDER / "nets" / case["prefix"])
    symbol, args, aux = mx.model.load_checkpoint(prefix, 0)
    assert symbol.list_arguments() == case["arguments"]
    for param, ref in case["params"].items():
        held = args.get(param, aux.get(param))
        assert np.array_equal(held.asnumpy(), GOLDEN.array(ref))
    assert not list(failures(case))


@pytest.mark.parametrize("name", by_kind.get("nd", ()))
def test_imperative_update(name: str) -> None:
    case = GOLDEN.cases[name]
    values = [GOLDEN.array(case["in"][key]) for key in case["arguments_given"]]
    arrays = [mx.nd.array(value, dtype=value.dtype) for value in values]
    call(mx.nd, {**case, "attrs": {**case["attrs"], "out": arrays[0]}}, arrays)
    for key, array in zip(case["arguments_given"], arrays, strict=True):
        assert not difference(array.asnumpy(), GOLDEN.array(case["want"]["after"][key]), case)


@pytest.mark.parametrize("name", by_kind.get("stat", ()))
def test_sampler(name: str) -> None:
    case = GOLDEN.cases[name]
    want, x = case["want"], _draw(case)
    assert list(x.shape) == want["shape"]
    assert x.dtype.name == want["dtype"]
    mean, std = np.array(want["mean"]), np.array(want["std"])
    axes = tuple(range(mean.ndim, x.ndim))
    count = x.size / max(1, mean.size)
    x = x.astype(np.float64)
    # Six standard errors: a right sampler fails once in 10^8 draws.
    assert (abs(x.mean(axes) - mean) <= 6 * std / np.sqrt(count) + 1e-3 * abs(mean) + 1e-6).all()
    assert (abs(x.std(axes) - std) <= 0.15 * std + 1e-6).all()
    assert want.get("min", -np.inf) <= x.min()
    assert x.max() <= want.get("max", np.inf)


def _draw(case: dict) -> np.ndarray:
    variables = [mx.sym.Variable(name) for name in case["arguments_given"]]
    symbol = call(mx.sym, case, variables, case["name"])
    args = {name: mx.nd.array(GOLDEN.array(ref), dtype=ref[0]) for name, ref in case["in"].items()}
    return symbol.bind(mx.cpu(), args).forward(is_train=case["run"] == "train")[0].asnumpy()


@pytest.mark.parametrize("name", by_kind.get("file", ()))
def test_file(name: str, tmp_path) -> None:
    case = GOLDEN.cases[name]
    path = FOLDER / "nets" / case["file"]
    loaded = mx.nd.load(str(path))
    want = case["want"]
    assert isinstance(loaded, dict) == isinstance(want, dict)
    pairs = want.items() if isinstance(want, dict) else enumerate(want)
    for key, ref in pairs:
        expected = GOLDEN.array(ref)
        got = loaded[key].asnumpy()
        assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
        assert np.array_equal(got, expected)
    mx.nd.save(str(tmp_path / "again"), loaded)
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


def test_exceptions_are_few() -> None:
    assert set(EXCEPTIONS) <= set(GOLDEN.cases)
    assert len(EXCEPTIONS) <= 0.005 * len(GOLDEN.cases)
