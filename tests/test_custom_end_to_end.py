"""Operators of users as they meet them: composed, bound, trained, on workers, and failing."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

import raysym as mx
from raysym.planning.plan import parse
from raysym.runtime.parcel import Parcel


class Scale(mx.operator.CustomOp):
    """``factor x^2 w`` and ``x + 1``; counts its runs: forward one, backward ten."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def forward(self, is_train: Any, req: Any, in_data: Any, out_data: Any, aux: Any) -> None:
        x, w = in_data
        self.assign(out_data[0], req[0], self.factor * mx.nd.square(x) * w)
        self.assign(out_data[1], req[1], x + 1)
        aux[0][:] = aux[0] + 1

    def backward(
        self, req: Any, out_grad: Any, in_data: Any, out_data: Any, in_grad: Any, aux: Any
    ) -> None:
        x, w = in_data
        self.assign(in_grad[0], req[0], 2 * self.factor * x * w * out_grad[0] + out_grad[1])
        self.assign(in_grad[1], req[1], self.factor * mx.nd.square(x) * out_grad[0])
        aux[0][:] = aux[0] + 10


@mx.operator.register("e2e_scale")
class ScaleProp(mx.operator.CustomOpProp):
    """Two inputs, two outputs, a state, a parameter that arrives as a string."""

    def __init__(self, factor: str = "1") -> None:
        super().__init__(need_top_grad=True)
        assert isinstance(factor, str)
        self.factor = float(factor)

    def list_arguments(self) -> list[str]:
        return ["data", "weight"]

    def list_outputs(self) -> list[str]:
        return ["power", "next"]

    def list_auxiliary_states(self) -> list[str]:
        return ["count"]

    def infer_shape(self, in_shape: list[Any]) -> tuple[Any, ...]:
        return [in_shape[0], in_shape[0]], [in_shape[0], in_shape[0]], [(1,)]

    def create_operator(self, ctx: Any, in_shapes: Any, in_dtypes: Any) -> mx.operator.CustomOp:
        return Scale(self.factor)


class Distance(mx.operator.CustomOp):
    """Softmax whose gradient is that of the cross entropy, as in MXNet's own example."""

    def forward(self, is_train: Any, req: Any, in_data: Any, out_data: Any, aux: Any) -> None:
        x = in_data[0].asnumpy()
        y = np.exp(x - x.max(axis=1, keepdims=True))
        self.assign(out_data[0], req[0], mx.nd.array(y / y.sum(axis=1, keepdims=True)))

    def backward(
        self, req: Any, out_grad: Any, in_data: Any, out_data: Any, in_grad: Any, aux: Any
    ) -> None:
        label = in_data[1].asnumpy().astype(int)
        y = out_data[0].asnumpy()
        y[np.arange(len(label)), label] -= 1
        self.assign(in_grad[0], req[0], mx.nd.array(y))


@mx.operator.register("e2e_softmax")
class DistanceProp(mx.operator.CustomOpProp):
    """A loss: it asks for no gradient from above."""

    def __init__(self) -> None:
        super().__init__(need_top_grad=False)

    def list_arguments(self) -> list[str]:
        return ["data", "label"]

    def infer_shape(self, in_shape: list[Any]) -> tuple[Any, ...]:
        return [in_shape[0], [in_shape[0][0]]], [in_shape[0]], []

    def create_operator(self, ctx: Any, in_shapes: Any, in_dtypes: Any) -> mx.operator.CustomOp:
        return Distance()


def scaled(**inputs: mx.Symbol) -> mx.Symbol:
    return mx.sym.Custom(**inputs, op_type="e2e_scale", factor=2.5, name="c")


# ----- composition


def test_the_property_class_says_what_the_symbol_looks_like() -> None:
    net = mx.sym.Custom(mx.sym.Variable("a"), op_type="e2e_scale", factor=2.5, name="c")
    assert net.list_arguments() == ["a", "c_weight"]
    assert net.list_auxiliary_states() == ["c_count"]
    assert net.list_outputs() == ["c_power", "c_next"]
    assert net.infer_shape(a=(2, 3)) == ([(2, 3), (2, 3)], [(2, 3), (2, 3)], [(1,)])
    assert net.infer_type(a="float16")[1] == [np.float16, np.float16]


# What MXNet 1.9.1 wrote for the symbol above (with other names of inputs, outputs and operator).
MXNET_NODES = """{
  "nodes": [
    {
      "op": "null", 
      "name": "a", 
      "inputs": []
    }, 
    {
      "op": "null", 
      "name": "c_weight", 
      "attrs": {
        "factor": "2.5", 
        "op_type": "e2e_scale"
      }, 
      "inputs": []
    }, 
    {
      "op": "null", 
      "name": "c_count", 
      "attrs": {
        "factor": "2.5", 
        "op_type": "e2e_scale"
      }, 
      "inputs": []
    }, 
    {
      "op": "Custom", 
      "name": "c", 
      "attrs": {
        "factor": "2.5", 
        "op_type": "e2e_scale"
      }, 
      "inputs": [[0, 0, 0], [1, 0, 0], [2, 0, 1]]
    }
  ], 
  "arg_nodes": [0, 1, 2], 
  "node_row_ptr": [0, 1, 2, 3, 5], 
  "heads": [[3, 0, 0], [3, 1, 0]], 
  "attrs": {"mxnet_version": ["int", 10901]}
}"""


def test_the_file_is_that_of_mxnet() -> None:
    net = scaled(data=mx.sym.Variable("a"))
    assert net.tojson() == MXNET_NODES
    assert mx.sym.load_json(MXNET_NODES).tojson() == MXNET_NODES
    assert pickle.loads(pickle.dumps(net)).tojson() == MXNET_NODES


def test_shapes_that_the_class_does_not_set_stay_open() -> None:
    a, b = mx.sym.Variable("a"), mx.sym.Variable("b")
    net = mx.sym.Custom(a, b, op_type="e2e_product")
    assert net.infer_shape_partial(a=(2, 3)) == ([(2, 3), ()], [(2, 3)], [])
    with pytest.raises(mx.MXNetError, match="Variable 'b': cannot decide shapes"):
        net.simple_bind(mx.cpu(), a=(2, 3))


def test_inputs_are_taken_by_position_or_by_name() -> None:
    a, b = mx.sym.Variable("a"), mx.sym.Variable("b")
    by_name = mx.sym.Custom(weight=b, data=a, op_type="e2e_scale")
    assert by_name.list_arguments() == ["a", "b"]
    assert mx.sym.Custom(a, b, op_type="e2e_scale").list_arguments() == ["a", "b"]
    with pytest.raises(TypeError, match="either all positional or all keywords"):
        mx.sym.Custom(a, weight=b, op_type="e2e_scale")
    with pytest.raises(mx.MXNetError, match="too many inputs: got 4, expected at most 3"):
        mx.sym.Custom(a, b, a, b, op_type="e2e_scale")
    with pytest.raises(mx.MXNetError, match="input wait not found"):
        mx.sym.Custom(data=a, wait=b, op_type="e2e_scale")


def test_unknown_operators_are_refused() -> None:
    a = mx.sym.Variable("a")
    with pytest.raises(mx.MXNetError, match=r"got e2e_scala\. Did you mean 'e2e_scale'\?"):
        mx.sym.Custom(a, op_type="e2e_scala")
    with pytest.raises(mx.MXNetError, match="Required parameter op_type"):
        mx.sym.Custom(a)
    with pytest.raises(mx.MXNetError, match=r"Custom 'c': __init__ raised TypeError"):
        mx.sym.Custom(a, op_type="e2e_scale", faktor=2, name="c")
    with pytest.raises(mx.MXNetError, match="not registered: got e2e_scala"):
        mx.sym.load_json(MXNET_NODES.replace("e2e_scale", "e2e_scala"))
    assert "e2e_scale" in mx.operator.get_all_registered_operators()


# ----- numbers


def bound(**options: Any) -> mx.Executor:
    executor = scaled(data=mx.sym.Variable("a")).simple_bind(mx.cpu(), a=(2, 3), **options)
    executor.arg_dict["a"][:] = np.arange(6).reshape(2, 3) / 4
    executor.arg_dict["c_weight"][:] = np.arange(6)[::-1].reshape(2, 3)
    return executor


def test_forward_backward_and_states() -> None:
    executor = bound()
    a, w = (executor.arg_dict[name].asnumpy() for name in ("a", "c_weight"))
    power, following = executor.forward(is_train=True)
    np.testing.assert_allclose(power.asnumpy(), 2.5 * a * a * w)
    np.testing.assert_array_equal(following.asnumpy(), a + 1)
    heads = np.full((2, 3), 2.0), np.full((2, 3), 3.0)
    executor.backward([mx.nd.array(head) for head in heads])
    np.testing.assert_allclose(executor.grad_dict["a"].asnumpy(), 10 * a * w + 3)
    np.testing.assert_allclose(executor.grad_dict["c_weight"].asnumpy(), 5 * a * a)
    # MXNet counts the same: one for forward, ten for backward, one for inference.
    assert executor.aux_dict["c_count"].asnumpy() == 11
    executor.forward(is_train=False)
    assert executor.aux_dict["c_count"].asnumpy() == 12


def test_gradients_are_finite_differences() -> None:
    executor = bound(type_dict={"a": "float64", "c_weight": "float64"})
    rng = np.random.default_rng(0)
    heads = [rng.normal(size=(2, 3)) for _ in range(2)]
    executor.forward(is_train=True)
    executor.backward([mx.nd.array(head, dtype="float64") for head in heads])
    for name, grad in executor.grad_dict.items():
        array, direction = executor.arg_dict[name], rng.normal(size=(2, 3))
        found, start, sides = float((grad.asnumpy() * direction).sum()), array.asnumpy().copy(), []
        for side in (1e-6, -1e-6):
            array[:] = start + side * direction
            outs = executor.forward(is_train=True)
            sides.append(sum((h * o.asnumpy()).sum() for h, o in zip(heads, outs, strict=True)))
        array[:] = start
        assert found == pytest.approx((sides[0] - sides[1]) / 2e-6, rel=1e-6)


def test_backward_may_follow_inference() -> None:
    executor = bound()
    executor.forward(is_train=False)
    executor.backward([mx.nd.ones((2, 3)), mx.nd.ones((2, 3))])
    a, w = (executor.arg_dict[name].asnumpy() for name in ("a", "c_weight"))
    np.testing.assert_allclose(executor.grad_dict["a"].asnumpy(), 5 * a * w + 1)


def test_grad_req_add_adds() -> None:
    executor = bound(grad_req="add")
    for _ in range(2):
        executor.forward(is_train=True)
        executor.backward([mx.nd.ones((2, 3)), mx.nd.ones((2, 3))])
    a = executor.arg_dict["a"].asnumpy()
    np.testing.assert_allclose(executor.grad_dict["c_weight"].asnumpy(), 2 * 2.5 * a * a)


def classifier() -> mx.Symbol:
    with mx.AttrScope(ctx_group="g0"):
        hidden = mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=4, name="fc")
        doubled = mx.sym.Custom(hidden, op_type="e2e_scale", name="c")
    with mx.AttrScope(ctx_group="g1"):
        total = doubled[0] + doubled[1]
        return mx.sym.Custom(total, op_type="e2e_softmax", name="softmax")


def trained(**options: Any) -> dict[str, np.ndarray]:
    """Parameters, states and the last output after 25 steps."""
    rng = np.random.default_rng(0)
    executor = classifier().simple_bind(mx.cpu(), data=(8, 5), **options)
    for name in ("data", "fc_weight", "c_weight"):
        executor.arg_dict[name][:] = rng.normal(size=executor.arg_dict[name].shape) / 2
    executor.arg_dict["softmax_label"][:] = np.arange(8) % 4
    for _ in range(25):
        executor.forward(is_train=True)
        executor.backward()
        for name in ("fc_weight", "fc_bias", "c_weight"):
            executor.arg_dict[name][:] -= 0.2 * executor.grad_dict[name]
    arrays = {**executor.arg_dict, **executor.aux_dict, "output": executor.outputs[0]}
    found = {name: array.asnumpy().copy() for name, array in arrays.items()}
    executor.close()
    return found


def test_a_loss_of_ones_own_trains() -> None:
    found = trained()
    label = np.arange(8) % 4
    assert -np.log(found["output"][np.arange(8), label]).mean() < 0.1 * np.log(4)
    assert found["c_count"] == 25 * 11


def test_arrays_compute_at_once() -> None:
    count = mx.nd.zeros((1,))
    x = mx.nd.array([[1.0, 2.0]])
    power, following = mx.nd.Custom(x, x, count, op_type="e2e_scale", factor=3)
    np.testing.assert_array_equal(power.asnumpy(), [[3, 24]])
    np.testing.assert_array_equal(following.asnumpy(), [[2, 3]])
    assert count.asnumpy() == 1
    again = mx.nd.Custom(data=x, weight=x, count=count, op_type="e2e_scale")
    np.testing.assert_array_equal(again[0].asnumpy(), [[1, 8]])
    with pytest.raises(mx.MXNetError, match="wrong number of inputs: got 2, expected 3"):
        mx.nd.Custom(x, x, op_type="e2e_scale")


def test_operators_see_arrays_of_their_own_kind() -> None:
    seen: list[Any] = []

    class Looking(mx.operator.CustomOp):
        def forward(self, is_train: Any, req: Any, in_data: Any, out_data: Any, aux: Any) -> None:
            seen.extend([is_train, *in_data, *out_data])
            self.assign(out_data[0], req[0], in_data[0].asnumpy())

    @mx.operator.register("e2e_looking")
    class LookingProp(mx.operator.CustomOpProp):
        def create_operator(self, ctx: Any, shapes: Any, dtypes: Any) -> mx.operator.CustomOp:
            seen.extend([ctx, shapes, dtypes])
            return Looking()

    net = mx.sym.Custom(mx.sym.Variable("a"), op_type="e2e_looking")
    executor = net.simple_bind(mx.cpu(), a=(2, 3))
    np.testing.assert_array_equal(executor.forward()[0].asnumpy(), np.zeros((2, 3)))
    assert seen[:4] == [mx.cpu(), [[2, 3]], [np.float32], False]
    assert all(isinstance(array, mx.NDArray) for array in seen[4:])
    assert seen[4].context == mx.cpu()


def test_a_class_registered_again_replaces_the_old_one() -> None:
    def entered(value: float) -> None:
        class Constant(mx.operator.CustomOp):
            def forward(self, is_train: Any, req: Any, in_data: Any, out: Any, aux: Any) -> None:
                self.assign(out[0], req[0], value)

        class ConstantProp(mx.operator.CustomOpProp):
            def create_operator(self, ctx: Any, shapes: Any, dtypes: Any) -> mx.operator.CustomOp:
                return Constant()

        mx.operator.register("e2e_constant")(ConstantProp)

    found = []
    for value in (1.0, 2.0):
        entered(value)
        found += mx.nd.Custom(mx.nd.zeros((1,)), op_type="e2e_constant").asnumpy().tolist()
    assert found == [1, 2]


class Product(mx.operator.CustomOp):
    """``x w``; remembers in forward what backward needs."""

    def forward(self, is_train: Any, req: Any, in_data: Any, out_data: Any, aux: Any) -> None:
        self.kept = [array.asnumpy() for array in in_data]
        self.assign(out_data[0], req[0], self.kept[0] * self.kept[1])

    def backward(
        self, req: Any, out_grad: Any, in_data: Any, out_data: Any, in_grad: Any, aux: Any
    ) -> None:
        for i in (0, 1):
            self.assign(in_grad[i], req[i], out_grad[0].asnumpy() * self.kept[1 - i])


@mx.operator.register("e2e_product")
class ProductProp(mx.operator.CustomOpProp):
    """Two inputs of one shape."""

    def list_arguments(self) -> list[str]:
        return ["data", "weight"]

    def create_operator(self, ctx: Any, in_shapes: Any, in_dtypes: Any) -> mx.operator.CustomOp:
        return Product()


def looped() -> mx.Symbol:
    x, s, w = (mx.sym.Variable(name) for name in "xsw")

    def body(row: mx.Symbol, state: mx.Symbol) -> Any:
        return mx.sym.Custom(row, w, op_type="e2e_product"), state + row

    return mx.sym.Group(list(mx.sym.contrib.foreach(body, x, s)))


def test_a_loop_of_them_has_gradients() -> None:
    executor = looped().simple_bind(mx.cpu(), x=(4, 3), s=(3,), w=(3,))
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    executor.arg_dict["x"][:] = x
    executor.arg_dict["w"][:] = [1, 2, 3]
    out, _ = executor.forward(is_train=True)
    np.testing.assert_array_equal(out.asnumpy(), x * [1, 2, 3])
    executor.backward([mx.nd.ones((4, 3)), mx.nd.zeros((3,))])
    np.testing.assert_array_equal(executor.grad_dict["w"].asnumpy(), x.sum(axis=0))
    np.testing.assert_array_equal(executor.grad_dict["x"].asnumpy(), np.tile([1, 2, 3], (4, 1)))


# ----- plans and workers


def test_plans_parse_and_pickle() -> None:
    executor = bound()
    executor.forward(is_train=True)
    plan = executor.plan
    assert "Custom(a, c_weight, c_count; op_type='e2e_scale', factor='2.5')" in str(plan)
    assert parse(str(plan)) == plan
    assert pickle.loads(pickle.dumps(plan)) == plan
    assert b"ScaleProp" not in pickle.dumps(plan)


def test_a_parcel_holds_the_class_of_its_programs() -> None:
    executor = bound()
    executor.forward(is_train=True)
    programs = dict(executor.plan.programs["cpu:0"])
    assert len(Parcel(programs).luggage()) == 1
    cloudpickle = pytest.importorskip("ray.cloudpickle")
    packed = cloudpickle.dumps(Parcel(programs))
    assert b"ScaleProp" in packed
    assert pickle.loads(packed) == programs


def refusing() -> mx.Symbol:
    class Refusing(mx.operator.CustomOp):
        def forward(self, is_train: Any, req: Any, in_data: Any, out_data: Any, aux: Any) -> None:
            raise ValueError("no such luck")

    @mx.operator.register("e2e_refusing")
    class RefusingProp(mx.operator.CustomOpProp):
        def create_operator(self, ctx: Any, shapes: Any, dtypes: Any) -> mx.operator.CustomOp:
            return Refusing()

    with mx.AttrScope(ctx_group="g1"):
        return mx.sym.Custom(mx.sym.Variable("a"), op_type="e2e_refusing", name="bad")


WHY = (
    r"Custom_inference 'bad': forward raised ValueError at .*test_custom_end_to_end\.py:\d+: "
    r"no such luck"
    r"(.|\n)*on worker cpu:0(.|\n)*belongs to Custom 'bad', made at"
)


def test_errors_name_the_node_and_the_line() -> None:
    executor = refusing().simple_bind(mx.cpu(), a=(2,))
    with pytest.raises(mx.MXNetError, match=WHY):
        executor.forward()


def test_shapes_that_a_class_gets_wrong_name_the_node() -> None:
    @mx.operator.register("e2e_shapeless")
    class Shapeless(mx.operator.CustomOpProp):
        def infer_shape(self, in_shape: list[Any]) -> tuple[Any, ...]:
            raise IndexError("too short")

    net = mx.sym.Custom(mx.sym.Variable("a"), op_type="e2e_shapeless", name="bad")
    with pytest.raises(mx.MXNetError, match=r"Custom 'bad': infer_shape raised IndexError"):
        net.infer_shape(a=(2,))


@pytest.mark.ray
@pytest.mark.usefixtures("ray_session")
class TestOnActors:
    """Workers have not run this file."""

    groups = {"g0": mx.cpu(0), "g1": mx.cpu(1)}

    def test_actors_give_the_bits_of_the_process(self) -> None:
        here, there = trained(), trained(group2ctx=self.groups, runtime="ray")
        for name, array in here.items():
            np.testing.assert_array_equal(there[name], array, err_msg=name)

    def test_a_loop_of_them_finds_their_class(self) -> None:
        found = []
        for options in ({}, {"runtime": "ray"}):
            with looped().simple_bind(mx.cpu(), x=(4, 3), s=(3,), w=(3,), **options) as executor:
                executor.arg_dict["x"][:] = np.arange(12).reshape(4, 3) / 12
                executor.arg_dict["w"][:] = [1, 2, 3]
                executor.forward(is_train=True)
                executor.backward([mx.nd.ones((4, 3)), mx.nd.ones((3,))])
                arrays = [*executor.outputs, *executor.grad_dict.values()]
                found.append([array.asnumpy() for array in arrays])
        for here, there in zip(*found, strict=True):
            np.testing.assert_array_equal(here, there)

    def test_errors_name_the_worker(self) -> None:
        where = {"g1": mx.cpu(1)}
        with refusing().simple_bind(mx.cpu(), a=(2,), group2ctx=where, runtime="ray") as executor:
            with pytest.raises(mx.MXNetError, match=WHY.replace("cpu:0", "cpu:1")):
                executor.forward()

    def test_monitors_see_the_values(self) -> None:
        names: list[bytes] = []
        with bound(runtime="ray") as executor:
            executor.set_monitor_callback(lambda name, value: names.append(name))
            executor.forward(is_train=True)
        assert b"c_power" in names
