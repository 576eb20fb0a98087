"""Symbol: lists, indices, groups, attributes, operators, copies, text. Answers are MXNet's."""

from __future__ import annotations

import copy
import inspect
import pickle

import numpy as np
import pytest

import raysym as mx
from raysym.opdoc import FLUENT_METHODS

sym, V = mx.sym, mx.sym.Variable


def batch_norm() -> mx.Symbol:
    return sym.BatchNorm(V("a"), name="bn")


def three() -> mx.Symbol:
    return sym.SliceChannel(V("a"), num_outputs=3, name="s")


# ----- variables


def test_a_variable_keeps_what_it_is_told_as_attributes() -> None:
    v = V("v", shape=(2, 3), lr_mult=2, wd_mult=0.5, dtype=np.float64, init="xavier", stype="csr")
    assert v.list_attr() == {
        "__shape__": "(2, 3)", "__lr_mult__": "2", "lr_mult": "2", "__wd_mult__": "0.5",
        "wd_mult": "0.5", "__dtype__": "1", "__init__": "xavier", "__storage_type__": "2",
    }  # fmt: skip
    assert V("v", __mood__=3).list_attr() == {"__mood__": "3"}


@pytest.mark.parametrize(
    ("shape", "found"), [([1, 2], (1, 2)), (3, (3,)), ("(2,3)", (2, 3)), ((2,), (2,))]
)
def test_a_variable_takes_shapes_of_any_spelling(shape: object, found: tuple) -> None:
    assert V("v", shape=shape).infer_shape() == ([found], [found], [])


@pytest.mark.parametrize("dtype", ["int16", "complex64"])
def test_dtypes_without_a_code_are_refused(dtype: str) -> None:
    with pytest.raises(KeyError, match="Variable 'v': dtype"):
        V("v", dtype=dtype)


def test_what_is_no_dtype_or_storage_is_refused() -> None:
    with pytest.raises(TypeError):
        V("v", dtype="foo")
    with pytest.raises(KeyError, match="stype: got foo, expected one of default"):
        V("v", stype="foo")


# ----- lists


def test_lists_of_an_op_with_auxiliary_states() -> None:
    bn = batch_norm()
    assert bn.list_arguments() == ["a", "bn_gamma", "bn_beta"]
    assert bn.list_auxiliary_states() == ["bn_moving_mean", "bn_moving_var"]
    assert bn.list_inputs() == ["a", "bn_gamma", "bn_beta", "bn_moving_mean", "bn_moving_var"]
    assert bn.list_outputs() == ["bn_output"]
    assert bn.get_children().list_outputs() == bn.list_inputs()
    assert bn.get_internals().list_outputs() == [*bn.list_inputs(), "bn_output"]


def test_a_variable_that_is_a_state_anywhere_is_no_argument() -> None:
    m = V("m")
    total = sym.BatchNorm(V("a"), moving_mean=m, name="bn") + m
    assert total.list_arguments() == ["a", "bn_gamma", "bn_beta"]
    assert total.list_auxiliary_states() == ["m", "bn_moving_var"]


def test_arguments_are_unique_by_node_not_by_name() -> None:
    a = V("a")
    assert (a + a).list_arguments() == ["a"]
    assert (a + V("a")).list_arguments() == ["a", "a"]


@pytest.mark.parametrize(
    ("make", "labels"),
    [
        (lambda a: sym.exp(a, name="o"), ["output"]),
        (lambda a: sym.BatchNorm(a, output_mean_var=True, name="o"), ["output", "mean", "var"]),
        (lambda a: sym.LayerNorm(a, output_mean_var=True, name="o"), ["output", "mean", "std"]),
        (lambda a: sym.SliceChannel(a, num_outputs=2, name="o"), ["output0", "output1"]),
        (lambda a: sym.topk(a, ret_typ="both", name="o"), ["output0", "output1"]),
        (lambda a: sym.sort(a, name="o"), ["output0"]),
        (lambda a: sym.CTCLoss(a, V("l"), name="o"), ["output0"]),
        (lambda a: sym.make_loss(a, name="o"), ["loss"]),
        (lambda a: sym.moments(a, name="o"), ["output0", "output1"]),
    ],
)
def test_outputs_have_labels(make, labels) -> None:
    assert make(V("a")).list_outputs() == [f"o_{label}" for label in labels]


def test_internals_are_cut_points() -> None:
    net = sym.FullyConnected(sym.exp(V("a"), name="e"), num_hidden=3, name="fc")
    cut = net.get_internals()["e_output"]
    assert (cut.list_arguments(), cut.name) == (["a"], "e")


def test_internals_show_all_outputs_of_a_splitter() -> None:
    assert three()[1].get_internals().list_outputs() == [
        "a", "s_output0", "s_output1", "s_output2",
    ]  # fmt: skip


def test_children() -> None:
    a, b = V("a"), V("b")
    assert a.get_children() is None
    assert sym.Group([a, b]).get_children() is None
    assert (a + a).get_children().list_outputs() == ["a", "a"]
    assert sym.Group([a + b, a * b]).get_children().list_outputs() == ["a", "b", "a", "b"]
    assert three()[1].get_children().list_outputs() == ["a"]


# ----- outputs by index


def test_outputs_by_index_and_name() -> None:
    s = three()
    assert [part.list_outputs() for part in s] == [["s_output0"], ["s_output1"], ["s_output2"]]
    assert s["s_output1"].list_outputs() == s[1].list_outputs() == s[np.int64(1)].list_outputs()
    assert (len(s), len(s[1]), s[1].name, repr(s[1])) == (3, 1, "s", "<Symbol s>")
    assert V("a")[0].list_outputs() == ["a"]


def test_slices_are_groups() -> None:
    s = three()
    assert s[1:].list_outputs() == ["s_output1", "s_output2"]
    assert s[::2].list_outputs() == ["s_output0", "s_output2"]
    assert s[0:1].list_outputs() == ["s_output0"]


@pytest.mark.parametrize(
    ("key", "error"),
    [
        (slice(None, -1), TypeError), (slice(-2, None), mx.MXNetError), (slice(5, 6), IndexError),
        (slice(1, 1), TypeError), (slice(1, 50), IndexError), (slice(None, None, -1), TypeError),
    ],
)  # fmt: skip
def test_slices_check_their_bounds(key: slice, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"Symbol s"):
        three()[key]


def test_groups_flatten_and_keep_duplicates() -> None:
    a = V("a")
    group = sym.Group([a, a, sym.Group((a, V("b")))])
    assert group.list_outputs() == ["a", "a", "a", "b"]
    assert (group.name, repr(group)) == (None, "<Symbol group [a, b]>")
    assert (sym.Group([a, a]).name, sym.Group([a]).list_outputs()) == ("a", ["a"])


@pytest.mark.parametrize("members", ["ab", (), [V("a"), 3], None])
def test_what_is_no_list_of_symbols_is_no_group(members: object) -> None:
    with pytest.raises(TypeError, match="expected a list of symbols"):
        sym.Group(members)


def test_a_symbol_is_no_list() -> None:
    with pytest.raises(mx.NotImplementedForSymbol):
        sym.Group(V("a"))


# ----- attributes


def test_attributes_of_the_head() -> None:
    fc = sym.FullyConnected(V("a"), num_hidden=3, name="fc", attr={"ctx_group": "g"})
    assert [fc.attr(key) for key in ("num_hidden", "ctx_group", "__ctx_group__", "no_bias")] == [
        "3", "g", "g", None,
    ]  # fmt: skip
    assert (fc.attr("name"), fc.attr("op_name")) == ("fc", "FullyConnected")
    assert fc.list_attr() == {"num_hidden": "3", "__ctx_group__": "g", "ctx_group": "g"}
    group = sym.Group([fc, V("b")])
    assert (group.attr("num_hidden"), group.list_attr()) == (None, {})
    with pytest.raises(DeprecationWarning, match="attr_dict"):
        fc.list_attr(recursive=True)


def test_setting_a_parameter_changes_the_op() -> None:
    fc = sym.FullyConnected(V("a"), num_hidden=3, name="fc")
    fc._set_attr(num_hidden="5", lr_mult="2")
    assert fc.infer_shape(a=(2, 3))[1] == [(2, 5)]
    assert fc.attr("lr_mult") == "2"
    v = V("v")
    v._set_attr(__shape__="(2, 3)", mood="5")
    assert sym.exp(v).infer_shape()[1] == [(2, 3)]
    assert v.attr("mood") == "5"


@pytest.mark.parametrize(
    ("attrs", "error", "words"),
    [
        ({"num_hidden": 5}, ValueError, "only accepts string values: got 5"),
        ({"num_hidden": "x"}, mx.MXNetError, "FullyConnected 'fc': invalid parameter num_hidden"),
        ({"mood": "x"}, mx.MXNetError, "FullyConnected 'fc': Cannot find argument 'mood'"),
        ({"weight_lr_mult": "2"}, mx.MXNetError, "deprecated"),
    ],
)
def test_a_bad_attribute_is_not_set(attrs: dict, error: type[Exception], words: str) -> None:
    fc = sym.FullyConnected(V("a"), num_hidden=3, name="fc")
    with pytest.raises(error, match=words):
        fc._set_attr(**attrs)
    assert fc.list_attr() == {"num_hidden": "3"}


def test_a_group_has_no_attributes_to_set() -> None:
    with pytest.raises(mx.MXNetError, match="not on a group"):
        sym.Group([V("a"), V("b")])._set_attr(x="1")


# ----- operators


def test_operators_compose_ops() -> None:
    a, b = V("a"), V("b")
    made = [a + b, a - b, a * b, a / b, a**b, a % b, -a, abs(a), 1 > a, 1 <= a, 1 == a]
    assert [s.attr("op_name") for s in made] == [
        "elemwise_add", "elemwise_sub", "elemwise_mul", "elemwise_div", "_power", "_mod",
        "_mul_scalar", "abs", "_lesser_scalar", "_greater_equal_scalar", "_equal_scalar",
    ]  # fmt: skip
    assert [(-a).attr("scalar"), (a + 2).attr("scalar"), (2.5 - a).attr("scalar")] == [
        "-1.0", "2", "2.5",
    ]  # fmt: skip


def test_numpy_numbers_work_on_both_sides() -> None:
    a = V("a")
    assert (np.float32(0.1) + a).list_attr() == {"scalar": "0.1"}
    assert (a * np.int32(2)).list_attr() == {"scalar": "2"}
    assert (np.float64(2) - a).attr("op_name") == "_rminus_scalar"
    assert (np.float32(2) > a).attr("op_name") == "_lesser_scalar"


@pytest.mark.parametrize(
    "apply",
    [
        lambda a: a // 2, lambda a: a @ a, lambda a: a & a, lambda a: ~a, lambda a: +a,
        lambda a: divmod(a, 2), round, float, int, lambda a: a == None, lambda a: {a: 1},  # noqa: E711
        lambda a: np.zeros(2) + a, lambda a: a + np.zeros(2), lambda a: mx.nd.zeros(2) + a,
    ],
)  # fmt: skip
def test_what_symbols_cannot_do_is_a_type_error(apply) -> None:
    with pytest.raises(TypeError):
        apply(V("a"))


@pytest.mark.parametrize(
    "name",
    ["asnumpy", "asscalar", "wait_to_read", "as_in_context", "detach", "backward", "copy"],
)
def test_what_needs_numbers_is_refused(name: str) -> None:
    with pytest.raises(mx.NotImplementedForSymbol, match="<Symbol a> has no numbers"):
        getattr(V("a"), name)()


@pytest.mark.parametrize("op", ["__iadd__", "__isub__", "__imul__", "__itruediv__"])
def test_symbols_do_not_change(op: str) -> None:
    with pytest.raises(mx.NotImplementedForSymbol, match="cannot be changed in place"):
        getattr(V("a"), op)(2)


def test_membership_needs_a_truth_value() -> None:
    with pytest.raises(mx.NotImplementedForSymbol):
        V("a") in [V("b")]  # noqa: B015


def test_functions_of_numbers_give_numbers() -> None:
    assert (sym.pow(2, 3), sym.maximum(2, 3), sym.minimum(2, 3), sym.hypot(3, 4)) == (8, 3, 2, 5)
    with pytest.raises(TypeError, match="expected symbols or numbers"):
        sym.maximum(V("a"), None)


# ----- methods


def test_methods_are_ops() -> None:
    a = V("a")
    assert a.reshape((2, 3)).tojson() == sym.Reshape(a, shape=(2, 3), name="reshape0").tojson()
    assert a.reshape(2, 3).list_attr() == a.reshape(shape=(2, 3)).list_attr()
    assert a.sum(1).list_attr() == a.sum(axis=1).list_attr() == {"axis": "1"}
    assert a.mean(axis=(0, 1), keepdims=True, name="m").attr("keepdims") == "True"
    assert a.take(V("i")).list_arguments() == ["a", "i"]
    assert a.split(2).list_outputs() == ["split0_output0", "split0_output1"]
    assert a.split_v2((1,), axis=0).attr("indices") == "[0, 1]"


@pytest.mark.parametrize("name", FLUENT_METHODS)
def test_methods_are_documented_with_their_signature(name: str) -> None:
    method = getattr(mx.Symbol, name)
    assert method.__doc__
    assert next(iter(inspect.signature(method).parameters)) == "self"


def test_functions_are_documented_with_their_signature() -> None:
    parameters = inspect.signature(sym.FullyConnected).parameters
    assert list(parameters) == [
        "data", "weight", "bias", "num_hidden", "no_bias", "flatten", "name", "attr", "out",
        "kwargs",
    ]  # fmt: skip
    assert "num_hidden : an int >= 1, required" in sym.FullyConnected.__doc__


# ----- copies and text


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s)), lambda s: s()]
)
def test_copies_share_nothing_that_changes(copied) -> None:
    old = sym.BatchNorm(V("a", shape=(2, 3)) + 1, name="bn")
    new = copied(old)
    assert new.tojson() == old.tojson()
    new._set_attr(eps="0.5")
    assert (new.attr("eps"), old.attr("eps")) == ("0.5", None)


def test_debug_str() -> None:
    m = V("m")
    x = sym.SliceChannel(V("x"), num_outputs=2, name="s")
    bn = sym.BatchNorm(x[1], moving_mean=m, name="bn", eps=0.1)
    assert bn.debug_str() == (
        "Symbol Outputs:\n\toutput[0]=bn(0)\nVariable:x\n"
        "--------------------\nOp:SliceChannel, Name=s\nInputs:\n\targ[0]=x(0) version=0\n"
        "Attrs:\n\tnum_outputs=2\n"
        "Variable:bn_gamma\nVariable:bn_beta\nVariable:m\nVariable:bn_moving_var\n"
        "--------------------\nOp:BatchNorm, Name=bn\nInputs:\n\targ[0]=s(1)\n"
        "\targ[1]=bn_gamma(0) version=0\n\targ[2]=bn_beta(0) version=0\n"
        "\targ[3]=m(0) version=1\n\targ[4]=bn_moving_var(0) version=1\nAttrs:\n\teps=0.1\n"
    )


def test_backends_change_nothing() -> None:
    net = batch_norm()
    assert net.optimize_for("nothing").tojson() == net.tojson()


# ----- creation and evaluation


@pytest.mark.parametrize(
    ("make", "values"),
    [
        (lambda: sym.arange(3), [0, 1, 2]),
        (lambda: sym.arange(1, 5, 2, repeat=2), [1, 1, 3, 3]),
        (lambda: sym.zeros((2,)), [0, 0]),
        (lambda: sym.full((2,), 3, dtype="int32"), [3, 3]),
        (lambda: sym.eye(2, 3, 1), [[0, 1, 0], [0, 0, 1]]),
        (lambda: sym.linspace(0, 1, 5), [0, 0.25, 0.5, 0.75, 1]),
        (lambda: sym.linspace(0, 1, 5, endpoint=False), [0, 0.2, 0.4, 0.6, 0.8]),
    ],
)
def test_creation(make, values) -> None:
    np.testing.assert_allclose(make().eval()[0].asnumpy(), values, rtol=1e-6)


def test_eval_ignores_what_it_does_not_need() -> None:
    made = (V("a") + 1).eval(mx.cpu(), a=mx.nd.ones(2), other=3)
    np.testing.assert_array_equal(made[0].asnumpy(), [2, 2])


@pytest.mark.parametrize("symbol", [V("a") + 1, batch_norm()])
def test_eval_needs_all_arguments_and_has_no_states(symbol: mx.Symbol) -> None:
    arrays = {name: mx.nd.ones((2, 3)) for name in symbol.list_arguments() if name != "a"}
    with pytest.raises(ValueError, match="bind: a"):
        symbol.eval(**arrays)


def test_functions_with_their_own_rules() -> None:
    a = V("a")
    with pytest.raises(ValueError, match="histogram"):
        sym.histogram(a, bins=3)
    assert sym.histogram(a, bins=V("b")).list_arguments() == ["a", "b"]
    with pytest.raises(ValueError, match="split_v2"):
        sym.split_v2(a, [1, 2])
    with pytest.raises(TypeError, match="Cast 'cast0': data type not understood"):
        sym.Cast(a, dtype="foo")
