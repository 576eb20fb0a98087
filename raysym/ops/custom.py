"""The op ``Custom``: runs operators that users wrote in Python (see user_op.py)."""

from __future__ import annotations

import traceback
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

from raysym.context import Context
from raysym.errors import RuleError, did_you_mean
from raysym.graph import Entry, apply_all
from raysym.names import HIDDEN_KEYS
from raysym.op import (
    Cost,
    DTypes,
    Entries,
    Grads,
    Op,
    Shapes,
    Types,
    register,
    total_bytes,
)
from raysym.ops.user_op import POOLS, PROPS, CustomOp, CustomOpProp, Pool, Registration, shown
from raysym.params import Param, param
from raysym.types import dtype_name, is_known

# ----- the pages


class _AnyParams(dict[str, Param]):
    """A table of parameters that takes further ones; the property class knows them."""

    def __contains__(self, key: object) -> bool:
        return key not in HIDDEN_KEYS and key != Custom.variadic


class Needed(NamedTuple):
    """Numbers of the arrays that a backward run reads."""

    out_grad: set[int]
    in_data: set[int]
    out_data: set[int]


class _OpType(Op):
    op_type: str = param(doc="Name under which the property class is registered.")


class _Custom(_OpType):
    """What the op, its inference form and its gradient share."""

    params: ClassVar[dict[str, Param]] = _AnyParams(_OpType.params)
    further: dict[str, str]

    def __init__(self, given: Mapping[str, Any]) -> None:
        own = {key: str(value) for key, value in given.items() if key != "op_type"}
        super().__init__(given)
        values = (*self.values, tuple(sorted(own.items())))
        self.__dict__.update(further=own, values=values)
        self.prop()

    def given(self) -> dict[str, Any]:
        return {"op_type": self.op_type, **self.further}

    def luggage(self) -> tuple[Any, ...]:
        """The property class: workers have not run the user's program."""
        return (Registration(self.op_type),)

    def prop(self) -> CustomOpProp:
        """A new property object with the user's parameters."""
        if self.op_type not in PROPS:
            raise RuleError(
                "custom operator is not registered",
                got=self.op_type,
                fix=f"{did_you_mean(self.op_type, PROPS)} Use mx.operator.register",
            )
        page: Callable[..., CustomOpProp] = PROPS[self.op_type]
        made: CustomOpProp = _called("__init__", lambda: page(**self.further))
        return made

    def counts(self) -> tuple[int, int, int]:
        """Numbers of inputs, outputs and states."""
        prop = self.prop()
        return len(prop.list_arguments()), len(prop.list_outputs()), len(_aux_of(prop))

    @property
    def aux(self) -> tuple[str, ...]:  # type: ignore[override]
        """States that forward may change."""
        return _aux_of(self.prop())

    @property
    def needs_head_grad(self) -> bool:  # type: ignore[override]
        """False for losses."""
        return bool(self.prop().need_top_grad_)

    def needed(self) -> Needed:
        """Which arrays the user's backward reads."""
        n, n_out, _ = self.counts()
        grads, data = list(range(n_out)), list(range(n_out, n_out + n))
        outs = list(range(n_out + n, 2 * n_out + n))
        declare = self.prop().declare_backward_dependency
        named = set(_called("dependencies", lambda: declare(grads, data, outs)))
        parts = (grads, data, outs)
        return Needed(*({i - part[0] for i in named if i in part} for part in parts))

    def shapes(self, ins: Shapes) -> tuple[list[Any], list[Any], list[Any]] | None:
        """Shapes of inputs, outputs and states from those of the inputs; None: too little known."""
        if not ins or ins[0] is None:
            return None
        given: list[Any] = [list(shape or ()) for shape in ins]
        infer = self.prop().infer_shape
        if all(is_known(shape) for shape in ins):
            return _three(_called("infer_shape", lambda: infer(given)), tuple)
        try:  # it may index into a shape that is not known yet, and hands on what it does not set
            return _three(infer(given), lambda shape: tuple(shape) or None)
        except Exception:
            return None

    def dtypes(self, ins: DTypes) -> tuple[list[Any], list[Any], list[Any]] | None:
        """The same for dtypes."""
        if not ins or ins[0] is None:
            return None
        given = [dtype and dtype_class(dtype) for dtype in ins]
        infer = self.prop().infer_type
        return _three(_called("infer_type", lambda: infer(given)), dtype_name)

    def pool(self, shapes: Sequence[Any], dtypes: Sequence[str]) -> Pool:
        """The operator objects of nodes that are equal to this one and have inputs alike."""
        # Forward and backward ops are of different classes, but their parameters are the same.
        key = (self.values, tuple(shapes), tuple(dtypes))
        return POOLS.setdefault(key, Pool())

    def create(self, xp: Any, arrays: Sequence[Any]) -> CustomOp:
        """A new operator object for these inputs."""
        ctx = Context("gpu" if hasattr(xp, "cuda") else "cpu")
        shapes = [list(a.shape) for a in arrays]
        dtypes = [dtype_class(a.dtype.name) for a in arrays]
        made: CustomOp = _called(
            "create_operator", lambda: self.prop().create_operator(ctx, shapes, dtypes)
        )
        return made


def _aux_of(prop: CustomOpProp) -> tuple[str, ...]:
    return tuple(prop.list_auxiliary_states())


def dtype_class(name: str) -> Any:
    """The numpy type of a dtype name, as users know it: ``numpy.float32``."""
    return np.dtype(name).type


def _called(what: str, run: Callable[[], Any]) -> Any:
    try:
        return run()
    except RuleError:
        raise
    except Exception as error:
        at = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{at.filename}:{at.lineno}"
        raise RuleError(f"{what} raised {type(error).__name__} at {where}: {error}") from error


def _three(made: Any, each: Callable[[Any], Any]) -> tuple[list[Any], list[Any], list[Any]]:
    parts = [[each(item) for item in part] for part in made]
    return parts[0], parts[1], parts[2] if len(parts) > 2 else []


@register
class Custom(_Custom):
    """An operator that a user wrote in Python and registered under `op_type`.

    Inputs, outputs, shapes and types are those of the property class; all parameters but op_type
    go to it as strings. States that forward or backward change are written back.
    """

    variadic = "*"  # no parameter counts the inputs: the property class names them
    stateful = True
    is_train: ClassVar[bool] = True

    def input_names(self) -> tuple[str, ...]:
        return (*self.prop().list_arguments(), *self.aux)

    def output_names(self) -> tuple[str, ...]:
        return (*self.prop().list_outputs(), *(f"new_{state}" for state in self.aux))

    def n_visible(self) -> int:
        return self.counts()[1]

    def n_stored(self) -> int:
        return self.counts()[1]

    def saved_names(self) -> tuple[str, ...]:
        return ("ticket",)

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        n = self.counts()[0]
        found = self.shapes(ins[:n])
        if found is None:
            return ins, outs
        arguments, outputs, states = found
        tickets = [(1,)] * len(self.saved_names())
        return [*arguments, *states], [*outputs, *states, *tickets]

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        n = self.counts()[0]
        found = self.dtypes(ins[:n])
        if found is None:
            return ins, outs
        arguments, outputs, states = found
        tickets = ["int64"] * len(self.saved_names())
        return [*arguments, *states], [*outputs, *states, *tickets]

    def forward(self, xp: Any, *arrays: Any) -> Any:
        n, n_out, _ = self.counts()
        data, aux = arrays[:n], [array.copy() for array in arrays[n:]]
        shapes = self.shapes([a.shape for a in data])
        dtypes = self.dtypes([a.dtype.name for a in data])
        assert shapes is not None  # all inputs are known
        assert dtypes is not None
        outs = [xp.zeros(*pair) for pair in zip(shapes[1], dtypes[1], strict=True)]
        pool = self.pool([a.shape for a in data], [a.dtype.name for a in data])
        ticket = self.ticket(data)
        op = pool.take(ticket, lambda: self.create(xp, data))
        seen = [shown(part) for part in (data, outs, aux)]
        _called("forward", lambda: op.forward(self.is_train, ["write"] * n_out, *seen))
        return (*outs, *aux, *self._tickets(xp, pool, ticket))

    def ticket(self, data: Sequence[Any]) -> int:
        """A number for this run that does not change when it is repeated: a checksum of inputs.

        Some elements have to do, and they are read on the host, where the operator runs.
        """
        some = [a.reshape(-1)[:: max(1, a.size // 64)].tolist() for a in data]
        return zlib.crc32(repr(some).encode())

    def _tickets(self, xp: Any, pool: Pool, ticket: int) -> list[Any]:
        return [xp.full(1, ticket, "int64")]

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        n, n_out, n_aux = self.counts()
        needed = self.needed()
        above = [grad for i, grad in enumerate(grads) if i in needed.out_grad]
        below = [out for i, out in enumerate(outs[:n_out]) if i in needed.out_data]
        ticket = outs[n_out + n_aux]
        args = [*above, *ins[:n], *below, *ins[n:], ticket]
        made = apply_all("_backward_Custom", *args, **self.given())
        return [*made[:n], *[None] * n_aux]

    def for_inference(self, ins: Entries) -> Entries | None:
        return apply_all("_Custom_inference", *ins, **self.given())

    def forward_updates(self, ins: Entries, outs: Entries) -> dict[int, Entry]:
        n, n_out, n_aux = self.counts()
        return {n + i: outs[n_out + i] for i in range(n_aux)}

    def cost(self, ins: Types, outs: Types) -> Cost:
        # Nobody knows what a user's operator costs: ten operations for each number in and out.
        return Cost(10.0 * sum(t.size for t in (*ins, *outs)), total_bytes(ins, outs))


@register
class _Custom_inference(Custom):
    """The operator run when nothing is trained: is_train is False."""

    internal = True
    is_train = False

    def _tickets(self, xp: Any, pool: Pool, ticket: int) -> list[Any]:
        # Mostly no backward run follows: others may have the object, which this one finds again.
        pool.give_back(ticket, CustomOp)
        return super()._tickets(xp, pool, ticket)

    def for_inference(self, ins: Entries) -> Entries | None:
        return None


@register
class _backward_Custom(_Custom):
    """The user's backward: gradients of all inputs, then states. The ticket finds the operator."""

    internal = True
    stateful = True
    variadic = "*"

    @property
    def shape_only(self) -> tuple[str, ...]:  # type: ignore[override]
        """Inputs that backward does not read still say what shape their gradients have."""
        names, needed = self.prop().list_arguments(), self.needed()
        return tuple(name for i, name in enumerate(names) if i not in needed.in_data)

    def input_names(self) -> tuple[str, ...]:
        prop, needed = self.prop(), self.needed()
        outputs = prop.list_outputs()
        above = (f"{outputs[i]}_grad" for i in sorted(needed.out_grad))
        below = (f"{outputs[i]}_value" for i in sorted(needed.out_data))
        return (*above, *prop.list_arguments(), *below, *_aux_of(prop), "ticket")

    def output_names(self) -> tuple[str, ...]:
        grads = (f"{name}_grad" for name in self.prop().list_arguments())
        return (*grads, *(f"new_{state}" for state in self.aux))

    def n_visible(self) -> int:
        return self.counts()[0]

    def forward_updates(self, ins: Entries, outs: Entries) -> dict[int, Entry]:
        n, _, n_aux = self.counts()
        first = len(ins) - 1 - n_aux
        return {first + i: outs[n + i] for i in range(n_aux)}

    def _states(self, ins: Sequence[Any]) -> Sequence[Any]:
        return ins[len(ins) - 1 - len(self.aux) : -1]

    def _data(self, ins: Sequence[Any]) -> Sequence[Any]:
        first = len(self.needed().out_grad)
        return ins[first : first + self.counts()[0]]

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        return ins, [*self._data(ins), *self._states(ins)]

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        return ins, [*self._data(ins), *self._states(ins)]

    def forward(self, xp: Any, *arrays: Any) -> Any:
        n, n_out, _ = self.counts()
        needed, data = self.needed(), self._data(arrays)
        above = _filled(n_out, needed.out_grad, arrays)
        seen = [a if i in needed.in_data else None for i, a in enumerate(data)]
        behind = arrays[len(needed.out_grad) + n :]
        below = _filled(n_out, needed.out_data, behind)
        aux = [a.copy() for a in self._states(arrays)]
        made = [xp.zeros(a.shape, a.dtype) for a in data]
        pool = self.pool([a.shape for a in data], [a.dtype.name for a in data])
        # The operator runs in Python on this machine anyway, so its ticket may be read here.
        op = pool.give_back(int(arrays[-1][0]), lambda: self.create(xp, data))
        parts = [shown(part) for part in (above, seen, below, made, aux)]
        _called("backward", lambda: op.backward(["write"] * n, *parts))
        return (*made, *aux)

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost(20.0 * sum(t.size for t in (*ins, *outs)), total_bytes(ins, outs))


def _filled(n: int, places: set[int], arrays: Sequence[Any]) -> list[Any]:
    made: list[Any] = [None] * n
    for place, array in zip(sorted(places), arrays, strict=False):
        made[place] = array
    return made
