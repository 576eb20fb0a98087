"""Composition: slots, automatic variables, substitution. Answers are those of MXNet 1.9.1."""

from __future__ import annotations

import numpy as np
import pytest

import raysym as mx

sym, V = mx.sym, mx.sym.Variable


def net() -> mx.Symbol:
    return sym.FullyConnected(V("a"), num_hidden=3, name="fc")


# ----- slots


def test_open_slots_become_variables() -> None:
    assert net().list_arguments() == ["a", "fc_weight", "fc_bias"]
    assert sym.FullyConnected(num_hidden=3, name="f").list_arguments() == [
        "f_data", "f_weight", "f_bias",
    ]  # fmt: skip


def test_none_leaves_a_slot_open() -> None:
    by_position = sym.FullyConnected(None, V("w"), num_hidden=3, name="f")
    by_keyword = sym.FullyConnected(data=None, weight=V("w"), num_hidden=3, name="f")
    assert by_position.list_arguments() == ["f_data", "w", "f_bias"]
    assert by_keyword.list_arguments() == ["f_data", "w", "f_bias"]


@pytest.mark.parametrize(
    ("make", "slots"),
    [
        (lambda a: sym.FullyConnected(a, num_hidden=1, no_bias=True, name="o"), ["weight"]),
        (lambda a: sym.Deconvolution(a, num_filter=1, kernel=(1, 1), name="o"), ["weight"]),
        (lambda a: sym.LeakyReLU(a, act_type="leaky", name="o"), []),
        (lambda a: sym.LeakyReLU(a, act_type="prelu", name="o"), ["gamma"]),
        (
            lambda a: sym.RNN(a, state_size=3, num_layers=1, mode="lstm", name="o"),
            ["parameters", "state", "state_cell"],
        ),
        (
            lambda a: sym.RNN(a, state_size=3, num_layers=1, mode="gru", name="o"),
            ["parameters", "state"],
        ),
        (lambda a: sym.SequenceMask(a, name="o"), []),
        (lambda a: sym.SequenceMask(a, use_sequence_length=True, name="o"), ["sequence_length"]),
        (lambda a: sym.softmax(a, name="o"), []),
        (lambda a: sym.softmax(a, use_length=True, name="o"), ["length"]),
        (lambda a: sym.Embedding(a, input_dim=2, output_dim=2, name="o"), ["weight"]),
        (lambda a: sym.LayerNorm(a, name="o"), ["gamma", "beta"]),
        (lambda a: sym.SoftmaxOutput(a, name="o"), ["label"]),
        (
            lambda a: sym.UpSampling(a, scale=2, sample_type="bilinear", num_filter=1, name="o"),
            ["weight"],
        ),
    ],
)
def test_parameters_decide_which_slots_there_are(make, slots) -> None:
    assert make(V("a")).list_arguments() == ["a", *(f"o_{slot}" for slot in slots)]


def test_automatic_variables_inherit_all_attributes() -> None:
    fc = sym.FullyConnected(
        V("a"), num_hidden=3, name="fc", attr={"__k__": "v"}, lr_mult="2", __shape__=(3, 4)
    )
    own = {"num_hidden": "3", "__k__": "v", "__lr_mult__": "2", "lr_mult": "2"}
    own["__shape__"] = "(3, 4)"
    assert fc.attr_dict() == {"fc": own, "fc_weight": own, "fc_bias": own}


def test_ops_tell_variables_how_to_start() -> None:
    m = V("m")
    bn = sym.BatchNorm(V("a"), moving_mean=m, name="bn")
    assert bn.attr_dict()["m"] == {"__init__": '["zero", {}]'}
    assert bn.attr_dict()["bn_moving_var"] == {"__init__": '["one", {}]'}
    prelu = sym.LeakyReLU(V("a"), act_type="prelu", name="p")
    assert prelu.attr_dict()["p_gamma"]["__init__"] == '["Constant", {"value": 0.25}]'


def test_a_variable_that_says_how_to_start_keeps_its_word() -> None:
    m = V("m", init='["xavier", {}]')
    bn = sym.BatchNorm(V("a"), moving_mean=m, name="bn")
    assert bn.attr_dict()["m"]["__init__"] == '["xavier", {}]'


def test_hidden_outputs_do_not_count() -> None:
    bn = sym.BatchNorm(V("a"), name="bn")
    assert len(bn) == 1
    assert sym.FullyConnected(bn, num_hidden=3, name="f").list_outputs() == ["f_output"]
    assert len(sym.BatchNorm(V("a"), output_mean_var=True)) == 3


def test_positional_parameters_follow_the_inputs() -> None:
    fc = sym.FullyConnected(V("a"), V("w"), V("b"), 3, name="f")
    assert fc.list_attr() == {"num_hidden": "3"}
    assert V("a").one_hot(3).list_attr() == {"depth": "3"}


@pytest.mark.parametrize(
    "call",
    [
        lambda: sym.FullyConnected(V("a"), V("w"), num_hidden=3, weight=V("c")),
        lambda: sym.FullyConnected(V("a"), V("w"), num_hidden=3, data=V("c")),
        lambda: sym.FullyConnected(V("a"), V("w"), V("b"), 3, num_hidden=4),
        lambda: sym.FullyConnected(V("a"), V("w"), V("b"), 3, False, True, 5, 6, 7),
        lambda: sym.FullyConnected(V("a"), num_hidden=3, name=7),
    ],
)
def test_what_python_would_refuse_is_a_type_error(call) -> None:
    with pytest.raises(TypeError, match="FullyConnected"):
        call()


# ----- ops with any number of inputs


def test_the_inputs_are_counted() -> None:
    concat = sym.Concat(V("a"), V("b"), dim=0, name="c")
    assert concat.list_attr() == {"dim": "0", "num_args": "2"}
    assert sym.add_n(V("a"), name="s").list_attr() == {"num_args": "1"}
    named = sym.Concat(arg0=V("a"), arg1=V("b"), name="c")
    assert named.list_arguments() == ["a", "b"]


def test_missing_inputs_of_a_given_number_become_variables() -> None:
    assert sym.Concat(num_args=2, name="c").list_arguments() == ["c_arg0", "c_arg1"]
    assert sym.Concat(arg1=V("b"), num_args=2, name="c").list_arguments() == ["c_arg0", "b"]
    assert sym.Concat(V("a"), V("b"), num_args=3, name="c").list_arguments() == ["a", "b", "c_arg2"]


@pytest.mark.parametrize(
    "call",
    [
        sym.Concat,
        lambda: sym.Concat(arg1=V("b")),
        lambda: sym.Concat(V("a"), sym.Group([V("b"), V("c")])),
        lambda: sym.Concat(V("a"), V("b"), num_args=1),
    ],
)
def test_a_wrong_number_of_inputs_is_refused(call) -> None:
    with pytest.raises(mx.MXNetError, match=r"Concat|compose"):
        call()


# ----- substitution


def test_calling_replaces_variables_in_a_copy() -> None:
    old = net()
    new = old(a=V("q"), name="new")
    assert new.list_arguments() == ["q", "fc_weight", "fc_bias"]
    assert new.list_outputs() == ["new_output"]
    assert old.list_arguments() == ["a", "fc_weight", "fc_bias"]
    assert old.list_outputs() == ["fc_output"]


def test_calling_with_nothing_copies() -> None:
    old = net()
    new = old()
    assert new.tojson() == old.tojson()
    new._set_attr(num_hidden="7")
    assert old.attr("num_hidden") == "3"


def test_a_variable_is_replaced_wherever_it_is_used() -> None:
    a = V("a")
    new = (a * a + a)(a=V("b") * 2)
    assert new.list_arguments() == ["b"]
    assert [node.name for node in new.graph.nodes] == ["b", "_mulscalar0", "_mul0", "_plus0"]


def test_members_of_a_group_are_replaced() -> None:
    group = sym.Group([V("a"), V("b")])
    assert group(a=V("c") + 1).list_outputs() == ["_plusscalar0_output", "b"]


def test_a_name_renames_the_first_output() -> None:
    group = sym.Group([V("a") + 1, V("b")])
    assert group(a=V("c"), name="zz").list_outputs() == ["zz_output", "b"]
    assert V("a")(name="zz").list_outputs() == ["zz"]


def test_an_auxiliary_state_is_replaced_by_a_variable_only() -> None:
    bn = sym.BatchNorm(V("a"), name="bn")
    assert bn(bn_moving_mean=V("q")).list_auxiliary_states() == ["q", "bn_moving_var"]
    with pytest.raises(mx.MXNetError, match="Mutation target can only be Variable"):
        bn(bn_moving_mean=V("q") + 1)


def test_a_replacement_is_shared_and_not_copied() -> None:
    shared = V("x") + 1
    group = sym.Group([net()(a=shared), shared])
    assert group.list_arguments() == ["x", "fc_weight", "fc_bias"]


def test_one_output_of_several_is_a_replacement() -> None:
    pair = sym.SliceChannel(V("z"), num_outputs=2, name="s")
    new = net()(a=pair[1])
    fc = new.graph.outputs[0].node
    assert (fc.inputs[0].node.name, fc.inputs[0].index) == ("s", 1)
    with pytest.raises(mx.MXNetError, match="single value is required"):
        net()(a=pair)


def test_a_composed_net_computes_what_its_parts_do() -> None:
    inner = sym.FullyConnected(V("x"), V("w"), num_hidden=2, no_bias=True, name="inner")
    outer = sym.sum(V("y") * 2)
    w = np.array([[1, 2, 3], [4, 5, 6]], "float32")
    made = outer(y=inner).eval(x=mx.nd.ones((1, 3)), w=mx.nd.array(w))
    np.testing.assert_array_equal(made[0].asnumpy(), [2 * w.sum()])
