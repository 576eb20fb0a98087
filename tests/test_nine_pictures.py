"""The nine pictures of the tutorial: what their programs come to, and what is drawn."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections import Counter

import pytest

import raysym as mx
from raysym import tutorial
from raysym.pictures import Arrow, Diagram
from raysym.pictures.captions import parameter_lines
from raysym.pictures.of_executor import diagram_of_plan
from raysym.pictures.of_symbol import diagram_of_symbol
from raysym.planning.plan import parse

SVG = "{http://www.w3.org/2000/svg}"


def facts(program) -> dict:
    return dict(tutorial.run(program).facts)


def kinds(diagram: Diagram) -> Counter:
    return Counter(mark.kind for mark in diagram.marks)


def edges(diagram: Diagram) -> list[str]:
    return [f"{arrow.src} -> {arrow.dst}" for arrow in diagram.arrows]


# ----- the numbers


def test_compose_lists_what_it_waits_for():
    assert facts(tutorial.compose) == {
        "arguments": ["A", "B", "D"],
        "outputs": ["_plus0_output"],
    }


def test_configure_makes_weights():
    assert facts(tutorial.configure) == {
        "arguments": ["data", "fc1_weight", "fc1_bias"],
        "outputs": ["relu1_output"],
    }


def test_two_inputs_are_both_arguments():
    assert facts(tutorial.two_inputs)["arguments"] == ["data1", "data2", "fc1_weight", "fc1_bias"]


def test_bind_makes_room_for_the_outputs():
    assert facts(tutorial.bind) == {"arguments": ["A", "B", "D"], "outputs": [(1,)]}


def test_forward_sees_what_is_written_after_bind():
    assert facts(tutorial.forward) == {"E": 6.0, "E after": 20.0}


def test_group_gives_both_outputs():
    assert facts(tutorial.group) == {"outputs": ["C_output", "E_output"], "C": 10.0, "E": 20.0}


def test_backward_multiplies_by_the_head_gradient():
    assert facts(tutorial.backward) == {"E": 20.0, "grad A": 4.0}


def test_simple_bind_infers_every_shape_from_the_data():
    assert facts(tutorial.simple_bind) == {
        "data": (100, 768),
        "fc1_weight": (128, 768),
        "fc1_bias": (128,),
        "fc2_weight": (10, 128),
        "fc2_bias": (10,),
        "output": (100, 10),
    }


def test_auxiliary_states_move_a_tenth_towards_the_batch():
    # The batch has means 3 and 30 and biased variances 3.5 and 100.
    assert facts(tutorial.auxiliary_states) == {
        "bn_moving_mean": [0.3, 3.0],
        "bn_moving_var": [1.25, 10.9],
    }


# ----- the pictures


@pytest.mark.parametrize("program", tutorial.LESSONS, ids=lambda p: p.__name__)
def test_a_picture_is_a_document_that_names_everything(program):
    lesson = tutorial.run(program)
    root = ElementTree.fromstring(lesson.svg)
    texts = {element.text for element in root.iter(f"{SVG}text")}
    shown = {text for text in texts if text}
    assert root.tag == f"{SVG}svg"
    assert {name for name in lesson.facts.get("arguments", ()) if name not in shown} == set()
    assert program.__doc__


def test_there_are_nine_of_them():
    assert len({program.__name__ for program in tutorial.LESSONS}) == 9


def symbol_of(*, with_state=False) -> mx.Symbol:
    data = mx.sym.Variable("data")
    net = mx.sym.FullyConnected(data, num_hidden=3, name="fc")
    return mx.sym.BatchNorm(net, name="bn") if with_state else net


def test_a_symbol_is_drawn_node_by_node():
    diagram = diagram_of_symbol(symbol_of(with_state=True).graph, "title")
    assert kinds(diagram) == {"argument": 5, "aux": 2, "op": 2}
    assert edges(diagram)[:4] == ["data -> fc", "fc_weight -> fc", "fc_bias -> fc", "fc -> bn"]
    assert diagram.title == "title"
    [fc] = [mark for mark in diagram.marks if mark.id == "fc"]
    assert fc.sublabel == "FullyConnected\nnum_hidden=3"


def test_several_outputs_are_told_apart_on_the_arrows():
    parts = mx.sym.SliceChannel(mx.sym.Variable("x"), num_outputs=2, name="cut")
    diagram = diagram_of_symbol((parts[0] - parts[1]).graph)
    assert [a.label for a in diagram.arrows if a.src == "cut"] == ["output0", "output1"]


def test_a_symbol_twice_under_one_name_is_drawn_as_two_nodes():
    diagram = diagram_of_symbol((mx.sym.Variable("x") + mx.sym.Variable("x")).graph)
    assert [mark.label for mark in diagram.marks if mark.kind == "argument"] == ["x", "x"]
    assert len({mark.id for mark in diagram.marks}) == 3


def test_groups_hold_their_weights_as_well():
    data = mx.sym.Variable("data")
    with mx.AttrScope(ctx_group="front"):
        net = mx.sym.FullyConnected(data, num_hidden=3, name="fc1")
    with mx.AttrScope(ctx_group="back"):
        net = mx.sym.FullyConnected(net, num_hidden=2, name="fc2")
    groups = {mark.id: mark.group for mark in diagram_of_symbol(net.graph).marks}
    assert set(groups.values()) == {"front", "back"}
    assert groups["data"] == groups["fc1_weight"] == "front"
    assert groups["fc2_bias"] == "back"


def test_many_parameters_are_cut_short():
    convolution = mx.sym.Convolution(
        mx.sym.Variable("x"), kernel=(3, 3), pad=(1, 1), stride=(2, 2), num_filter=8
    )
    [node] = [node for node in convolution.graph.nodes if not node.is_variable]
    assert parameter_lines(node.op) == ["kernel=3×3", "stride=2×2", "…"]


def bound(**options) -> mx.Executor:
    net = mx.sym.make_loss(mx.sym.square(symbol_of(with_state=True), name="sq"), name="loss")
    return net.simple_bind(mx.cpu(), data=(4, 2), **options)


def test_an_executor_without_gradients_has_no_backward_part():
    assert kinds(diagram_of_plan(bound(grad_req="null").plan))["backward_op"] == 0


def test_an_executor_shows_each_array_in_its_role():
    executor = bound(grad_req={"fc_weight": "write", "fc_bias": "add"})
    executor.forward(is_train=True)
    executor.backward()
    counts = kinds(diagram_of_plan(executor.plan))
    assert counts["out_array"] == 1
    assert counts["aux_array"] == 4  # two as they were, two as they become
    assert counts["grad_array"] == 3  # written; and added to: the old and the new sum
    assert counts["backward_op"] > 0
    assert counts["head_grad"] == 0  # a loss needs none


def test_every_arrow_of_an_executor_is_in_the_plan():
    diagram = diagram_of_plan(
        parse(
            "cpu:0\n"
            "  home  a f32[2]\n"
            "  home  output:0 f32[2]\n"
            "  home  output:1 f32[2]\n"
            "  forward:\n"
            "    run   b f32[2] = relu(a)\n"
            "    run   output:0 f32[2] = _copy(b)\n"
            "    run   output:1 f32[2] = _copy(b)\n"
        )
    )
    assert edges(diagram) == ["a -> run b", "run b -> b", "b -> output:0", "b -> output:1"]
    assert kinds(diagram) == {"arg_array": 1, "op": 1, "internal_array": 1, "out_array": 2}


def test_workers_have_a_backdrop_each_and_arrows_between():
    with mx.AttrScope(ctx_group="front"):
        x = mx.sym.relu(mx.sym.Variable("x"), name="first")
    with mx.AttrScope(ctx_group="back"):
        y = mx.sym.tanh(x, name="second")
    places = {"front": mx.cpu(0), "back": mx.cpu(1)}
    executor = y.simple_bind(mx.cpu(), group2ctx=places, x=(2, 3), grad_req="null")
    diagram = diagram_of_plan(executor.plan)
    assert {mark.group for mark in diagram.marks} == {"cpu:0", "cpu:1"}
    assert Arrow("first", "run second") in diagram.arrows
    assert executor.draw(title="Two workers").count('class="lane"') == 2


def test_draw_writes_the_picture_that_it_returns(tmp_path):
    symbol = symbol_of()
    executor = symbol.simple_bind(mx.cpu(), data=(4, 2))
    for i, thing in enumerate((symbol, executor)):
        path = tmp_path / f"{i}.svg"
        assert thing.draw(path) == path.read_text(encoding="utf-8")


def test_small_arrays_show_their_content():
    x = mx.nd.array([10])
    executor = mx.sym.sqrt(mx.sym.Variable("x"), name="root").bind(mx.cpu(), [x])
    executor.forward()
    assert "= 10<" in executor.draw()
    x[:] = 9
    executor.forward()
    assert "= 9<" in executor.draw()
    assert "= 3<" in executor.draw()


def test_all_gradients_of_the_product_agree_with_pencil_and_paper():
    _, E = tutorial.product_of_three()
    executor = E.simple_bind(mx.cpu(), A=(1,), B=(1,), D=(1,))
    for name, value in {"A": 10, "B": 1, "D": 2}.items():
        executor.arg_dict[name][:] = value
    executor.forward(is_train=True)
    executor.backward(mx.nd.array([2]))
    found = {name: array.item() for name, array in executor.grad_dict.items()}
    assert found == {"A": 4.0, "B": 40.0, "D": 20.0}
