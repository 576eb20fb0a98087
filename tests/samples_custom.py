"""Samples of operators written by users."""

from __future__ import annotations

from typing import Any

import numpy as np
from samples import Sample

from raysym.ops.user_op import CustomOp, CustomOpProp, register


class Scale(CustomOp):
    """``(power, count)``: a x^k and the elements seen so far."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def forward(self, is_train: Any, req: Any, in_data: Any, out_data: Any, aux: Any) -> None:
        x, w = in_data
        self.assign(out_data[0], req[0], self.factor * x * x * w)
        self.assign(out_data[1], req[1], x + 1)
        aux[0][:] += 1

    def backward(
        self, req: Any, out_grad: Any, in_data: Any, out_data: Any, in_grad: Any, aux: Any
    ) -> None:
        x, w = in_data
        dx = 2 * self.factor * x * w * out_grad[0] + out_grad[1]
        self.assign(in_grad[0], req[0], dx)
        self.assign(in_grad[1], req[1], (self.factor * x * x * out_grad[0]).sum(axis=0))


@register("sample_scale")
class ScaleProp(CustomOpProp):
    """Two inputs, two outputs, a state; a parameter that arrives as a string."""

    def __init__(self, factor: str = "1") -> None:
        super().__init__()
        self.factor = float(factor)

    def list_arguments(self) -> list[str]:
        return ["data", "weight"]

    def list_outputs(self) -> list[str]:
        return ["power", "next"]

    def list_auxiliary_states(self) -> list[str]:
        return ["count"]

    def infer_shape(self, in_shape: list[Any]) -> tuple[Any, ...]:
        data = in_shape[0]
        return [data, data[1:]], [data, data], [[1]]

    def create_operator(self, ctx: Any, in_shapes: Any, in_dtypes: Any) -> CustomOp:
        return Scale(self.factor)


class Loss(CustomOp):
    """Half the squared distance, as its gradient says; the mask is kept from forward."""

    def forward(self, is_train: Any, req: Any, in_data: Any, out_data: Any, aux: Any) -> None:
        self.positive = in_data[0] > 0
        self.assign(out_data[0], req[0], in_data[0])

    def backward(
        self, req: Any, out_grad: Any, in_data: Any, out_data: Any, in_grad: Any, aux: Any
    ) -> None:
        assert out_grad[0] is None
        assert out_data[0] is None
        self.assign(in_grad[0], req[0], (in_data[0] - in_data[1]) * self.positive)


@register("sample_loss")
class LossProp(CustomOpProp):
    """A loss of data and label that reads no outputs on the way back."""

    def __init__(self) -> None:
        super().__init__(need_top_grad=False)

    def list_arguments(self) -> list[str]:
        return ["data", "label"]

    def infer_shape(self, in_shape: list[Any]) -> tuple[Any, ...]:
        return [in_shape[0], in_shape[0]], [in_shape[0]]

    def declare_backward_dependency(self, out_grad: Any, in_data: Any, out_data: Any) -> list[int]:
        return list(in_data)

    def create_operator(self, ctx: Any, in_shapes: Any, in_dtypes: Any) -> CustomOp:
        return Loss()


def scaled(x: np.ndarray, w: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, ...]:
    return 2.5 * x * x * w, x + 1, count + 1


SCALE = {"op_type": "sample_scale", "factor": "2.5"}
FRESH = "a ticket of the forward run that made it is needed"

SAMPLES = {
    "Custom": [
        Sample(SCALE, [(4, 3), (3,), (1,)], reference=scaled, wrt=(0, 1)),
        Sample(
            {"op_type": "sample_loss"},
            [(4, 3), (4, 3)],
            wrt=(),
            why="the gradient of a loss is its own; checked in test_custom",
        ),
    ],
    "_Custom_inference": [
        Sample(
            SCALE,
            [(4, 3), (3,), (1,)],
            reference=scaled,
            wrt=(),
            why="its gradient is that of Custom",
        )
    ],
    "_backward_Custom": [
        Sample(
            SCALE,
            [
                (4, 3),
                (4, 3),
                (4, 3),
                (3,),
                (4, 3),
                (4, 3),
                (1,),
                lambda rng: np.array([7]),
            ],
            wrt=(),
            why="users write no gradient of the gradient",
        )
    ],
}
