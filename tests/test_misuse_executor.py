"""Misuse of executors, on every runtime: what MXNet raises, with a message that says more."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from misuse import Case, collector, parameters

import raysym as mx

sym, nd, V, cpu = mx.sym, mx.nd, mx.sym.Variable, mx.cpu
MX = mx.MXNetError

CASES: list[Case] = []
case = collector(CASES)


# ----- binding


def product() -> mx.Symbol:
    return sym.elemwise_mul(V("a"), V("b"), name="c")


def arrays(n: int = 2) -> list[mx.nd.NDArray]:
    return [nd.array([2, 3]) for _ in range(n)]


@case(39, TypeError, "bind: args: only accept a list or a dict: got tuple")
def _(runtime: str) -> Any:
    product().bind(cpu(), tuple(arrays()), runtime=runtime)


@case(
    40, ValueError, "Variable 'b'", "bind: args: key is missing: got keys a, expected b", here=True
)  # fmt: skip
def _(runtime: str) -> Any:
    c = sym.elemwise_mul(V("a"), V("b"))
    c.bind(cpu(), {"a": nd.zeros(2)}, runtime=runtime)


@case(41, ValueError, "bind: args: wrong number of arrays: got 1, expected 2: a, b")
def _(runtime: str) -> Any:
    product().bind(cpu(), arrays(1), runtime=runtime)


@case(
    42, TypeError, "Variable 'b'", "only accept NDArrays: got ndarray, expected an NDArray",
    here=True,
)  # fmt: skip
def _(runtime: str) -> Any:
    c = sym.elemwise_mul(V("a"), V("b"))
    c.bind(cpu(), [nd.zeros(2), np.zeros(2)], runtime=runtime)


@case(43, TypeError, "Context type error: ctx: got 'cpu', expected a Context")
def _(runtime: str) -> Any:
    product().bind("cpu", arrays(), runtime=runtime)


@case(44, ValueError, "grad_req: unknown request: got 'foo', expected one of null, write, add")
def _(runtime: str) -> Any:
    product().bind(cpu(), arrays(), arrays(), grad_req="foo", runtime=runtime)


@case(45, MX, "simple_bind", "got 'foo', expected one of null, write, add")
def _(runtime: str) -> Any:
    product().simple_bind(cpu(), grad_req="foo", a=(2,), runtime=runtime)


@case(
    46, MX, "Variable 'a'", "cannot decide shapes or dtypes: got a: f32[?]",
    "undecided as well: b: f32[?]", here=True,
)  # fmt: skip
def _(runtime: str) -> Any:
    c = sym.elemwise_mul(V("a"), V("b"))
    c.simple_bind(cpu(), runtime=runtime)


def bound(runtime: str, **options: Any) -> mx.Executor:
    return product().simple_bind(cpu(), a=(2,), runtime=runtime, **options)


@case(47, TypeError, "forward: Unknown argument: got q, expected one of a, b")
def _(runtime: str) -> Any:
    with bound(runtime) as executor:
        executor.forward(q=nd.zeros(2))


@case(48, ValueError, "Variable 'a'", "only accept NDArray and numpy arrays: got list")
def _(runtime: str) -> Any:
    with bound(runtime) as executor:
        executor.forward(a=[1, 2])


@case(49, ValueError, "Variable 'a'", "Shape not match: got (1,), expected (2,)", here=True)
def _(runtime: str) -> Any:
    a = V("a")
    with sym.exp(a).simple_bind(cpu(), a=(2,), runtime=runtime) as executor:
        executor.forward(a=nd.zeros(1))


@case(
    50, MX, "elemwise_mul 'c'", "head gradient required for output 0, 'c_output'",
    "got 0 gradients, expected (2,)", here=True,
)  # fmt: skip
def _(runtime: str) -> Any:
    c = sym.elemwise_mul(V("a"), V("b"), name="c")
    with c.simple_bind(cpu(), a=(2,), runtime=runtime) as executor:
        executor.forward(is_train=True)
        executor.backward()


@case(51, TypeError, "out_grads must be NDArrays: got ndarray at position 0, expected an NDArray")
def _(runtime: str) -> Any:
    with bound(runtime) as executor:
        executor.backward([np.ones(2)])


@case(51, TypeError, "out_grads must be NDArrays: got NoneType at position 0")
def _(runtime: str) -> Any:
    with bound(runtime) as executor:
        executor.backward([None])


@case(
    52, MX, "elemwise_mul 'c'", "head gradient of 'c_output'", "got (3,), expected (2,)", here=True
)  # fmt: skip
def _(runtime: str) -> Any:
    c = sym.elemwise_mul(V("a"), V("b"), name="c")
    with c.simple_bind(cpu(), a=(2,), runtime=runtime) as executor:
        executor.backward(nd.ones(3))


@case(
    53, KeyError, "no head gradient of an output: got d_output, expected c_output",
    "Did you mean 'd_output'?",
)  # fmt: skip
def _(runtime: str) -> Any:
    with bound(runtime) as executor:
        executor.backward({"d_output": nd.ones(2)})


# ----- kernels and placement


@case(57, MX, "indices have no gradient", "a: float32[4]", "Embedding 'e'", here=True)
def _(runtime: str) -> Any:
    embedding = sym.Embedding(V("a"), input_dim=3, output_dim=2, name="e")
    with embedding.simple_bind(cpu(), a=(4,), runtime=runtime) as executor:
        executor.forward(is_train=True)
        executor.backward(nd.ones((4, 2)))
        executor.grad_dict["a"].asnumpy()


@case(58, MX, "_mul_scalar 'y'", "device assignment not found for group 'g2'", "g1", here=True)
def _(runtime: str) -> Any:
    with mx.AttrScope(ctx_group="g1"):
        x = V("a") + 1
    with mx.AttrScope(ctx_group="g2"):
        y = sym._internal._mul_scalar(x, scalar=2, name="y")
    y.simple_bind(cpu(), a=(2,), group2ctx={"g1": cpu(1)}, runtime=runtime)


# ----- the tests

RUNTIMES = ["local", pytest.param("ray", marks=pytest.mark.ray)]


@pytest.fixture(params=RUNTIMES)
def runtime(request: pytest.FixtureRequest) -> str:
    """The name of a runtime that is ready to be bound to."""
    if request.param == "ray":
        request.getfixturevalue("ray_session")
    return str(request.param)


@pytest.mark.parametrize("misuse", parameters(CASES))
def test_misuse_of_an_executor_is_refused(misuse: Case, runtime: str) -> None:
    misuse.check(runtime)


def test_extra_head_gradients_are_ignored(runtime: str) -> None:
    with bound(runtime) as executor:  # number 54 is no misuse
        executor.forward(is_train=True, a=nd.ones(2), b=nd.ones(2))
        executor.backward([nd.ones(2), nd.ones(7)])
        np.testing.assert_array_equal(executor.grad_dict["a"].asnumpy(), [1, 1])


def test_every_number_has_a_case() -> None:
    assert {case.number for case in CASES} | {54} == {*range(39, 55), 57, 58}
