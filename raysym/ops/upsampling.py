"""UpSampling: images enlarged by a whole factor, by repetition or by a learned deconvolution."""

from __future__ import annotations

from typing import Any

from raysym.errors import RuleError
from raysym.graph import Entry, apply, apply_all
from raysym.op import Cost, Entries, Grads, Op, Shapes, Types, make_op, register, total_bytes
from raysym.ops.numeric import wide
from raysym.params import Dims, param
from raysym.types import PartialShape, unify


@register
class UpSampling(Op):
    """Nearest: ``y[h, w] = x[h // scale, w // scale]``; bilinear: a deconvolution per channel.

    Shapes: data ``(n, C, h, w)``, output ``(n, C, scale h, scale w)``. Nearest takes several
    inputs: all are enlarged to the size that the first one gets, then their channels are joined
    (concat) or added (sum). Bilinear takes data and a weight ``(C, 1, k, k)`` with ``k = 2 scale -
    scale % 2``, which is made to interpolate but learned like any other; num_filter is C.
    """

    kinds = "f"
    variadic = "num_args"
    scale: int = param(low=1, doc="How many times larger.")
    num_filter: int = param(0, doc="Channels of the data; needed by bilinear only.")
    sample_type: str = param(choices=("bilinear", "nearest"), doc="How new cells are made.")
    multi_input_mode: str = param(
        "concat", choices=("concat", "sum"), doc="How several inputs are put together."
    )
    num_args: int = param(low=1, doc="Number of inputs of nearest.")
    workspace: int = param(512, low=0, doc="Accepted for compatibility; not used.")

    def check(self) -> None:
        if self.is_bilinear() and self.num_filter < 1:
            raise RuleError(
                "num_filter is missing", got=self.num_filter, expected="the channels of the data"
            )

    def is_bilinear(self) -> bool:
        """True when it is a deconvolution."""
        return self.sample_type == "bilinear"

    def input_names(self) -> tuple[str, ...]:
        return ("data", "weight") if self.is_bilinear() else super().input_names()

    def variable_attrs(self, slot: str) -> dict[str, str]:
        return {"__init__": '["bilinear", {}]'} if slot == "weight" else {}

    def deconvolution(self) -> Op:
        """The op that bilinear up-sampling is."""
        size, edge = 2 * self.scale - self.scale % 2, self.scale // 2
        given: dict[str, Any] = {
            "kernel": (size, size),
            "stride": (self.scale,) * 2,
            "pad": (edge, edge),
        }
        given |= {"num_filter": self.num_filter, "num_group": self.num_filter}
        return make_op("Deconvolution", given)

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        for shape in ins[:1] if self.is_bilinear() else ins:
            if shape is not None and len(shape) != 4:
                raise RuleError("data has a wrong rank", got=shape, expected="(n, C, h, w)")
        if self.is_bilinear():
            return self._bilinear_shapes(ins, outs)
        if any(shape is None for shape in ins):
            return ins, outs
        return ins, [self._nearest_shape([shape for shape in ins if shape is not None])]

    def _bilinear_shapes(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        if ins[0] is not None and ins[0][1] not in (0, self.num_filter):
            raise RuleError("num_filter differs", got=self.num_filter, expected=ins[0][1])
        return self.deconvolution().infer_shape(ins, outs)

    def _nearest_shape(self, shapes: list[tuple[int, ...]]) -> PartialShape:
        n, c, *spatial = shapes[0]
        large = tuple(self.scale * size for size in spatial)
        for shape in shapes[1:]:
            unify((n, 0, 0, 0), (shape[0], 0, 0, 0), "batch")
            if any(small and size % small for small, size in zip(shape[2:], large, strict=True)):
                raise RuleError("data does not divide the output", got=shape, expected=large)
        if self.multi_input_mode == "sum":
            for shape in shapes[1:]:
                unify((0, c, 0, 0), (0, shape[1], 0, 0), "channels")
            return (n, c, *large)
        channels = [shape[1] for shape in shapes]
        return (n, 0 if 0 in channels else sum(channels), *large)

    def forward(self, xp: Any, *arrays: Any) -> Any:
        if self.is_bilinear():
            return self.deconvolution().forward(xp, *arrays)
        large = tuple(self.scale * size for size in arrays[0].shape[2:])
        parts = [enlarged(xp, array, large) for array in arrays]
        if self.multi_input_mode == "concat":
            return xp.concatenate(parts, axis=1)
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return total

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        if self.is_bilinear():
            return self.deconvolution().gradient(ins, outs, grads)
        parts = [grads[0]] * len(ins)
        if self.multi_input_mode == "concat" and len(ins) > 1:
            parts = self._cut(grads[0], ins)
        return [apply("_backward_UpSampling", g, x) for g, x in zip(parts, ins, strict=True)]

    def _cut(self, grad: Entry, ins: Entries) -> list[Entry]:
        """The gradient's channels dealt out to the inputs."""
        large = [apply("_enlarge", x, grad) for x in ins]
        return list(apply_all("_backward_Concat", grad, *large, num_args=len(ins), dim=1))

    def cost(self, ins: Types, outs: Types) -> Cost:
        if self.is_bilinear():
            return self.deconvolution().cost(ins, outs)
        return Cost(outs[0].size, total_bytes(ins, outs))


def enlarged(xp: Any, x: Any, large: tuple[int, ...]) -> Any:
    """Every cell repeated into a block, so that the spatial sizes become `large`."""
    h, w = x.shape[2:]
    block = xp.broadcast_to(
        x[:, :, :, None, :, None], (*x.shape[:2], h, large[0] // h, w, large[1] // w)
    )
    return block.reshape(*x.shape[:2], *large)


@register
class _enlarge(Op):
    """Data repeated to the height and width of the second input. Result ``(n, C, H, W)``."""

    internal = True
    inputs = ("data", "like")
    shape_only = ("like",)

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        if ins[0] is None or ins[1] is None:
            return ins, outs
        return ins, [(*ins[0][:2], *ins[1][2:])]

    def forward(self, xp: Any, data: Any, like: Any) -> Any:
        return enlarged(xp, data, like.shape[2:])

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [apply("_backward_UpSampling", grads[0], ins[0]), None]


@register
class _backward_UpSampling(Op):
    """Gradient of nearest up-sampling: the sum of each block.

    Shapes: grad ``(n, C, H, W)``, result ``(n, C, h, w)``, the shape of data.
    """

    internal = True
    shape_only = ("data",)
    spatial: Dims = param((), doc="(h, w), known once types are; data is then not needed.")

    def input_names(self) -> tuple[str, ...]:
        return ("grad",) if self.spatial else ("grad", "data")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        if not self.spatial:
            return ins, [ins[1]]
        return ins, [ins[0] and (*ins[0][:2], *self.spatial)]

    def forward(self, xp: Any, grad: Any, like: Any = None) -> Any:
        h, w = self.spatial or like.shape[2:]
        big = wide(grad).reshape(*grad.shape[:2], h, grad.shape[2] // h, w, -1)
        return big.sum(axis=(3, 5)).astype(grad.dtype, copy=False)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [apply("_enlarge", grads[0], ins[0]), None][: len(ins)]

    def specialize(self, ins: Entries, types: Types, outs: Types) -> Entry | None:
        if self.spatial:
            return None
        return apply(self.name, ins[0], spatial=types[1].shape[2:])

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost(ins[0].size, total_bytes(ins[:1], outs))
