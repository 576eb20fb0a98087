"""The op page: one class holds every fact of an operator, and the registry finds pages by name.

Reading order of a page: inputs, aux, outputs, parameters; `infer_shape`, `infer_dtype`; `forward`
(array maths, ``xp`` is numpy or cupy); `gradient` (graph maths on entries); what differs from the
defaults below. A page with nothing to add inherits the default.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeAlias, TypeVar

from raysym.errors import MXNetError, RuleError, did_you_mean
from raysym.params import REQUIRED, DType, Param, to_text
from raysym.types import PartialDType, PartialShape, TensorType, dtype_name, unify_all, unify_dtypes

if TYPE_CHECKING:  # entries belong to graph.py, which is built on this module
    from raysym.graph import Entry, Graph

Shapes: TypeAlias = Sequence[PartialShape]
DTypes: TypeAlias = Sequence[PartialDType]
Entries: TypeAlias = "Sequence[Entry]"
Grads: TypeAlias = "Sequence[Entry | None]"
Types: TypeAlias = Sequence[TensorType]


class Cost(NamedTuple):
    """Work of one run: floating point operations and bytes read or written."""

    flops: float
    nbytes: float


class Op:
    """An operator with its parameters; immutable, equal by value, pickled as (name, parameters)."""

    name: ClassVar[str] = ""
    aliases: ClassVar[tuple[str, ...]] = ()
    params: ClassVar[dict[str, Param]] = {}

    inputs: ClassVar[tuple[str, ...]] = ("data",)
    aux: ClassVar[tuple[str, ...]] = ()  # those of `inputs` that a training step updates
    outputs: ClassVar[tuple[str, ...]] = ("output",)
    hidden: ClassVar[int] = 0  # how many of the last outputs users do not see
    variadic: ClassVar[str] = ""  # the parameter that counts the inputs, if their number is free
    keyword_only: ClassVar[bool] = False  # positional arguments are inputs only

    random: ClassVar[bool] = False  # forward(xp, rng, *arrays) draws numbers
    stateful: ClassVar[bool] = False  # equal nodes must not be merged
    needs_head_grad: ClassVar[bool] = True  # False: a loss; its gradient ignores the head gradient
    zero_gradient: ClassVar[bool] = False  # differentiable with gradient zero everywhere
    internal: ClassVar[bool] = False  # made by passes and gradients, not by users
    labels: ClassVar[tuple[str, ...]] = ()  # inputs of a loss whose gradient arrays stay untouched
    shape_only: ClassVar[tuple[str, ...]] = ()  # inputs of which only the type matters
    tuned: ClassVar[bool] = False  # its numbers may change from step to step, as learning rates do
    kinds: ClassVar[str] = "fiub"  # dtypes the first input may have: float, int, uint, bool
    work: ClassVar[str] = "elementwise"  # kernel class, by which a cluster file gives flop/s

    values: tuple[Any, ...]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        declared = {key: value for key, value in vars(cls).items() if isinstance(value, Param)}
        if declared:
            types = inspect.get_annotations(cls, eval_str=True)
            own = {key: value.bind(key, types[key]) for key, value in declared.items()}
            cls.params = {**cls.params, **own}
        cls.name = vars(cls).get("name") or cls.__name__

    def __init__(self, given: Mapping[str, Any]) -> None:
        values = [self._value(param, given) for param in self.params.values()]
        self.__dict__.update(zip(self.params, values, strict=True), values=tuple(values))
        self.check()

    def _value(self, param: Param, given: Mapping[str, Any]) -> Any:
        if param.name in given:
            return param.parse(given[param.name])
        if param.default is REQUIRED:
            raise RuleError(f"Required parameter {param.name} is not presented", fix=param.doc)
        return param.default

    def check(self) -> None:
        """Refuse parameter values that contradict each other (RuleError)."""

    # ----- inputs and outputs

    def input_names(self) -> tuple[str, ...]:
        """Names of the inputs that these parameters call for, aux states included."""
        if self.variadic:
            return tuple(f"arg{i}" for i in range(getattr(self, self.variadic)))
        return self.inputs

    def output_names(self) -> tuple[str, ...]:
        """Labels of all outputs, hidden ones last."""
        return self.outputs

    def n_visible(self) -> int:
        """Number of outputs that users see."""
        return len(self.output_names()) - self.hidden

    def n_stored(self) -> int:
        """Number of outputs that MXNet's files count: some of its kernels have more hidden ones."""
        return len(self.output_names())

    def saved_names(self) -> tuple[str, ...]:
        """Values that `forward` returns after the outputs, kept for the gradient only."""
        return ()

    def n_values(self) -> int:
        """Number of arrays that `forward` returns."""
        return len(self.output_names()) + len(self.saved_names())

    def variable_attrs(self, slot: str) -> dict[str, str]:
        """Extra attributes of the variable that is made for an unfilled input slot."""
        return {}

    def subgraphs(self) -> tuple[Graph, ...]:
        """Graphs that this op runs: the bodies of loops and branches."""
        return ()

    def with_subgraphs(self, graphs: Sequence[Graph]) -> Op:
        """The same op with the graphs that were stored beside it in a file."""
        return self

    def luggage(self) -> tuple[Any, ...]:
        """What a worker must have unpickled before it can unpickle this op.

        The `module` of each piece is the name of the module that defines it.
        """
        return ()

    # ----- rules

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        """What is known of all shapes, given what is known of some; default: all alike."""
        shape = unify_all([*ins, *outs])
        return [shape] * len(ins), [shape] * len(outs)

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        """The same for dtypes; default: all alike."""
        dtype = unify_dtypes([*ins, *outs])
        return [dtype] * len(ins), [dtype] * len(outs)

    def check_kind(self, dtypes: DTypes) -> None:
        """Refuse a first input of a dtype that the kernel does not compute with (RuleError)."""
        first = dtypes[0] if dtypes else None
        if first is not None and first[0] not in self.kinds:
            raise RuleError(
                "no arithmetic on this dtype",
                first,
                expected=_KINDS[self.kinds],
                fix="Cast it first",
            )

    def forward(self, xp: Any, *arrays: Any) -> Any:
        """The reference kernel: arrays in, one array or a tuple of `n_values` arrays out.

        Never writes into its inputs. Random ops get a ``numpy.random.Generator`` before the arrays.
        """
        raise NotImplementedError(self.name)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        """Graph maths: the gradient of every input from those of the outputs (None: zero).

        `outs` are all values of the node, hidden and saved ones too; `grads` are those of the
        visible outputs, zeros filled in.
        """
        if self.zero_gradient:
            return [None] * len(ins)
        raise RuleError("operator is not differentiable", fix="Put BlockGrad behind it")

    def add_to_grad(self, ins: Entries, outs: Entries, old: Entry, grad: Entry) -> Entry | None:
        """What grad_req="add" leaves in the array of a variable that only slot 0 of this op reads.

        None: the sum of both, as it should be. A few losses of MXNet do something else.
        """
        return None

    def for_inference(self, ins: Entries) -> Entries | None:
        """Entries that replace the outputs when nothing is trained; None: the op itself."""
        return None

    def forward_updates(self, ins: Entries, outs: Entries) -> dict[int, Entry]:
        """New values that running forward writes into input variables, by input position."""
        return {}

    def backward_updates(self, ins: Entries, outs: Entries) -> dict[int, Entry]:
        """New values that one backward writes into input variables, by input position."""
        return {}

    def specialize(self, ins: Entries, types: Types, outs: Types) -> Entry | None:
        """A simpler equal of this node once all types are known, or None.

        Of a node with several outputs: the first entry of a node with the same outputs.
        """
        return None

    def cost(self, ins: Types, outs: Types) -> Cost:
        """Default: one operation per output element; every array is touched once."""
        return Cost(sum(t.size for t in outs), total_bytes(ins, outs))

    # ----- identity

    @cached_property
    def _identity(self) -> Any:
        return _told_apart(self.values)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash((self.name, self._identity))

    def __reduce__(self) -> tuple[Any, ...]:
        return make_op, (self.name, self.given())

    def __setattr__(self, key: str, value: Any) -> None:
        raise AttributeError(f"{self.name}: an Op is immutable: cannot set {key}")

    def given(self) -> dict[str, Any]:
        """Parameters that differ from their defaults."""
        pairs = zip(self.params.values(), self.values, strict=True)
        return {p.name: v for p, v in pairs if _told_apart(v) != _told_apart(p.default)}

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(f'{k}={v!r}' for k, v in self.given().items())})"


def _told_apart(value: Any) -> Any:
    """A parameter for comparison: 0 and -0 are equal numbers, but not for who divides by them."""
    if isinstance(value, tuple):
        return tuple(map(_told_apart, value))
    is_minus_zero = isinstance(value, float) and value == 0 and math.copysign(1.0, value) < 0
    return "-0" if is_minus_zero else value


_KINDS = {"f": "float16, float32 or float64", "fiu": "a number type"}


class Variable(Op):
    """A named input of the graph: an argument, a label or an auxiliary state."""

    name = "null"
    inputs = ()

    def forward(self, xp: Any, *arrays: Any) -> Any:
        """Never run: a variable's array is bound."""
        raise RuleError("a variable has no kernel")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        """Nothing is known of a variable but what its users know."""
        return [], outs

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        """Nothing is known of a variable but what its users know."""
        return [], outs


def total_bytes(ins: Types, outs: Types) -> float:
    """Bytes of all inputs and outputs together."""
    return float(sum(t.nbytes for t in (*ins, *outs)))


def call_kernel(op: Op, xp: Any, arrays: Sequence[Any], rng: Any = None) -> tuple[Any, ...]:
    """Run the reference kernel: all values of the node, each C-contiguous.

    Contiguous, because a value that crossed to another worker is: sums over a transposed view
    would add in another order and the bits would depend on the placement.
    """
    made = op.forward(xp, rng, *arrays) if op.random else op.forward(xp, *arrays)
    values = made if isinstance(made, tuple) else (made,)
    return tuple(value if value.flags.c_contiguous else value.copy("C") for value in values)


# ----- the registry

REGISTRY: dict[str, type[Op]] = {"null": Variable}
CANONICAL: dict[str, type[Op]] = {}  # by canonical name only, in order of definition

_Page = TypeVar("_Page", bound=type[Op])


def register(page: _Page) -> _Page:
    """Enter a page under its name and aliases; a name may be taken only once."""
    for name in (page.name, *page.aliases):
        if name in REGISTRY:
            raise ValueError(f"operator name {name} is taken by {REGISTRY[name].__name__}")
        REGISTRY[name] = page
    CANONICAL[page.name] = page
    return page


def find_op(name: str) -> type[Op]:
    """The page registered under `name`; MXNetError when there is none."""
    if name not in REGISTRY:
        raise MXNetError(f"Operator {name} is not registered. {did_you_mean(name, REGISTRY)}")
    return REGISTRY[name]


def make_op(name: str, given: Mapping[str, Any]) -> Op:
    """The op `name` with parameters given as values or strings; RuleError says what is wrong.

    Dunder keys are hints to others and are ignored. Equal requests return the same object.
    """
    page: Any = find_op(name)
    plain = {key: value for key, value in given.items() if not is_dunder(key)}
    for key in plain:
        if key not in page.params:
            raise _unknown_parameter(page, key)
    return _cached(page, tuple((key, to_text_of(page, key, plain[key])) for key in sorted(plain)))


@lru_cache(maxsize=65536)
def _cached(page: Any, given: tuple[tuple[str, str], ...]) -> Op:
    made: Op = page(dict(given))
    return made


def _unknown_parameter(page: type[Op], key: str) -> RuleError:
    guess = did_you_mean(key, [*page.inputs, *page.params])
    possible = f"Possible Arguments: {', '.join(page.params) or 'none'}"
    return RuleError(f"Cannot find argument '{key}'", fix=f"{guess} {possible}".lstrip())


def to_text_of(page: type[Op], key: str, value: Any) -> str:
    """The string that is stored for a parameter value; dtypes by their numpy name."""
    param = page.params.get(key)
    if param is not None and param.kind is DType and not isinstance(value, str | None):
        try:
            return dtype_name(value)
        except TypeError:
            return str(value)
    return to_text(value)


def is_dunder(key: str) -> bool:
    """True for ``__key__``."""
    return len(key) > 4 and key.startswith("__") and key.endswith("__")
