"""Operators that users write in Python: CustomOp, CustomOpProp, register, and the op ``Custom``.

The property class says what the operator looks like, the operator object computes. What users
get to see in place of raw arrays is decided further up: see `set_wrapper`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from raysym.context import Context
from raysym.errors import RuleError, did_you_mean
from raysym.graph import Entry, apply_all
from raysym.names import HIDDEN_KEYS
from raysym.op import Cost, DTypes, Entries, Grads, Op, Shapes, Types, make_op, register, total_bytes
from raysym.params import Param, param
from raysym.types import dtype_name, is_known

# ----- what users subclass


class CustomOp:
    """An operator of one's own: `forward` fills out_data, `backward` fills in_grad."""

    def forward(
        self,
        is_train: bool,
        req: Sequence[str],
        in_data: Sequence[Any],
        out_data: Sequence[Any],
        aux: Sequence[Any],
    ) -> None:
        """Compute the outputs: ``self.assign(out_data[0], req[0], ...)``."""
        raise NotImplementedError

    def backward(
        self,
        req: Sequence[str],
        out_grad: Sequence[Any],
        in_data: Sequence[Any],
        out_data: Sequence[Any],
        in_grad: Sequence[Any],
        aux: Sequence[Any],
    ) -> None:
        """Compute the gradients: ``self.assign(in_grad[0], req[0], ...)``."""
        raise NotImplementedError

    def assign(self, dst: Any, req: str, src: Any) -> None:
        """Write, add or skip, as `req` says: write, inplace, add or null."""
        if req in ("write", "inplace"):
            dst[:] = src
        elif req == "add":
            dst[:] += src


class CustomOpProp:
    """What an operator of one's own looks like: its names, shapes and types.

    Parameters of the symbol call arrive in ``__init__`` as strings. ``need_top_grad=False`` makes a
    loss, whose gradient ignores what comes from above.
    """

    def __init__(self, need_top_grad: bool = True) -> None:
        self.need_top_grad_ = need_top_grad

    def list_arguments(self) -> list[str]:
        """Names of the inputs."""
        return ["data"]

    def list_outputs(self) -> list[str]:
        """Labels of the outputs."""
        return ["output"]

    def list_auxiliary_states(self) -> list[str]:
        """Names of the states that forward may change."""
        return []

    def infer_shape(self, in_shape: list[Any]) -> tuple[Any, ...]:
        """Shapes of inputs, outputs (and states); default: all like the first input."""
        first = in_shape[0]
        n_aux = len(self.list_auxiliary_states())
        return in_shape, [first] * len(self.list_outputs()), [first] * n_aux

    def infer_type(self, in_type: list[Any]) -> tuple[Any, ...]:
        """Types of inputs, outputs (and states); default: all like the first input."""
        first = in_type[0]
        made = [first] * len(self.list_outputs()), [first] * len(self.list_auxiliary_states())
        return [first] * len(in_type), *made

    def declare_backward_dependency(
        self, out_grad: list[int], in_data: list[int], out_data: list[int]
    ) -> list[int]:
        """Which of the numbered arrays `backward` reads; the others arrive as None."""
        return [*(out_grad if self.need_top_grad_ else []), *in_data, *out_data]

    def create_operator(self, ctx: Context, in_shapes: list[Any], in_dtypes: list[Any]) -> CustomOp:
        """The operator object for inputs of these shapes and types."""
        raise NotImplementedError


_PROPS: dict[str, type[CustomOpProp]] = {}


def register_prop(reg_name: str) -> Callable[[type[CustomOpProp]], type[CustomOpProp]]:
    """Class decorator: makes a property class known as ``Custom(op_type=reg_name)``.

    The last registration under a name counts.
    """

    def enter(prop: type[CustomOpProp]) -> type[CustomOpProp]:
        if not (isinstance(prop, type) and issubclass(prop, CustomOpProp)):
            raise TypeError(f"register: got {prop!r}, expected a subclass of CustomOpProp")
        _PROPS[reg_name] = prop
        return prop

    return enter


# ----- arrays as users see them

_wrap: Callable[[Any], Any] = lambda array: array  # noqa: E731  (replaced as a whole)


def set_wrapper(wrap: Callable[[Any], Any]) -> None:
    """Hand arrays to operators as ``wrap(array)``, which must write through to `array`."""
    global _wrap
    _wrap = wrap


# ----- operator objects


class _Pool:
    """Operator objects for equal nodes: one for each run between its forward and its backward.

    What a forward run leaves in its object is there for the backward run with the same ticket,
    and nodes that are equal do not disturb each other. Without backward runs the oldest is reused.
    """

    limit = 64

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.made: list[CustomOp] = []
        self.free: list[int] = []
        self.busy: list[int] = []  # oldest first

    def take(self, create: Callable[[], CustomOp]) -> tuple[int, CustomOp]:
        """An object that no run is using, with its ticket; the first ones are preferred."""
        with self.lock:
            if not self.free and len(self.made) < self.limit:
                self.made.append(create())
                self.free.append(len(self.made) - 1)
            ticket = min(self.free) if self.free else self.busy[0]
            (self.free if self.free else self.busy).remove(ticket)
            self.busy.append(ticket)
            return ticket, self.made[ticket]

    def give_back(self, ticket: int, create: Callable[[], CustomOp]) -> CustomOp:
        """The object of a ticket, free from now on; a new one if it lives in another process."""
        with self.lock:
            if ticket >= len(self.made):
                return create()
            if ticket in self.busy:
                self.busy.remove(ticket)
                self.free.append(ticket)
            return self.made[ticket]


_pools: dict[Any, _Pool] = {}


# ----- the pages


class _AnyParams(dict[str, Param]):
    """A table of parameters that takes further ones; the property class knows them."""

    def __contains__(self, key: object) -> bool:
        return key not in HIDDEN_KEYS


class _OpType(Op):
    op_type: str = param(doc="Name under which the property class is registered.")


class _Custom(_OpType):
    """What the op, its inference form and its gradient share."""

    params: ClassVar[dict[str, Param]] = _AnyParams(_OpType.params)
    further: dict[str, str]

    def __init__(self, given: Mapping[str, Any]) -> None:
        # "*" counts the inputs while a node is made; it is no parameter.
        own = {key: str(value) for key, value in given.items() if key not in ("op_type", "*")}
        super().__init__(given)
        values = (*self.values, tuple(sorted(own.items())))
        self.__dict__.update(further=own, values=values)
        self.prop()

    def given(self) -> dict[str, Any]:
        return {"op_type": self.op_type, **self.further}

    def __reduce__(self) -> tuple[Any, ...]:
        return _revived, (self.name, _PROPS.get(self.op_type), self.given())

    def prop(self) -> CustomOpProp:
        """A new property object with the user's parameters."""
        if self.op_type not in _PROPS:
            raise RuleError(
                "custom operator is not registered",
                got=self.op_type,
                fix=f"{did_you_mean(self.op_type, _PROPS)} Use mx.operator.register",
            )
        return _called("__init__", lambda: _PROPS[self.op_type](**self.further))

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

    def shapes(self, ins: Shapes) -> tuple[list[Any], list[Any], list[Any]] | None:
        """Shapes of inputs, outputs and states from those of the inputs; None: too little known."""
        if not ins or ins[0] is None:
            return None
        given: list[Any] = [list(shape or ()) for shape in ins]
        infer = self.prop().infer_shape
        if all(is_known(shape) for shape in ins):
            return _three(_called("infer_shape", lambda: infer(given)), tuple)
        try:  # it may index into a shape that is not known yet
            return _three(infer(given), tuple)
        except Exception:
            return None

    def dtypes(self, ins: DTypes) -> tuple[list[Any], list[Any], list[Any]] | None:
        """The same for dtypes."""
        if not ins or ins[0] is None:
            return None
        given = [dtype and dtype_class(dtype) for dtype in ins]
        infer = self.prop().infer_type
        return _three(_called("infer_type", lambda: infer(given)), dtype_name)

    def pool(self, shapes: Sequence[Any], dtypes: Sequence[str]) -> _Pool:
        """The operator objects of nodes that are equal to this one and have inputs alike."""
        key = (self.op_type, self.values, tuple(shapes), tuple(dtypes))
        return _pools.setdefault(key, _Pool())

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
    return _NUMPY_TYPES[name]


def _called(what: str, run: Callable[[], Any]) -> Any:
    try:
        return run()
    except RuleError:
        raise
    except Exception as error:
        raise RuleError(f"{what} raised {type(error).__name__}: {error}") from error


def _three(made: Any, each: Callable[[Any], Any]) -> tuple[list[Any], list[Any], list[Any]]:
    parts = [[each(item) for item in part] for part in made]
    return parts[0], parts[1], parts[2] if len(parts) > 2 else []


def _revived(name: str, prop: type[CustomOpProp] | None, given: dict[str, Any]) -> Op:
    # The class travels with the op: workers have not run the user's program.
    if prop is not None:
        _PROPS.setdefault(given["op_type"], prop)
    return make_op(name, given)


@register
class Custom(_Custom):
    """An operator that a user wrote in Python and registered under `op_type`.

    Inputs, outputs, shapes and types are those of the property class; all parameters but op_type
    go to it as strings. States that forward changes are written back; changes that backward makes
    are lost.
    """

    variadic = "*"
    stateful = True
    is_train: ClassVar[bool] = True

    def input_names(self) -> tuple[str, ...]:
        return (*self.prop().list_arguments(), *self.aux)

    def output_names(self) -> tuple[str, ...]:
        return (*self.prop().list_outputs(), *(f"new_{state}" for state in self.aux))

    def n_visible(self) -> int:
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
        ticket, op = pool.take(lambda: self.create(xp, data))
        seen = [[_wrap(a) for a in part] for part in (data, outs, aux)]
        _called("forward", lambda: op.forward(self.is_train, ["write"] * n_out, *seen))
        return (*outs, *aux, *self._tickets(xp, pool, ticket))

    def _tickets(self, xp: Any, pool: _Pool, ticket: int) -> list[Any]:
        return [xp.full(1, ticket, "int64")]

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        n, n_out, n_aux = self.counts()
        every = [*grads, *ins[:n], *outs[:n_out]]
        needed = _dependencies(self.prop(), n, n_out)
        ticket = outs[n_out + n_aux]
        # Types of the inputs are needed always: the gradients have them.
        types = [apply_all("_shape_token", entry)[0] for entry in ins[:n]]
        chosen = [every[i] for i in needed]
        name = "_backward_Custom"
        made = apply_all(name, *chosen, *types, *ins[n:], ticket, **self.given())
        return [*made, *[None] * n_aux]

    def for_inference(self, ins: Entries) -> Entries | None:
        return apply_all("_Custom_inference", *ins, **self.given())

    def forward_updates(self, ins: Entries, outs: Entries) -> dict[int, Entry]:
        n, n_out, n_aux = self.counts()
        return {n + i: outs[n_out + i] for i in range(n_aux)}

    def cost(self, ins: Types, outs: Types) -> Cost:
        # Nobody knows what a user's operator costs: ten operations for each number in and out.
        return Cost(10.0 * sum(t.size for t in (*ins, *outs)), total_bytes(ins, outs))
