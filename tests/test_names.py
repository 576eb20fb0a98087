"""Automatic names, prefixes and attribute scopes. Answers are those of MXNet 1.9.1."""

from __future__ import annotations

import threading

import pytest

import raysym as mx
from raysym.names import NameManager, Prefix

sym, V = mx.sym, mx.sym.Variable


# ----- automatic names

BINARY = {
    "_plus0": lambda a, b: a + b, "_minus0": lambda a, b: a - b, "_mul0": lambda a, b: a * b,
    "_div0": lambda a, b: a / b, "_power0": lambda a, b: a**b, "_mod0": lambda a, b: a % b,
    "_equal0": lambda a, b: a == b, "_not_equal0": lambda a, b: a != b,
    "_greater0": lambda a, b: a > b, "_greater_equal0": lambda a, b: a >= b,
    "_lesser0": lambda a, b: a < b, "_lesser_equal0": lambda a, b: a <= b,
    "_maximum0": sym.maximum, "_minimum0": sym.minimum, "_hypot0": sym.hypot,
}  # fmt: skip
SCALAR = {
    "_plusscalar0": lambda a: a + 2, "_minusscalar0": lambda a: a - 2,
    "_rminusscalar0": lambda a: 2 - a, "_mulscalar0": lambda a: a * 2,
    "_divscalar0": lambda a: a / 2, "_rdivscalar0": lambda a: 2 / a,
    "_powerscalar0": lambda a: a**2, "_rpower_scalar0": lambda a: 2**a,
    "_modscalar0": lambda a: a % 2, "_rmodscalar0": lambda a: 2 % a,
    "_equal_scalar0": lambda a: a == 2, "_not_equal_scalar0": lambda a: a != 2,
    "_greater_scalar0": lambda a: a > 2, "_greater_equal_scalar0": lambda a: a >= 2,
    "_lesser_scalar0": lambda a: a < 2, "_lesser_equal_scalar0": lambda a: a <= 2,
    "_rpowerscalar0": lambda a: sym.pow(2, a), "_maximumscalar0": lambda a: sym.maximum(2, a),
    "_minimumscalar0": lambda a: sym.minimum(a, 2), "_hypotscalar0": lambda a: sym.hypot(a, 2),
}  # fmt: skip
CALLED = {
    "fullyconnected0": lambda a: sym.FullyConnected(a, num_hidden=1),
    "convolution0": lambda a: sym.Convolution(a, num_filter=1, kernel=(1,)),
    "softmax0": sym.Softmax, "softmaxoutput0": sym.SoftmaxOutput,
    "split0": lambda a: sym.split(a, num_outputs=2),
    "slicechannel0": lambda a: sym.SliceChannel(a, num_outputs=2),
    "stop_gradient0": sym.stop_gradient, "blockgrad0": sym.BlockGrad,
    "elementwisesum0": lambda a: sym.ElementWiseSum(a, a), "concat0": lambda a: sym.Concat(a, a),
    "gemm20": lambda a: sym.linalg.gemm2(a, a), "linalg_gemm20": lambda a: sym.linalg_gemm2(a, a),
    "div_sqrt_dim0": sym.contrib.div_sqrt_dim, "flatten0": lambda a: a.flatten(),
    "reshape0": lambda a: a.reshape((2, 3)), "cast0": lambda a: a.astype("int32"),
    "_zeros0": lambda a: sym.zeros((2, 3)), "_ones0": lambda a: sym.ones((2, 3)),
    "_full0": lambda a: sym.full((2, 3), 4), "_arange0": lambda a: sym.arange(3),
    "_eye0": lambda a: sym.eye(3), "_linspace0": lambda a: sym.linspace(0, 1, 3),
    "_split_v20": lambda a: sym.split_v2(a, 2),
    "_histogram0": lambda a: sym.histogram(a, bins=3, range=(0, 1)),
    "_random_uniform0": lambda a: sym.random.uniform(0, 1, shape=(2,)),
    "random_uniform0": lambda a: sym.random_uniform(0, 1, shape=(2,)),
    "_sample_normal0": lambda a: sym.random.normal(a, a, shape=2),
}  # fmt: skip


@pytest.mark.parametrize("name", BINARY)
def test_operators_of_two_symbols_are_named(name: str) -> None:
    assert BINARY[name](V("a"), V("b")).name == name


@pytest.mark.parametrize("name", SCALAR)
def test_operators_of_a_symbol_and_a_number_are_named(name: str) -> None:
    assert SCALAR[name](V("a")).name == name


@pytest.mark.parametrize("name", CALLED)
def test_ops_are_named_after_the_function_that_was_called(name: str) -> None:
    assert CALLED[name](V("a")).name == name


def test_names_count_by_hint() -> None:
    a = V("a")
    assert [sym.concat(a, a).name, sym.Concat(a, a).name] == ["concat0", "concat1"]
    assert [sym.Softmax(a).name, sym.softmax(a).name] == ["softmax0", "softmax1"]
    assert [(a + 1).name, (a + 1).name, (a + a).name] == ["_plusscalar0", "_plusscalar1", "_plus0"]


def test_an_empty_name_is_no_name() -> None:
    assert sym.FullyConnected(V("a"), num_hidden=3, name="").name == "fullyconnected0"


def test_a_name_manager_counts_for_itself() -> None:
    first = V("a") + 1
    with NameManager():
        inner = V("a") + 1
    last = V("a") + 1
    assert [s.name for s in (first, inner, last)] == [
        "_plusscalar0", "_plusscalar0", "_plusscalar1",
    ]  # fmt: skip


def test_a_prefix_goes_before_every_name_of_an_op() -> None:
    with Prefix("p_"):
        a = V("a")
        fc = sym.FullyConnected(a, num_hidden=3, name="fc")
        other = sym.FullyConnected(fc, num_hidden=3)
        shifted = other + 1
    assert fc.list_arguments() == ["a", "p_fc_weight", "p_fc_bias"]
    assert [fc.name, other.name, shifted.name] == [
        "p_fc", "p_fullyconnected0", "p__plusscalar0",
    ]  # fmt: skip


def test_only_the_innermost_prefix_counts() -> None:
    with Prefix("p_"):
        with Prefix("q_"):
            inner = V("a") + 1
        outer = V("a") + 1
    assert [inner.name, outer.name] == ["q__plusscalar0", "p__plusscalar0"]


def test_a_prefix_keeps_its_counters() -> None:
    prefix = Prefix("p_")
    names = []
    for _ in range(2):
        with prefix:
            names.append((V("a") + 1).name)
    assert names == ["p__plusscalar0", "p__plusscalar1"]


# ----- attribute scopes


def test_scopes_mark_variables_and_ops() -> None:
    with mx.AttrScope(ctx_group="x", lr_mult="3"), mx.AttrScope(ctx_group="y", __z__="4"):
        fc = sym.FullyConnected(
            V("a"), num_hidden=3, no_bias=True, name="fc", attr={"lr_mult": "9"}
        )
    scope = {"__z__": "4", "__ctx_group__": "y", "ctx_group": "y"}
    three, nine = ({"__lr_mult__": n, "lr_mult": n} for n in ("3", "9"))
    op = {**scope, **nine, "num_hidden": "3", "no_bias": "True"}
    assert fc.attr_dict() == {"a": {**scope, **three}, "fc_weight": op, "fc": op}


def test_a_scope_can_be_entered_again_elsewhere() -> None:
    scope = mx.AttrScope(ctx_group="x")
    with mx.AttrScope(__k__="1"), scope:
        inner = V("a")
    with scope, scope:
        outer = V("b")
    assert inner.list_attr() == {"__k__": "1", "__ctx_group__": "x", "ctx_group": "x"}
    assert outer.list_attr() == {"__ctx_group__": "x", "ctx_group": "x"}


def test_a_scope_ends() -> None:
    with mx.AttrScope(ctx_group="x"):
        pass
    assert V("a").list_attr() == {}


def test_variables_take_any_key_and_ops_only_hints() -> None:
    with mx.AttrScope(mood="x"):
        assert V("a").list_attr() == {"mood": "x"}
        with pytest.raises(mx.MXNetError, match="Cannot find argument 'mood'"):
            sym.exp(V("a"))


@pytest.mark.parametrize("make", [V, lambda n, attr: sym.exp(V("a"), name=n, attr=attr)])
def test_a_hint_for_an_input_belongs_on_its_variable(make) -> None:
    with pytest.raises(mx.MXNetError, match="weight_lr_mult is deprecated: set it on the Variable"):
        make("x", attr={"weight_lr_mult": "2"})
    assert make("y", attr={"__weight_lr_mult__": "2"}).attr("__weight_lr_mult__") == "2"


def test_attributes_must_come_in_a_mapping() -> None:
    with pytest.raises(TypeError, match="attr: got 3, expected a dict"):
        V("a", attr=3)


def test_threads_have_their_own_scopes_and_counters() -> None:
    made = []
    with mx.AttrScope(ctx_group="x"):
        first = V("a") + 1
        thread = threading.Thread(target=lambda: made.append(V("a") + 1))
        thread.start()
        thread.join()
    assert first.attr("ctx_group") == "x"
    assert (made[0].name, made[0].attr("ctx_group")) == ("_plusscalar0", None)
