"""Symbol: a list of output entries over a shared graph, with MXNet's whole surface."""

from __future__ import annotations

import numbers
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from raysym import graph_json
from raysym.arithmetic import Arithmetic
from raysym.bind import bind
from raysym.calls import split_v2_params
from raysym.compose import Composable, call, set_attrs, single
from raysym.context import Context, current_context
from raysym.errors import MXNetError, NotImplementedForSymbol, did_you_mean, some
from raysym.executor import Executor
from raysym.fluent import Fluent
from raysym.graph import Graph, Node, split_variables
from raysym.ndarray import NDArray
from raysym.op import Op, find_op
from raysym.passes.gradient import gradient_entries
from raysym.passes.substitute import substitute
from raysym.pictures.of_symbol import draw_symbol
from raysym.simple_bind import simple_bind
from raysym.symbol_text import attribute, attributes, debug_text, output_name
from raysym.symbol_types import infer_shape, infer_type


class Symbol(Composable, Arithmetic, Fluent):
    """One or more outputs of a graph that is yet to be given numbers.

    Operators compose (``a + b``, equal shapes), calling substitutes variables
    (``net(data=other)``), indexing picks outputs. A symbol has no truth value and no hash,
    since ``==`` composes too.
    """

    __slots__ = ()
    __array_ufunc__ = None  # numpy scalars on the left leave the operation to us
    __hash__ = None  # type: ignore[assignment]

    # ----- what it is

    @property
    def graph(self) -> Graph:
        """Everything that the outputs depend on."""
        return Graph.of(self.entries)

    def _heads(self) -> list[Node]:
        return list(dict.fromkeys(entry.node for entry in self.entries))

    def _head(self) -> Node | None:
        heads = self._heads()
        return heads[0] if len(heads) == 1 else None

    @property
    def name(self) -> str | None:
        """Name of the head node; None for a group over several nodes."""
        head = self._head()
        return head.name if head else None

    def __repr__(self) -> str:
        if self._head() is None:
            return f"<Symbol group [{', '.join(node.name for node in self._heads())}]>"
        return f"<Symbol {self.name}>"

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Symbol]:
        return (Symbol([entry]) for entry in self.entries)

    def __getitem__(self, key: Any) -> Symbol:
        if isinstance(key, str):
            return Symbol([self.entries[self._position(key)]])
        if isinstance(key, slice):
            return self._slice(key)
        if not isinstance(key, (int, np.integer)):
            raise TypeError(f"{self!r}: index: got {key!r}, expected an int, a slice or a name")
        if key < 0:
            raise MXNetError(f"{self!r}: index: got {key}, expected a nonnegative index")
        if key >= len(self):
            raise IndexError(f"{self!r}: index: got {key}, expected below {len(self)}")
        return Symbol([self.entries[int(key)]])

    def _slice(self, key: slice) -> Symbol:
        """The outputs of a range of indices, each of them checked as a single index is."""
        step = 1 if key.step is None else key.step
        indices = range(key.start or 0, len(self) if key.stop is None else key.stop, step)
        picked = [self[i].entries[0] for i in indices]
        if not picked:
            raise TypeError(f"{self!r}: slice: got {key}, expected a range with outputs in it")
        return Symbol(picked)

    def _position(self, name: str) -> int:
        names = self.list_outputs()
        found = [i for i, output in enumerate(names) if output == name]
        if len(found) == 1:
            return found[0]
        why = f"names {len(found)} outputs" if found else "is not an output"
        raise ValueError(
            f"{self!r}: '{name}' {why}: expected one of {some(names)}. {did_you_mean(name, names)}"
        )

    def __bool__(self) -> bool:
        raise NotImplementedForSymbol(f"{self!r} has no truth value: it stands for numbers to come")

    def __copy__(self) -> Symbol:
        return self.__deepcopy__({})

    def __deepcopy__(self, memo: Any) -> Symbol:
        return Symbol(substitute(self.entries, {}))

    def __reduce__(self) -> tuple[Any, ...]:
        return Symbol.from_json, (self.tojson(remove_amp_cast=False),)

    @staticmethod
    def from_json(text: str) -> Symbol:
        """The symbol of a JSON text; MXNetError says what is wrong with it."""
        return Symbol(graph_json.loads(text).outputs)

    # ----- composition by call

    def __call__(self, *args: Any, name: str | None = None, **kwargs: Any) -> Symbol:
        """A copy in which variables are replaced, by name, wherever they occur.

        `name` renames the node of the first output. TypeError for what is no symbol or for
        positions and keywords at once, MXNetError for positions and for unknown names.
        """
        if name is not None and not isinstance(name, str):
            raise TypeError(f"{self!r}: compose: name: got {name!r}, expected a string")
        for value in (*args, *kwargs.values()):
            if not isinstance(value, Symbol):
                kind = type(value).__name__
                raise TypeError(f"{self!r}: compose: got {kind}, expects Symbol arguments")
        if args and kwargs:
            raise TypeError(f"{self!r}: compose: give positions or keywords, not both")
        if args:
            raise MXNetError(f"{self!r}: compose: a composed symbol only supports kwargs")
        known = self.list_inputs()
        for key in kwargs:
            if key not in known:
                raise MXNetError(
                    f"{self!r}: compose: name {key} not found: expected one of {some(known)}. "
                    f"{did_you_mean(key, known)}"
                )
        given = {key: single(value, f"compose: {key}") for key, value in kwargs.items()}
        return Symbol(substitute(self.entries, given, name))

    # ----- lists

    def list_inputs(self) -> list[str]:
        """Names of arguments and auxiliary states in graph order."""
        return [node.name for node in self.graph.variables()]

    def list_arguments(self) -> list[str]:
        """Names of the arguments in graph order."""
        return [node.name for node in split_variables(self.graph)[0]]

    def list_auxiliary_states(self) -> list[str]:
        """Names of the auxiliary states in graph order."""
        return [node.name for node in split_variables(self.graph)[1]]

    def list_outputs(self) -> list[str]:
        """Names of the outputs: ``fc1_output``; a variable's own name."""
        return [output_name(entry) for entry in self.entries]

    def get_internals(self) -> Symbol:
        """All visible outputs of all nodes in graph order."""
        return Symbol(
            [entry for node in self.graph.nodes for entry in node.entries()[: node.op.n_visible()]]
        )

    def get_children(self) -> Symbol | None:
        """The direct inputs of the head nodes; None for a variable."""
        inputs = [entry for node in self._heads() for entry in node.inputs]
        return Symbol(inputs) if inputs else None

    # ----- attributes

    def attr(self, key: str) -> str | None:
        """The attribute `key` of the head node, or None."""
        head = self._head()
        return attribute(head, key) if head else None

    def list_attr(self, recursive: bool = False) -> dict[str, str]:
        """Attributes of the head node, hidden keys also in their plain form."""
        if recursive:
            raise DeprecationWarning("list_attr(recursive=True) is gone: use attr_dict instead")
        head = self._head()
        return attributes(head) if head else {}

    def attr_dict(self) -> dict[str, dict[str, str]]:
        """Attributes of every node that has any, by node name."""
        found: dict[str, dict[str, str]] = {}
        for node in self.graph.nodes:
            if node.attrs:
                found.setdefault(node.name, {}).update(attributes(node))
        return found

    def _set_attr(self, **attrs: str) -> None:
        """Set attributes of the head node; a parameter set so really changes the op."""
        head = self._head()
        if head is None:
            raise MXNetError(f"{self!r}: attributes can be set on one node only, not on a group")
        set_attrs(head, attrs)

    # ----- inference

    def infer_shape(self, *args: Any, **kwargs: Any) -> Any:
        """(argument, output, auxiliary) shapes; (None, None, None) if any stays undecided."""
        return infer_shape(self, args, kwargs, partial=False)

    def infer_shape_partial(self, *args: Any, **kwargs: Any) -> Any:
        """What is known: ``()`` for an unknown rank, 0 for an unknown dimension."""
        return infer_shape(self, args, kwargs, partial=True)

    def infer_type(self, *args: Any, **kwargs: Any) -> Any:
        """(argument, output, auxiliary) dtypes; (None, None, None) if any stays undecided."""
        return infer_type(self, args, kwargs, partial=False)

    def infer_type_partial(self, *args: Any, **kwargs: Any) -> Any:
        """The dtypes that are known; None for the others."""
        return infer_type(self, args, kwargs, partial=True)

    # ----- text and files

    def tojson(self, remove_amp_cast: bool = True) -> str:
        """The graph in MXNet 1.9.1's JSON."""
        return graph_json.dumps(self.graph, remove_amp_cast=remove_amp_cast)

    def save(self, fname: str, remove_amp_cast: bool = True) -> None:
        """Write `tojson` to a file."""
        if not isinstance(fname, str):
            raise TypeError(f"save: fname: got {type(fname).__name__}, expected a str")
        Path(fname).write_text(self.tojson(remove_amp_cast), encoding="utf-8")

    def debug_str(self) -> str:
        """The graph as text: outputs, then every node with inputs and attributes."""
        return debug_text(self.entries)

    def draw(self, path: str | Path | None = None, title: str = "") -> str:
        """The graph as an SVG picture, written to `path` if one is given."""
        picture = draw_symbol(self.graph, title)
        if path is not None:
            Path(path).write_text(picture, encoding="utf-8")
        return picture

    def gradient(self, wrt: Any) -> Symbol:
        """Gradients of the sum of all outputs: of a name, a symbol, or a list of these.

        One output for each, in order, called ``{name}_grad_output``; where nothing depends on it,
        zeros. Outputs that need a head gradient get ones. The result can be differentiated again
        as far as the operators allow. It is the gradient of training: run it with is_train=True.
        """
        wanted = wrt if isinstance(wrt, (list, tuple)) else [wrt]
        parts = [part.entries if isinstance(part, Symbol) else (part,) for part in wanted]
        return Symbol(gradient_entries(self.graph, [entry for part in parts for entry in part]))

    # ----- numbers

    def bind(
        self,
        ctx: Context,
        args: Any,
        args_grad: Any = None,
        grad_req: Any = "write",
        aux_states: Any = None,
        group2ctx: Mapping[str, Context] | None = None,
        shared_exec: Executor | None = None,
        **options: Any,
    ) -> Executor:
        """Bind arrays and get an Executor; `raysym.bind.bind` says what the arguments mean."""
        return bind(
            self, ctx, args, args_grad, grad_req, aux_states, group2ctx, shared_exec, **options
        )

    def simple_bind(
        self,
        ctx: Context,
        grad_req: Any = "write",
        type_dict: Mapping[str, Any] | None = None,
        stype_dict: Mapping[str, str] | None = None,
        group2ctx: Mapping[str, Context] | None = None,
        shared_arg_names: list[str] | None = None,
        shared_exec: Executor | None = None,
        shared_buffer: dict[str, NDArray] | None = None,
        **kwargs: Any,
    ) -> Executor:
        """Allocate arrays from shapes and get an Executor; see `raysym.simple_bind`."""
        shared = (shared_arg_names, shared_exec, shared_buffer)
        return simple_bind(self, ctx, grad_req, type_dict, stype_dict, group2ctx, *shared, **kwargs)

    def eval(self, ctx: Context | None = None, **kwargs: NDArray) -> list[NDArray]:
        """Bind the given arrays, run forward once without training, return the outputs."""
        return self.bind(ctx or current_context(), kwargs, grad_req="null").forward()

    # ----- operators (see arithmetic.py)

    def _combine(self, other: Any, hint: str, op: str, scalar_hint: str, scalar_op: str) -> Symbol:
        if isinstance(other, Symbol):
            return create(find_op(op), hint, [self, other], {})
        if isinstance(other, numbers.Number):
            return create(find_op(scalar_op), scalar_hint, [self], {"scalar": other})
        wanted = "a Symbol or a number"
        raise TypeError(f"{op} of {self!r}: got {type(other).__name__}, expected {wanted}")

    def _fluent(
        self, page: type[Op], name: str, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Symbol:
        given = dict(kwargs)
        label, attr = given.pop("name", None), given.pop("attr", None)
        return create(page, name, [self, *args], given, label, attr)

    def reshape(self, *shape: Any, **kwargs: Any) -> Symbol:
        """The same elements in another shape: ``reshape(2, 3)``, ``reshape(shape=(2, -1))``."""
        if shape:
            one = len(shape) == 1 and isinstance(shape[0], (tuple, list))
            kwargs["shape"] = tuple(shape[0]) if one else shape
        return self._fluent(find_op("Reshape"), "reshape", (), kwargs)

    def astype(self, dtype: Any, **kwargs: Any) -> Symbol:
        """The same values in another dtype."""
        return self._fluent(find_op("Cast"), "cast", (), {"dtype": dtype, **kwargs})

    def split_v2(
        self,
        indices_or_sections: int | tuple[int, ...],
        axis: int = 0,
        squeeze_axis: bool = False,
        **kwargs: Any,
    ) -> Symbol:
        """Cut along `axis` into equal sections (an int) or before each index (a tuple)."""
        given = split_v2_params(indices_or_sections, axis, squeeze_axis)
        given["indices"] = list(given["indices"])  # MXNet writes a list here, and only here
        return self._fluent(find_op("_split_v2"), "_split_v2", (), {**given, **kwargs})

    def __abs__(self) -> Symbol:
        return create(find_op("abs"), "abs", [self], {})

    def _in_place(self, *args: Any) -> Symbol:
        raise NotImplementedForSymbol(f"{self!r} cannot be changed in place: write a = a + b")

    __iadd__ = __isub__ = __imul__ = __itruediv__ = _in_place

    def _no_numbers(self, *args: Any, **kwargs: Any) -> Any:
        """Not offered by symbols: NotImplementedForSymbol."""
        raise NotImplementedForSymbol(f"{self!r} has no numbers: bind it or call eval")

    asnumpy = asscalar = wait_to_read = as_in_context = detach = backward = copy = _no_numbers

    def optimize_for(self, backend: str, *args: Any, **kwargs: Any) -> Symbol:
        """A copy: there are no subgraph backends here, graphs are optimised when they are bound."""
        return self.__deepcopy__(None)

    get_backend_symbol = optimize_for


def create(
    page: type[Op],
    hint: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    name: str | None = None,
    attr: Mapping[str, str] | None = None,
) -> Symbol:
    """The symbol of an operator call: its visible outputs (see `compose.call`)."""
    node = call(page, hint, args, kwargs, name, attr)
    return Symbol(node.entries()[: node.op.n_visible()])
