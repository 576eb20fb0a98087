"""Symbol: a list of output entries over a shared graph, with MXNet's whole surface."""

from __future__ import annotations

import numbers
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from raysym import graph_json
from raysym.arithmetic import Arithmetic
from raysym.compose import new_node, scoped_attrs
from raysym.context import Context, current_context
from raysym.errors import MXNetError, NotImplementedForSymbol, did_you_mean
from raysym.bind import bind, simple_bind
from raysym.executor import Executor
from raysym.fluent import Fluent
from raysym.graph import Entry, Graph, Node, call_site, topological, variable
from raysym.names import HIDDEN_KEYS
from raysym.ndarray import NDArray
from raysym.op import Op, find_op, in_words, is_dunder, make_op
from raysym.passes.gradient import gradient_entries
from raysym.pictures.of_symbol import draw_symbol
from raysym.symbol_types import infer_shape, infer_type
from raysym.types import DTYPE_CODES, dtype_name


class Symbol(Arithmetic, Fluent):
    """One or more outputs of a graph that is yet to be given numbers.

    Operators compose (``a + b``, equal shapes), calling substitutes variables
    (``net(data=other)``), indexing picks outputs. A symbol has no truth value and no hash,
    since ``==`` composes too.
    """

    __slots__ = ("_entries",)
    __array_ufunc__ = None  # numpy scalars on the left leave the operation to us
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._entries = tuple(entries)

    # ----- what it is

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The graph values that this symbol stands for."""
        return self._entries

    @property
    def graph(self) -> Graph:
        """Everything that the outputs depend on."""
        return Graph.of(self._entries)

    def _heads(self) -> list[Node]:
        return list(dict.fromkeys(entry.node for entry in self._entries))

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
            return f"<Symbol group [{in_words(n.name for n in self._heads())}]>"
        return f"<Symbol {self.name}>"

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Symbol]:
        return (Symbol([entry]) for entry in self._entries)

    def __getitem__(self, key: Any) -> Symbol:
        if isinstance(key, str):
            return Symbol([self._entries[self._position(key)]])
        if isinstance(key, slice):
            return self._slice(key)
        if not isinstance(key, numbers.Integral):
            raise TypeError(f"{self!r}: index: got {key!r}, expected an int, a slice or a name")
        if key < 0:
            raise MXNetError(f"{self!r}: index: got {key}, expected a nonnegative index")
        if key >= len(self):
            raise IndexError(f"{self!r}: index: got {key}, expected below {len(self)}")
        return Symbol([self._entries[int(key)]])

    def _slice(self, key: slice) -> Symbol:
        picked = self._entries[key]
        if not picked and (key.start or 0) >= len(self):
            raise IndexError(f"{self!r}: slice {key} starts past the {len(self)} outputs")
        return Group([Symbol([entry]) for entry in picked])

    def _position(self, name: str) -> int:
        names = self.list_outputs()
        found = [i for i, output in enumerate(names) if output == name]
        if len(found) == 1:
            return found[0]
        why = "is ambiguous" if found else "is not an output"
        raise ValueError(f"{self!r}: '{name}' {why}. {did_you_mean(name, names)}")

    def __bool__(self) -> bool:
        raise NotImplementedForSymbol(f"{self!r} has no truth value: it stands for numbers to come")

    def __copy__(self) -> Symbol:
        return self.__deepcopy__({})

    def __deepcopy__(self, memo: Any) -> Symbol:
        def visit(node: Node, inputs: tuple[Entry, ...]) -> list[Entry]:
            return Node(node.op, node.name, inputs, dict(node.attrs), node.source).entries()

        return Symbol(self.graph.map(visit).outputs)

    def __reduce__(self) -> tuple[Any, ...]:
        return load_json, (self.tojson(remove_amp_cast=False),)

    # ----- composition by call

    def __call__(self, *args: Any, name: str | None = None, **kwargs: Any) -> Symbol:
        """A copy in which the variables named by the keywords are replaced, everywhere."""
        for value in (*args, *kwargs.values()):
            if not isinstance(value, Symbol):
                raise TypeError(f"{self!r}: compose: got {value!r}, expected a Symbol")
        if args and kwargs:
            raise TypeError(f"{self!r}: compose: only positional or only keyword arguments")
        if args:
            raise MXNetError(f"{self!r}: compose: a composed symbol only supports kwargs")
        known = self.list_inputs()
        for key in kwargs:
            if key not in known:
                raise MXNetError(
                    f"{self!r}: compose: '{key}' not found among {in_words(known)}. "
                    f"{did_you_mean(key, known)}"
                )
        return self._substitute({key: single(value) for key, value in kwargs.items()}, name)

    def _substitute(self, given: Mapping[str, Entry], name: str | None) -> Symbol:
        head = self._head()

        def visit(node: Node, inputs: tuple[Entry, ...]) -> list[Entry]:
            if node.is_variable and node.name in given:
                return [given[node.name]]
            named = name if name and node is head else node.name
            return Node(node.op, named, inputs, dict(node.attrs), node.source).entries()

        return Symbol(self.graph.map(visit).outputs)

    # ----- lists

    def _aux_nodes(self) -> set[Node]:
        nodes = topological(self._heads())
        return {node.inputs[slot].node for node in nodes for slot in node.aux_slots()}

    def list_inputs(self) -> list[str]:
        """Names of arguments and auxiliary states in graph order."""
        return [node.name for node in self.graph.variables()]

    def list_arguments(self) -> list[str]:
        """Names of the arguments in graph order."""
        aux = self._aux_nodes()
        return [node.name for node in self.graph.variables() if node not in aux]

    def list_auxiliary_states(self) -> list[str]:
        """Names of the auxiliary states in graph order."""
        aux = self._aux_nodes()
        return [node.name for node in self.graph.variables() if node in aux]

    def list_outputs(self) -> list[str]:
        """Names of the outputs: ``fc1_output``; a variable's own name."""
        return [output_name(entry) for entry in self._entries]

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
        if head is None:
            return None
        if key in ("name", "op_name"):
            return head.name if key == "name" else head.op.name
        hidden = f"__{key}__" if key in HIDDEN_KEYS else key
        return head.attrs.get(key, head.attrs.get(hidden))

    def list_attr(self, recursive: bool = False) -> dict[str, str]:
        """Attributes of the head node, hidden keys also in their plain form."""
        if recursive:
            raise DeprecationWarning("list_attr(recursive=True) is gone: use attr_dict instead")
        head = self._head()
        return _echoed(head.attrs) if head else {}

    def attr_dict(self) -> dict[str, dict[str, str]]:
        """Attributes of every node that has any, by node name."""
        found: dict[str, dict[str, str]] = {}
        for node in self.graph.nodes:
            if node.attrs:
                found.setdefault(node.name, {}).update(_echoed(node.attrs))
        return found

    def _set_attr(self, **attrs: str) -> None:
        """Set attributes of the head node; a parameter set so really changes the op."""
        head = self._head()
        if head is None:
            raise MXNetError(f"{self!r}: attributes can be set on one node only, not on a group")
        for key, value in attrs.items():
            if not isinstance(value, str):
                raise ValueError(f"'{head.name}': attribute {key}={value!r}: expected a string")
        hidden = {f"__{k}__" if k in HIDDEN_KEYS else k: v for k, v in attrs.items()}
        merged = dict(sorted({**head.attrs, **hidden}.items()))
        if not head.is_variable:
            head.op = make_op(head.op.name, merged)
        head.attrs = merged

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
        lines = ["Symbol Outputs:"]
        for i, entry in enumerate(self._entries):
            lines.append(f"\toutput[{i}]={entry.node.name}({entry.index})")
        for node in self.graph.nodes:
            lines += _debug_lines(node)
        return "\n".join(lines) + "\n"

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

    def bind(self, ctx: Context, args: Any, *rest: Any, **kwargs: Any) -> Executor:
        """Bind arrays and get an Executor; see `raysym.executor.bind`."""
        return bind(self, ctx, args, *rest, **kwargs)

    def simple_bind(self, ctx: Context, *rest: Any, **kwargs: Any) -> Executor:
        """Allocate arrays from shapes and get an Executor; see `raysym.executor.simple_bind`."""
        return simple_bind(self, ctx, *rest, **kwargs)

    def eval(self, ctx: Context | None = None, **kwargs: NDArray) -> list[NDArray]:
        """Bind the given arrays, run forward once without training, return the outputs."""
        return self.bind(ctx or current_context(), kwargs, grad_req="null").forward()

    # ----- operators (see arithmetic.py)

    def _combine(self, other: Any, hint: str, op: str, scalar_hint: str, scalar_op: str) -> Symbol:
        if isinstance(other, Symbol):
            return create(find_op(op), hint, [self, other], {})
        if isinstance(other, numbers.Number):
            return create(find_op(scalar_op), scalar_hint, [self], {"scalar": other})
        raise TypeError(
            f"{hint.strip('_')}: {self!r}: got {type(other).__name__}, expected a Symbol or a number"
        )

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

    def __abs__(self) -> Symbol:
        return create(find_op("abs"), "abs", [self], {})

    def _in_place(self, *args: Any) -> Symbol:
        raise NotImplementedForSymbol(f"{self!r} cannot be changed in place: write a = a + b")

    __iadd__ = __isub__ = __imul__ = __itruediv__ = __imod__ = __ipow__ = _in_place

    def _no_numbers(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedForSymbol(f"{self!r} has no numbers: bind it or call eval")

    asnumpy = asscalar = wait_to_read = as_in_context = detach = backward = copy = _no_numbers


def Variable(
    name: str,
    attr: Mapping[str, str] | None = None,
    shape: Any = None,
    lr_mult: float | None = None,
    wd_mult: float | None = None,
    dtype: Any = None,
    init: Any = None,
    stype: str | None = None,
    **kwargs: str,
) -> Symbol:
    """A named input. Shape, dtype and multipliers are kept as attributes; others need dunders.

    Raises TypeError for a name that is no string, ValueError for attributes that are not strings
    or not dunder-named, KeyError for a dtype or storage type that MXNet does not know.
    """
    if not isinstance(name, str):
        raise TypeError(f"Variable: name: got {name!r}, expects a string")
    attrs = scoped_attrs(None, name, attr)
    given = {"shape": shape, "lr_mult": lr_mult, "wd_mult": wd_mult}
    attrs.update({f"__{key}__": str(value) for key, value in given.items() if value is not None})
    if dtype is not None:
        attrs["__dtype__"] = str(DTYPE_CODES[dtype_name(dtype)])
    if init is not None:
        attrs["__init__"] = init if isinstance(init, str) else init.dumps()
    if stype is not None:
        attrs["__storage_type__"] = str(_STORAGE_TYPES[stype])
    for key, value in kwargs.items():
        if not is_dunder(key):
            raise ValueError(f"Variable '{name}': {key}: attribute names must be like __{key}__")
        if not isinstance(value, str):
            raise ValueError(f"Variable '{name}': {key}={value!r}: only accepts string values")
        attrs[key] = value
    return Symbol([variable(name, dict(sorted(attrs.items())), call_site())])


_STORAGE_TYPES = {"default": 0, "row_sparse": 1, "csr": 2}
var = Variable


def Group(symbols: Sequence[Symbol]) -> Symbol:
    """All outputs of all members, in order; TypeError for an empty list or other members."""
    members = list(symbols) if isinstance(symbols, (list, tuple)) else symbols
    if isinstance(members, Symbol) and members:  # its truth value says why this is refused
        return members
    if not isinstance(members, list) or not members:
        raise TypeError(f"Group: got {symbols!r}, expected a list of symbols")
    if any(not isinstance(member, Symbol) for member in members):
        raise TypeError(f"Group: got {symbols!r}, expected only symbols in the list")
    return Symbol([entry for member in members for entry in member.entries])


def load_json(json_str: str) -> Symbol:
    """The symbol of a JSON text of any MXNet version since 0.8."""
    if not isinstance(json_str, str):
        raise TypeError(f"load_json: got {type(json_str).__name__}, expected a str")
    return Symbol(graph_json.loads(json_str).outputs)


def load(fname: str) -> Symbol:
    """The symbol saved in a file; MXNetError when it cannot be read."""
    if not isinstance(fname, str):
        raise TypeError(f"load: fname: got {type(fname).__name__}, expected a str")
    try:
        text = Path(fname).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise MXNetError(f"cannot load a symbol from {fname!r}: {error}") from None
    return load_json(text)


# ----- making symbols


def create(
    page: type[Op],
    hint: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    name: str | None = None,
    attr: Mapping[str, str] | None = None,
) -> Symbol:
    """Call an operator: `args` are inputs, then parameters; symbols in `kwargs` are inputs."""
    named = {key: value for key, value in kwargs.items() if isinstance(value, Symbol)}
    params = {key: value for key, value in kwargs.items() if key not in named}
    if page.variadic:
        positional = [_input(page, name or hint, value) for value in args]
        if positional and named:
            raise TypeError(f"{page.name}: inputs are either all positional or all keywords")
    else:
        positional = [_optional(page, name or hint, v) for v in args[: len(page.inputs)]]
        params = {**_positional_params(page, args[len(page.inputs) :]), **params}
        for slot in page.inputs:
            if slot in params and slot not in page.params:
                _optional(page, name or hint, params.pop(slot))
    inputs = {key: single(value) for key, value in named.items()}
    node = new_node(page, hint, positional, inputs, params, name, attr)
    return Symbol(node.entries()[: node.op.n_visible()])


def _positional_params(page: type[Op], values: Sequence[Any]) -> dict[str, Any]:
    if len(values) > len(page.params):
        raise TypeError(f"{page.name}: too many positional arguments: {len(values)} parameters")
    return dict(zip(page.params, values, strict=False))


def _input(page: type[Op], name: str, value: Any) -> Entry:
    if not isinstance(value, Symbol):
        raise AssertionError(
            f"{page.name} '{name}': inputs must be Symbol instances: got {type(value).__name__}"
        )
    return single(value)


def _optional(page: type[Op], name: str, value: Any) -> Entry | None:
    return None if value is None else _input(page, name, value)


def single(symbol: Symbol) -> Entry:
    """The one entry of a symbol; MXNetError when it has several."""
    if len(symbol) != 1:
        raise MXNetError(
            f"{symbol!r} is a tuple of {len(symbol)} outputs, a single value is required: "
            "pick one by index"
        )
    return symbol.entries[0]


def output_name(entry: Entry) -> str:
    """``fc1_output``, or a variable's own name."""
    if entry.node.is_variable:
        return entry.node.name
    return f"{entry.node.name}_{entry.node.op.output_names()[entry.index]}"


def _echoed(attrs: Mapping[str, str]) -> dict[str, str]:
    plain = {k: attrs[f"__{k}__"] for k in HIDDEN_KEYS if f"__{k}__" in attrs}
    return {**attrs, **plain}


def _debug_lines(node: Node) -> list[str]:
    if node.is_variable:
        return [f"Variable:{node.name}"]
    lines = ["--------------------", f"Op:{node.op.name}, Name={node.name}", "Inputs:"]
    for i, entry in enumerate(node.inputs):
        version = " version=0" if entry.node.is_variable else ""
        lines.append(f"\targ[{i}]={entry.node.name}({entry.index}){version}")
    if node.attrs:
        lines.append("Attrs:")
        lines += [f"\t{key}={value}" for key, value in sorted(node.attrs.items())]
    return lines
