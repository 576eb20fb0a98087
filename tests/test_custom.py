"""Operators that users write: losses, states, errors, and the way to another process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluate import evaluate
from samples import SAMPLES

from raysym.errors import RuleError
from raysym.graph import Entry, Graph, Node, variable
from raysym.op import call_kernel, make_op
from raysym.ops import user_op
from raysym.ops.user_op import CustomOp, CustomOpProp, register
from raysym.passes.gradient import differentiate

SCALE = SAMPLES["Custom"][0].params


def test_a_loss_ignores_its_head_gradient_and_keeps_what_forward_left() -> None:
    op = make_op("Custom", {"op_type": "sample_loss"})
    data, label = variable("data"), variable("label")
    node = Node(op, "loss", [data, label])
    assert not op.needs_head_grad
    grads = differentiate(Graph.of([Entry(node)]), [data], [None]).grads
    grad = grads[data]
    assert grad is not None
    feeds = {data: np.array([[1.0, -2.0, 3.0]]), label: np.array([[0.5, 0.5, 0.5]])}
    np.testing.assert_array_equal(evaluate(Graph.of([grad]), feeds)[0], [[0.5, 0.0, 2.5]])


def test_equal_nodes_do_not_share_what_forward_left() -> None:
    op = make_op("Custom", {"op_type": "sample_loss"})
    first, second = np.array([[1.0, 1.0]]), np.array([[-1.0, -1.0]])
    label = np.zeros((1, 2))
    tickets = [call_kernel(op, np, [data, label])[1] for data in (first, second)]
    backward = make_op("_backward_Custom", {"op_type": "sample_loss"})
    grads = [
        call_kernel(backward, np, [data, label, ticket])[0]
        for data, ticket in zip((first, second), tickets, strict=True)
    ]
    np.testing.assert_array_equal(grads, [first, np.zeros((1, 2))])


def test_states_are_written_back() -> None:
    node = Node(make_op("Custom", SCALE), "c", [variable(name) for name in "xwn"])
    assert node.aux_slots() == [2]
    assert node.op.forward_updates(node.inputs, node.entries()) == {2: Entry(node, 2)}


def test_unknown_operators_and_parameters_are_refused() -> None:
    with pytest.raises(RuleError, match=r"not registered: got sample_scal\. Did you mean"):
        make_op("Custom", {"op_type": "sample_scal"})
    with pytest.raises(RuleError, match="__init__ raised TypeError"):
        make_op("Custom", {**SCALE, "faktor": 3})
    with pytest.raises(TypeError, match="expected a subclass of CustomOpProp"):
        register("wrong")(int)  # type: ignore[arg-type]


def test_errors_of_users_name_where_they_were_raised() -> None:
    class Failing(CustomOp):
        def forward(self, *args: Any) -> None:
            raise ValueError("no such luck")

    class FailingProp(CustomOpProp):
        def create_operator(self, ctx: Any, in_shapes: Any, in_dtypes: Any) -> CustomOp:
            return Failing()

    register("sample_failing")(FailingProp)
    where = rf"forward raised ValueError at {__file__}:\d+: no such luck"
    with pytest.raises(RuleError, match=where):
        call_kernel(make_op("Custom", {"op_type": "sample_failing"}), np, [np.ones(3)])


def test_arrays_are_wrapped_for_users(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    class Wrapped(np.ndarray):
        pass

    class Looking(CustomOp):
        def forward(self, is_train: Any, req: Any, in_data: Any, out_data: Any, aux: Any) -> None:
            seen.extend(type(a).__name__ for a in (*in_data, *out_data))
            self.assign(out_data[0], "add", in_data[0])

    class LookingProp(CustomOpProp):
        def create_operator(self, ctx: Any, in_shapes: Any, in_dtypes: Any) -> CustomOp:
            return Looking()

    register("sample_looking")(LookingProp)
    monkeypatch.setattr(user_op, "_wrap", lambda array: array.view(Wrapped))
    made = call_kernel(make_op("Custom", {"op_type": "sample_looking"}), np, [np.ones(3)])
    assert seen == ["Wrapped", "Wrapped"]
    np.testing.assert_array_equal(made[0], np.ones(3))


def test_an_operator_runs_in_a_process_that_never_saw_its_class(tmp_path: Path) -> None:
    class Doubling(CustomOp):
        def forward(self, is_train: Any, req: Any, in_data: Any, out_data: Any, aux: Any) -> None:
            self.assign(out_data[0], req[0], in_data[0] * 2)

    class DoublingProp(CustomOpProp):
        def create_operator(self, ctx: Any, in_shapes: Any, in_dtypes: Any) -> CustomOp:
            return Doubling()

    register("sample_doubling")(DoublingProp)
    path = tmp_path / "op.pkl"
    op = make_op("Custom", {"op_type": "sample_doubling"})
    cloudpickle = pytest.importorskip("ray.cloudpickle")
    path.write_bytes(cloudpickle.dumps((*op.luggage(), op)))
    program = (
        "import pickle, sys, numpy as np, raysym.ops\n"
        "from raysym.op import call_kernel\n"
        "_, op = pickle.load(open(sys.argv[1], 'rb'))\n"
        "print(call_kernel(op, np, [np.arange(3.0)])[0].tolist())\n"
    )
    root = str(Path(__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        env={"PYTHONPATH": root},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.strip() == "[0.0, 2.0, 4.0]", done.stderr
