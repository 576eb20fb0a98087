"""Shape and dtype inference in both directions. Answers are those of MXNet 1.9.1."""

from __future__ import annotations

import numpy as np
import pytest

import raysym as mx

sym, V = mx.sym, mx.sym.Variable


def dense() -> mx.Symbol:
    return sym.FullyConnected(V("a"), num_hidden=3, name="fc")


def shapes(symbol: mx.Symbol, **given: tuple) -> tuple:
    """What is known of all shapes, partial ones included."""
    return symbol.infer_shape_partial(**given)


# ----- the calls


def test_shapes_of_arguments_outputs_and_states() -> None:
    bn = sym.BatchNorm(V("a"), name="bn")
    assert bn.infer_shape(a=(2, 3, 4)) == ([(2, 3, 4), (3,), (3,)], [(2, 3, 4)], [(3,), (3,)])
    assert dense().infer_shape((2, 4)) == ([(2, 4), (3, 4), (3,)], [(2, 3)], [])
    assert dense().infer_shape(a=(np.int64(2), np.int32(4)))[1] == [(2, 3)]


def test_what_stays_unknown_is_warned_of() -> None:
    with pytest.warns(UserWarning, match=r"infer_shape.*: a, fc_weight"):
        assert dense().infer_shape() == (None, None, None)
    with pytest.warns(UserWarning, match="infer_shape"):
        assert dense().infer_shape(a=(0, 4)) == (None, None, None)
    with pytest.warns(UserWarning, match="infer_type"):
        assert dense().infer_type() == (None, None, None)


def test_at_most_ten_undecided_arguments_are_listed() -> None:
    total = sym.add_n(*[V(f"v{i:02}") for i in range(12)])
    with pytest.warns(UserWarning, match=r"v00.*v09$"):
        total.infer_shape()


def test_partial_answers() -> None:
    assert shapes(dense()) == ([(), (), ()], [()], [])
    assert shapes(dense(), a=()) == shapes(dense())
    assert shapes(dense(), a=(0, 4)) == ([(0, 4), (3, 4), (3,)], [(0, 3)], [])
    assert shapes(dense(), a=(-1, 4)) == shapes(dense(), a=(0, 4))


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"a": 2}, TypeError), ({"a": np.array([2, 3])}, TypeError), ({"a": (2.0, 3)}, TypeError),
        ({"a": "(2, 3)"}, TypeError), ({"b": (2, 3)}, mx.MXNetError),
    ],
)  # fmt: skip
def test_bad_shapes_are_refused(given: dict, error: type[Exception]) -> None:
    with pytest.raises(error, match="infer_shape"):
        dense().infer_shape(**given)


def test_positions_and_keywords_do_not_mix() -> None:
    with pytest.raises(ValueError, match="positions or keywords"):
        dense().infer_shape((2, 3), a=(2, 3))
    with pytest.raises(ValueError, match="positions or keywords"):
        dense().infer_type("float32", a="float32")


def test_a_given_shape_beats_the_attribute() -> None:
    fc = sym.FullyConnected(V("a", shape=(2, 4)), num_hidden=3)
    assert fc.infer_shape()[1] == [(2, 3)]
    assert fc.infer_shape(a=(5, 6))[1] == [(5, 3)]


def test_shapes_of_states_may_be_given() -> None:
    bn = sym.BatchNorm(V("a"), name="bn")
    assert bn.infer_shape(a=(2, 3), bn_moving_mean=(3,))[2] == [(3,), (3,)]


def test_nodes_of_one_name_are_given_one_shape() -> None:
    assert (V("a") + V("a")).infer_shape(a=(2, 3))[0] == [(2, 3), (2, 3)]


# ----- both directions


@pytest.mark.parametrize(
    "make",
    [
        lambda a: sym.exp(a), lambda a: a + 1, lambda a: sym.Activation(a, act_type="relu"),
        lambda a: sym.Cast(a, dtype="float16"), sym.BlockGrad, sym.zeros_like,
        lambda a: sym.clip(a, 0, 1), lambda a: sym.add_n(a, V("other")),
    ],
)  # fmt: skip
def test_outputs_tell_of_inputs(make) -> None:
    assert shapes(make(V("a")) + V("b"), b=(2, 3))[0][0] == (2, 3)


@pytest.mark.parametrize(
    "make",
    [
        sym.Dropout, sym.Flatten, sym.softmax, lambda a: sym.Pooling(a, kernel=(2, 2)),
        lambda a: sym.LayerNorm(a),
        lambda a: sym.slice_axis(a, axis=0, begin=0, end=1), lambda a: sym.sum(a, axis=0),
        lambda a: sym.LeakyReLU(a), lambda a: sym.BatchNorm(a),
    ],
)  # fmt: skip
def test_some_ops_look_only_forward(make) -> None:
    assert shapes(make(V("a")) + V("b"), b=(2, 3))[0][0] == ()


def test_dimensions_come_from_either_side() -> None:
    total = V("a") + V("b")
    assert total.infer_shape(a=(2, 0), b=(0, 3))[1] == [(2, 3)]
    assert sym.Concat(V("a"), V("b")).infer_shape(a=(2, 3), b=(0, 4))[0] == [(2, 3), (2, 4)]
    reshaped = sym.Reshape(V("a"), shape=(-1, 4)) + V("b")
    assert reshaped.infer_shape(a=(0, 4), b=(2, 4))[0][0] == (2, 4)


def test_weights_do_not_tell_of_data() -> None:
    assert shapes(dense(), fc_weight=(3, 4))[0] == [(), (3, 4), ()]


def test_the_first_state_of_an_unrolled_network_is_found() -> None:
    h, x = sym.zeros((0, 4)), V("x")
    for _ in range(3):
        new = sym.FullyConnected(x, V("w"), num_hidden=4, no_bias=True)
        old = sym.FullyConnected(h, V("u"), num_hidden=4, no_bias=True)
        h = sym.Activation(new + old, act_type="tanh")
    assert h.infer_shape(x=(5, 3))[1] == [(5, 4)]
    assert (sym.zeros((0, 3)) + V("b")).infer_shape(b=(2, 3))[1] == [(2, 3)]


def test_a_contradiction_is_found_however_late_it_shows() -> None:
    a = V("a")
    middle = sym.exp(a, name="middle")  # its input and output become known from elsewhere
    group = sym.Group([middle + V("c"), a + V("d")])
    with pytest.raises(mx.MXNetError):
        group.infer_shape(c=(2, 3), d=(3, 4))


# ----- labels


def test_labels_take_their_shape_from_the_data() -> None:
    def label(symbol: mx.Symbol, **given: tuple) -> tuple:
        return symbol.infer_shape(**given)[0][1]

    softmax = sym.SoftmaxOutput(V("data"), name="s")
    assert label(softmax, data=(5, 4)) == (5,)
    assert label(softmax, data=(5, 4), s_label=(5, 4)) == (5, 4)
    multi = sym.SoftmaxOutput(V("data"), name="s", multi_output=True)
    assert label(multi, data=(5, 4, 3, 2)) == (5, 6)
    assert label(multi, data=(5, 4, 3, 2), s_label=(5, 3, 2)) == (5, 3, 2)
    regression = sym.LinearRegressionOutput(V("data"), name="s")
    assert label(regression, data=(5, 4)) == (5, 4)
    assert label(regression, data=(5, 1)) == (5,)
    with pytest.raises(mx.MXNetError, match="SoftmaxOutput 's'"):
        softmax.infer_shape(data=(5, 4), s_label=(6,))


# ----- conflicts


def test_a_conflict_names_node_types_and_sources() -> None:
    with pytest.raises(mx.MXNetError) as caught:
        dense().infer_shape(a=(2, 4), fc_weight=(3, 5))
    lines = str(caught.value).split("\n")
    assert lines[0] == "FullyConnected 'fc': weight does not fit: got (3, 5), expected (3, 4)"
    assert lines[1].startswith("  inputs are data = a (2, 4), weight = fc_weight (3, 5), bias =")
    assert lines[2].startswith("  made at ")
    assert "test_infer.py:" in lines[2]


@pytest.mark.parametrize("call", ["infer_shape", "infer_shape_partial"])
def test_conflicts_are_errors_of_partial_inference_too(call: str) -> None:
    with pytest.raises(mx.MXNetError, match="elemwise_add"):
        getattr(V("a") + V("b"), call)(a=(2, 3), b=(2, 3, 1))


# ----- dtypes


def test_one_dtype_is_enough_for_ops_of_one_dtype() -> None:
    half = [np.float16] * 3
    assert dense().infer_type(a=np.float16) == (half, [np.float16], [])
    assert dense().infer_type(fc_weight="float16") == (half, [np.float16], [])
    assert (V("a") + V("b")).infer_type(b="float16")[0] == [np.float16, np.float16]
    assert dense().infer_type_partial() == ([None] * 3, [None], [])


def test_dtypes_contradict_each_other() -> None:
    with pytest.raises(mx.MXNetError, match="FullyConnected 'fc'"):
        dense().infer_type(a="float32", fc_weight="float64")


def test_dtypes_that_arrays_cannot_have() -> None:
    with pytest.warns(UserWarning, match="infer_type"):
        assert dense().infer_type(a="int16") == (None, None, None)
    with pytest.raises(TypeError):
        dense().infer_type(a="foo")
    with pytest.raises(mx.MXNetError, match="argument b not found"):
        dense().infer_type(b="float32")


@pytest.mark.parametrize(
    ("make", "given", "args", "out"),
    [
        (lambda a: sym.Cast(a, dtype="float16"), "float32", ["float32"], "float16"),
        (lambda a: sym.one_hot(a, depth=3), "int32", ["int32"], "float32"),
        (lambda a: sym.topk(a), "float64", ["float64"], "float32"),
        (lambda a: sym.argsort(a), "int32", ["int32"], "float32"),
        (lambda a: sym.argmax(a, axis=0), "float64", ["float64"], "float64"),
        (lambda a: a > V("b"), "int32", ["int32", "int32"], "int32"),
        (lambda a: a + 1.5, "int32", ["int32"], "int32"),
        (lambda a: sym.shape_array(a), "float16", ["float16"], "int64"),
        (
            lambda a: sym.Embedding(a, input_dim=3, output_dim=4), "int32", ["int32", "float32"],
            "float32",
        ),
        (lambda a: sym.LayerNorm(a), "float16", ["float16"] * 3, "float16"),
        (lambda a: sym.BatchNorm(a), "float16", ["float16", "float32", "float32"], "float16"),
    ],
)  # fmt: skip
def test_dtypes_of_ops(make, given: str, args: list[str], out: str) -> None:
    found = make(V("a")).infer_type(a=given)
    assert [np.dtype(t).name for t in found[0]] == args
    assert np.dtype(found[1][0]).name == out


def test_batch_norm_keeps_its_parameters_and_states_wide() -> None:
    found = sym.BatchNorm(V("a")).infer_type(a="float16")
    assert found[2] == [np.float32, np.float32]
    assert sym.BatchNorm(V("a")).infer_type(a="float64")[2] == [np.float64, np.float64]


def test_a_declared_dtype_counts_unless_another_is_given() -> None:
    fc = sym.FullyConnected(V("a", dtype="float64"), num_hidden=3)
    assert fc.infer_type()[1] == [np.float64]
    assert fc.infer_type(a="float32")[1] == [np.float32]
