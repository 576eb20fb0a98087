"""Misuse of graphs: what MXNet raises, with a message that says more.

Every message names the op and node, what came and what was expected, and the line of this file
that made the node, where there is a node. The numbers are those of the catalogue of misuse.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from misuse import Case, collector, parameters

import raysym as mx

sym, nd, V = mx.sym, mx.nd, mx.sym.Variable
MX = mx.MXNetError

CASES: list[Case] = []
case = collector(CASES)


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


# ----- files and states


@case(55, MX, "node 0", "Unknown field: got 'zzz', expected one of attr, attrs")
def _() -> Any:
    node = {"op": "null", "name": "a", "inputs": [], "zzz": 1}
    sym.load_json(json.dumps({"nodes": [node], "arg_nodes": [0], "heads": [[0, 0, 0]]}))


@case(
    56, MX, "BatchNorm 'bn'", "moving_mean: Mutation target can only be Variable",
    "got _plus_scalar '_plusscalar0', expected a Variable", here=True,
)  # fmt: skip
def _() -> Any:
    sym.BatchNorm(V("a"), moving_mean=V("m") + 1, name="bn")


# ----- the tests


@pytest.mark.parametrize("misuse", parameters(CASES))
def test_misuse_is_refused(misuse: Case) -> None:
    misuse.check()


def test_every_number_has_a_case() -> None:
    assert {case.number for case in CASES} == {*range(1, 39), 55, 56}
