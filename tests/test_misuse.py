"""The 58 kinds of misuse: the exception class that MXNet raises, with a message that says more.

Every message names the op and node, what came and what was expected, and the line of this file
that made the node, where there is a node.
"""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import raysym as mx
from raysym.errors import did_you_mean, node_message, sentence, some

sym, nd, V, cpu = mx.sym, mx.nd, mx.sym.Variable, mx.cpu
MX = mx.MXNetError


class Case(NamedTuple):
    number: int
    act: Callable[..., Any]
    error: type[Exception]
    words: tuple[str, ...]
    made_here: bool = False  # the message gives the line that made the node

    def check(self, *args: Any) -> None:
        with pytest.raises(self.error) as caught:
            self.act(*args)
        assert type(caught.value) is self.error
        text = str(caught.value.args[0])
        for word in self.words:
            assert word in text, text
        lines = text.split("\n")
        assert len(lines) <= 4, text
        assert not self.made_here or self._line(text) in self._own_lines(), text

    def _line(self, text: str) -> int:
        found = re.search(r"made at \S*test_misuse\.py:(\d+)$", text, re.MULTILINE)
        assert found, text
        return int(found[1])

    def _own_lines(self) -> range:
        lines, first = inspect.getsourcelines(self.act)
        return range(first, first + len(lines))


def case(number: int, error: type[Exception], *words: str, here: bool = False) -> Any:
    def enter(act: Callable[..., Any]) -> Callable[..., Any]:
        found = Case(number, act, error, words, here)
        (ON_A_RUNTIME if inspect.signature(act).parameters else CASES).append(found)
        return act

    return enter


CASES: list[Case] = []
ON_A_RUNTIME: list[Case] = []


# ----- variables and attributes


@case(1, TypeError, "Variable: name: got 3, expects a string")
def _() -> Any:
    V(3)


@case(2, ValueError, "Variable 'v'", "got foo=3", "must be dunder")
def _() -> Any:
    V("v", foo=3)


@case(3, ValueError, "'v'", "attribute a: only accepts string values: got 3, expected a str")
def _() -> Any:
    V("v", attr={"a": 3})


@case(4, KeyError, "Variable 'v'", "dtype: got complex64, expected one of float32")
def _() -> Any:
    V("v", dtype="complex64")


@case(5, ValueError, "attributes need to be string", "got a=1, expected a str")
def _() -> Any:
    mx.AttrScope(a=1)


@case(
    6, MX, "FullyConnected 'fc'", "Cannot find argument 'mood'", "Possible Arguments: num_hidden",
    here=True,
)  # fmt: skip
def _() -> Any:
    with mx.AttrScope(mood="x"):
        sym.FullyConnected(V("a"), num_hidden=3, name="fc")


@case(7, MX, "FullyConnected 'fc'", "weight_lr_mult is deprecated", "set it on the Variable")
def _() -> Any:
    sym.FullyConnected(V("a"), num_hidden=3, name="fc", attr={"weight_lr_mult": "3"})


# ----- operators and their parameters


@case(8, MX, "FullyConnected 'fc'", "Required parameter num_hidden is not presented", here=True)
def _() -> Any:
    sym.FullyConnected(V("a"), name="fc")


@case(
    9, MX, "FullyConnected 'fc'", "invalid parameter num_hidden: got 'abc', expected an int >= 1",
    here=True,
)  # fmt: skip
def _() -> Any:
    sym.FullyConnected(V("a"), num_hidden="abc", name="fc")


@case(9, MX, "FullyConnected 'fc'", "num_hidden: got '2.0', expected an int >= 1", here=True)
def _() -> Any:
    sym.FullyConnected(V("a"), num_hidden=2.0, name="fc")


@case(10, MX, "FullyConnected 'fc'", "num_hidden: got '0', expected an int >= 1", here=True)
def _() -> Any:
    sym.FullyConnected(V("a"), num_hidden=0, name="fc")


@case(10, MX, "FullyConnected 'fc'", "num_hidden: got '-2', expected an int >= 1", here=True)
def _() -> Any:
    sym.FullyConnected(V("a"), num_hidden=-2, name="fc")


@case(
    11, MX, "Activation 'r'", "act_type: got 'foo', expected one of 'relu', 'sigmoid'", here=True
)  # fmt: skip
def _() -> Any:
    sym.Activation(V("a"), act_type="foo", name="r")


@case(12, AssertionError, "FullyConnected 'fc'", "data must be Symbol instances: got int")
def _() -> Any:
    sym.FullyConnected(data=3, num_hidden=3, name="fc")


@case(12, AssertionError, "FullyConnected 'fc'", "data must be Symbol", "got NDArray, expected")
def _() -> Any:
    sym.FullyConnected(nd.zeros((2, 3)), num_hidden=3, name="fc")


@case(
    13, MX, "FullyConnected 'fc'", "input wieght not found: got wieght, expected one of data,",
    "Did you mean 'weight'?", here=True,
)  # fmt: skip
def _() -> Any:
    sym.FullyConnected(V("a"), num_hidden=3, wieght=V("b"), name="fc")


@case(14, MX, "FullyConnected 'fc'", "bias not found", "expected one of data, weight", here=True)
def _() -> Any:
    sym.FullyConnected(V("a"), num_hidden=3, no_bias=True, bias=V("b"), name="fc")


@case(15, MX, "FullyConnected 'fc': data", "is a tuple of 2 outputs, single value is required")
def _() -> Any:
    pair = sym.SliceChannel(V("a"), num_outputs=2)
    sym.FullyConnected(pair, num_hidden=3, name="fc")


@case(16, AssertionError, "Concat 'c'", "must be Symbol instances: got list, expected a Symbol")
def _() -> Any:
    sym.Concat([V("a"), V("b")], name="c")


@case(17, TypeError, "Concat 'c'", "inputs are either all positional or all keywords", "arg1")
def _() -> Any:
    sym.Concat(V("a"), arg1=V("b"), name="c")


# ----- composing what is composed


def net() -> mx.Symbol:
    return sym.FullyConnected(V("a"), num_hidden=3, name="fc")


@case(18, MX, "<Symbol fc>", "a composed symbol only supports kwargs")
def _() -> Any:
    net()(V("b"))


@case(19, TypeError, "<Symbol fc>", "give positions or keywords, not both")
def _() -> Any:
    net()(V("b"), fc_weight=V("c"))


@case(
    20, MX, "<Symbol fc>", "fc_wieght not found: expected one of a, fc_weight, fc_bias",
    "Did you mean 'fc_weight'?",
)  # fmt: skip
def _() -> Any:
    net()(fc_wieght=V("c"))


@case(21, TypeError, "<Symbol fc>", "got int, expects Symbol arguments")
def _() -> Any:
    net()(1)


# ----- groups and indices


def group() -> mx.Symbol:
    return sym.Group([V("a"), V("b")])


@case(22, MX, "<Symbol group [a, b]>", "index: got -1, expected a nonnegative index")
def _() -> Any:
    group()[-1]


@case(23, IndexError, "<Symbol group [a, b]>", "index: got 10, expected below 2")
def _() -> Any:
    group()[10]


@case(24, ValueError, "<Symbol group [a, b]>", "'zzz' is not an output: expected one of a, b")
def _() -> Any:
    group()["zzz"]


@case(24, ValueError, "'a' names 2 outputs")
def _() -> Any:
    sym.Group([V("a"), V("a")])["a"]


@case(25, TypeError, "<Symbol group [a, b]>", "index: got 1.0, expected an int, a slice or a name")
def _() -> Any:
    group()[1.0]


@case(26, TypeError, "Group: got [], expected a list of symbols")
def _() -> Any:
    sym.Group([])


# ----- what symbols are not


@case(27, mx.NotImplementedForSymbol, "<Symbol a>", "has no truth value")
def _() -> Any:
    bool(V("a"))


@case(28, mx.NotImplementedForSymbol, "<Symbol a>", "cannot be changed in place")
def _() -> Any:
    a = V("a")
    a += 1


@case(29, TypeError, "elemwise_add", "<Symbol a>", "got NDArray, expected a Symbol or a number")
def _() -> Any:
    V("a") + nd.zeros(2)


@case(29, TypeError, "elemwise_add", "got str, expected a Symbol or a number")
def _() -> Any:
    V("a") + "x"


@case(29, TypeError, "elemwise_mul", "got NoneType, expected a Symbol or a number")
def _() -> Any:
    V("a") * None


@case(30, MX, "_plus_scalar '_plusscalar0'", "scalar: got '1j', expected a number", here=True)
def _() -> Any:
    V("a") + 1j


@case(30, MX, "_plus_scalar '_plusscalar0'", "scalar: got 'True', expected a number", here=True)
def _() -> Any:
    V("a") + True


@case(31, TypeError, "unhashable type: 'Symbol'")
def _() -> Any:
    hash(V("a"))


# ----- inference


@case(32, TypeError, "infer_shape: a: got [2, 3], expected a tuple")
def _() -> Any:
    net().infer_shape(a=[2, 3])


@case(33, MX, "infer_shape: argument foo not found: expected one of a, fc_weight, fc_bias")
def _() -> Any:
    net().infer_shape(foo=(2, 3))


@case(
    34, MX, "elemwise_add 'sum'", "got (2, 3), expected (3, 2)",
    "inputs are lhs = a (2, 3), rhs = b (3, 2)", here=True,
)  # fmt: skip
def _() -> Any:
    sym.elemwise_add(V("a"), V("b"), name="sum").infer_shape(a=(2, 3), b=(3, 2))


@case(
    35, MX, "broadcast_add 'sum'", "(2, 3)", "(4, 3)", "inputs are lhs = a (2, 3), rhs = b (4, 3)",
    here=True,
)  # fmt: skip
def _() -> Any:
    sym.broadcast_add(V("a"), V("b"), name="sum").infer_shape(a=(2, 3), b=(4, 3))


@case(36, MX, "dot 'd'", "(2, 3)", "(4, 5)", "inputs are lhs = a (2, 3), rhs = b (4, 5)", here=True)
def _() -> Any:
    sym.dot(V("a"), V("b"), name="d").infer_shape(a=(2, 3), b=(4, 5))


@case(37, MX, "Convolution 'conv'", "kernel", "inputs are data = a (1, 2, 3, 3)", here=True)
def _() -> Any:
    conv = sym.Convolution(V("a"), kernel=(5, 5), num_filter=2, name="conv")
    conv.infer_shape(a=(1, 2, 3, 3))


@case(38, MX, "Reshape 'r'", "-1", here=True)
def _() -> Any:
    sym.Reshape(V("a"), shape=(-1, -1), name="r").infer_shape(a=(2, 3))


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


def extra_head_gradients_are_ignored(runtime: str) -> None:
    with bound(runtime) as executor:
        executor.forward(is_train=True, a=nd.ones(2), b=nd.ones(2))
        executor.backward([nd.ones(2), nd.ones(7)])
        np.testing.assert_array_equal(executor.grad_dict["a"].asnumpy(), [1, 1])


# ----- files, states, placement


@case(55, MX, "node 0", "Unknown field: got 'zzz', expected one of attr, attrs")
def _() -> Any:
    node = '{"op": "null", "name": "a", "inputs": [], "zzz": 1}'
    sym.load_json('{"nodes": [%s], "arg_nodes": [0], "heads": [[0, 0, 0]]}' % node)


@case(
    56, MX, "BatchNorm 'bn'", "moving_mean: Mutation target can only be Variable",
    "got _plus_scalar '_plusscalar0', expected a Variable", here=True,
)  # fmt: skip
def _() -> Any:
    sym.BatchNorm(V("a"), moving_mean=V("m") + 1, name="bn")


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


def numbered(cases: list[Case]) -> list[Any]:
    return [pytest.param(c, id=f"{c.number}-{i}") for i, c in enumerate(cases)]


@pytest.mark.parametrize("misuse", numbered(CASES))
def test_misuse_is_refused(misuse: Case) -> None:
    misuse.check()


@pytest.fixture(params=RUNTIMES)
def runtime(request: pytest.FixtureRequest) -> str:
    """The name of a runtime that is ready to be bound to."""
    if request.param == "ray":
        request.getfixturevalue("ray_session")
    return str(request.param)


@pytest.mark.parametrize("misuse", numbered(ON_A_RUNTIME))
def test_misuse_of_an_executor_is_refused(misuse: Case, runtime: str) -> None:
    misuse.check(runtime)


def test_extra_head_gradients_are_ignored(runtime: str) -> None:
    extra_head_gradients_are_ignored(runtime)


def test_every_number_has_a_case() -> None:
    numbers = {case.number for case in (*CASES, *ON_A_RUNTIME)}
    assert numbers | {54} == set(range(1, 59))  # 54 is accepted: extra head gradients


# ----- the pieces of messages


def test_sentence_fills_the_template() -> None:
    assert sentence("axis out of range", 5, "-2 to 1") == "axis out of range: got 5, expected -2 to 1"
    assert sentence("no data") == "no data"
    assert sentence("bad", got=0, fix="Use 1") == "bad: got 0. Use 1"


def test_a_message_has_at_most_three_lines_of_context() -> None:
    text = node_message("Pooling", "pool", "wrong", ["a", "b", "c", "d"])
    assert text == "Pooling 'pool': wrong\n  a\n  b\n  c"


def test_did_you_mean_offers_the_closest_word_or_nothing() -> None:
    assert did_you_mean("kernal", ["kernel", "stride"]) == "Did you mean 'kernel'?"
    assert did_you_mean("xyz", ["kernel", "stride"]) == ""


def test_some_shortens_long_lists() -> None:
    assert some(["a", "b"]) == "a, b"
    assert some([str(i) for i in range(12)]) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more"


@pytest.mark.parametrize(
    "name",
    ["MXNetError", "NotImplementedForSymbol", "PlanError", "PlacementError", "WorkerError"],
)
def test_exceptions_pickle(name: str) -> None:
    error = getattr(mx, name)("Op 'node': wrong: got 1, expected 2")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(copy.copy(error)) == str(error)
    assert isinstance(error, RuntimeError)
