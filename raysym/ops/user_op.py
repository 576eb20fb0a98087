"""What users subclass to write an operator in Python, and the objects that run it.

The property class says what the operator looks like, the operator object computes. What users
get to see in place of raw arrays is decided further up: see `set_wrapper`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from raysym.context import Context

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


PROPS: dict[str, type[CustomOpProp]] = {}


def register(reg_name: str) -> Callable[[type[CustomOpProp]], type[CustomOpProp]]:
    """Class decorator: makes a property class known as ``Custom(op_type=reg_name)``.

    The last registration under a name counts.
    """

    def enter(prop: type[CustomOpProp]) -> type[CustomOpProp]:
        if not (isinstance(prop, type) and issubclass(prop, CustomOpProp)):
            raise TypeError(f"register: got {prop!r}, expected a subclass of CustomOpProp")
        enter_prop(reg_name, prop)
        return prop

    return enter


def enter_prop(reg_name: str, prop: type[CustomOpProp]) -> None:
    """Make a property class known; operator objects of an older one of that name are dropped."""
    if PROPS.get(reg_name) is not prop:
        for key in [key for key in POOLS if key[0][0] == reg_name]:
            del POOLS[key]
        PROPS[reg_name] = prop


@dataclass(frozen=True)
class Registration:
    """A property class on its way to a worker: unpickling this registers it there.

    Classes of modules that the worker lacks need cloudpickle, which packs them by value.
    """

    reg_name: str

    @property
    def module(self) -> str:
        """Name of the module that defines the class."""
        return PROPS[self.reg_name].__module__

    def __reduce__(self) -> tuple[Any, ...]:
        return _registered, (self.reg_name, PROPS[self.reg_name])


def _registered(reg_name: str, prop: type[CustomOpProp]) -> Registration:
    enter_prop(reg_name, prop)
    return Registration(reg_name)


# ----- arrays as users see them

_wrap: Callable[[Any], Any] = lambda array: array  # noqa: E731  (replaced as a whole)


def set_wrapper(wrap: Callable[[Any], Any]) -> None:
    """Hand arrays to operators as ``wrap(array)``, which must write through to `array`."""
    global _wrap
    _wrap = wrap


def shown(arrays: Sequence[Any]) -> list[Any]:
    """Arrays as users see them; None stays None."""
    return [None if array is None else _wrap(array) for array in arrays]


# ----- operator objects


class Pool:
    """Operator objects for equal nodes: one for each run between its forward and its backward.

    A run is known by a ticket made from its inputs. What forward leaves in its object is there for
    the backward with the same ticket, and nodes that are equal do not disturb each other. Without
    backward runs the object of the oldest run is used again.
    """

    limit = 64  # objects; beyond that the oldest is taken away from its run

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.made: list[CustomOp] = []
        self.free: set[int] = set()
        self.holder: dict[int, int] = {}  # ticket -> object, the oldest run first

    def take(self, ticket: int, create: Callable[[], CustomOp]) -> CustomOp:
        """The object for a forward run: its own if it runs again, else a free one."""
        with self.lock:
            place = self.holder.pop(ticket, None)
            if place is None:
                place = self._unused(create)
            self.free.discard(place)
            self.holder[ticket] = place
            return self.made[place]

    def _unused(self, create: Callable[[], CustomOp]) -> int:
        if not self.free and len(self.made) < self.limit:
            self.made.append(create())
            return len(self.made) - 1
        place = min(self.free) if self.free else next(iter(self.holder.values()))
        self.holder = {ticket: held for ticket, held in self.holder.items() if held != place}
        return place

    def give_back(self, ticket: int, create: Callable[[], CustomOp]) -> CustomOp:
        """The object of a run, free from now on; a new one if it lives in another process."""
        with self.lock:
            if ticket not in self.holder:
                return create()
            self.free.add(self.holder[ticket])
            return self.made[self.holder[ticket]]


POOLS: dict[Any, Pool] = {}  # by op parameters and types of the inputs
