"""Loops and branches as symbols: what users pass as functions becomes graphs inside of a node.

A function is called once, with variables, in a scope that marks the nodes that it makes. What
these read from outside is cut off and becomes an input of the node. Names are MXNet's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from raysym.compose import scoped_attrs
from raysym.errors import MXNetError, RuleError, node_message
from raysym.graph import Entry, Graph, Node, call_site, variable
from raysym.names import AttrScope, NameManager
from raysym.op import find_op, make_op
from raysym.sym.making import Variable
from raysym.symbol import Symbol, create
from raysym.symbol_text import output_name

Nested: TypeAlias = Any  # a Symbol or nested lists of them

_MARK = "__subgraph_name__"


def foreach(
    body: Callable[[Nested, Nested], tuple[Nested, Nested]],
    data: Nested,
    init_states: Nested,
    name: str = "foreach",
) -> tuple[Nested, Nested]:
    """Run ``outs, states = body(row, states)`` for every row of `data`, one after the other.

    Returns the outputs of all steps stacked along a new first axis, and the last states. `data`,
    states and outputs are symbols or nested lists of symbols; rows run over the first axis.
    AssertionError if the body leaves a row or a state unused, or returns states in another form.
    `name` marks the nodes inside.
    """
    rows, states = _leaves("foreach: data", data), _leaves("foreach: init_states", init_states)

    def run(inside: Sequence[Symbol]) -> tuple[list[Entry], Nested]:
        given = iter(inside)
        outs, new = body(_like(data, given), _like(init_states, given))
        _check_form("foreach: states", new, init_states)
        made, kept = _leaves("foreach: outputs", outs), _leaves("foreach: states", new)
        names = {entry.node.name for entry in made}
        return [*map(_own, made), *(_own(entry, names) for entry in kept)], outs

    traced = _trace(name, [*rows, *states], run)
    rest = [i for i in range(len(traced.sources)) if i not in traced.places]
    if None in traced.places:
        unused = [*rows, *states][traced.places.index(None)].node.name
        raise AssertionError(f"foreach: data and states have to be used: '{unused}' is not")
    params = {
        "num_outputs": len(traced.graph.outputs),
        "num_out_data": len(traced.graph.outputs) - len(states),
        "in_data_locs": traced.places[: len(rows)],
        "in_state_locs": traced.places[len(rows) :],
        "remain_locs": rest,
    }
    inputs = [*rows, *states, *(traced.sources[i] for i in rest)]
    made = _made("_foreach", [traced.graph], inputs, params)
    return _like(traced.form, made), _like(init_states, made)


def while_loop(
    cond: Callable[..., Symbol],
    func: Callable[..., tuple[Nested, Nested]],
    loop_vars: Nested,
    max_iterations: int | None = None,
    name: str = "while_loop",
) -> tuple[Nested, Nested]:
    """Run ``outs, loop_vars = func(*loop_vars)`` while ``cond(*loop_vars)``, at most so often.

    Returns the outputs of all steps stacked along a new first axis of length `max_iterations`,
    zeros behind the last step, and the last loop variables. ValueError without a limit or without
    loop variables, if their number changes, if `func` leaves one unused, and if `cond` returns
    anything but one symbol.
    """
    if max_iterations is None:
        raise ValueError("while_loop: max_iterations is needed: got None")
    given = _leaves("while_loop: loop_vars", loop_vars)
    if not given:
        raise ValueError("while_loop: loop_vars: got none, expected at least one")
    condition = _trace(f"{name}_cond", given, lambda inside: _decided(cond, loop_vars, inside))
    body = _trace(f"{name}_func", given, lambda inside: _stepped(func, loop_vars, inside))
    if None in body.places:
        number = body.places.index(None) + 1
        raise ValueError(f"while_loop: func does not involve the {number}-th of the loop_vars")
    inputs, locs = _united([condition, body], _Body.number_of_given)
    params = {
        "max_iterations": int(max_iterations),
        "cond_input_locs": locs[0],
        "func_input_locs": locs[1],
        "func_var_locs": body.places,
        "num_out_data": len(body.graph.outputs) - len(given),
        "num_outputs": len(body.graph.outputs),
    }
    made = _made("_while_loop", [condition.graph, body.graph], inputs, params)
    return _like(body.form, made), _like(loop_vars, made)


def cond(
    pred: Symbol,
    then_func: Callable[[], Nested],
    else_func: Callable[[], Nested],
    name: str = "cond",
) -> Nested:
    """``then_func()`` where the one element of `pred` is not 0, else ``else_func()``.

    Both functions take their symbols from outside and return symbols, or nested lists of symbols,
    of the same number, shapes and dtypes. ValueError if their numbers or that of `pred` differ.
    """
    if len(_leaves("cond: pred", pred)) != 1:
        raise ValueError(f"cond: pred: got {pred!r}, expected a single output")
    parts = {"pred": lambda: pred, "then": then_func, "else": else_func}
    bodies = [_trace(f"{name}_{key}", [], _branch(func)) for key, func in parts.items()]
    counts = [len(body.graph.outputs) for body in bodies]
    if counts[1] != counts[2]:
        raise ValueError(
            f"cond: number of outputs differs: got {counts[1]} and {counts[2]}, expected equal ones"
        )
    inputs, locs = _united(bodies, _Body.name_of_variable)
    params = {
        "num_outputs": counts[1],
        "cond_input_locs": locs[0],
        "then_input_locs": locs[1],
        "else_input_locs": locs[2],
    }
    made = _made("_cond", [body.graph for body in bodies], inputs, params)
    return _like(bodies[1].form, made)


def _decided(
    cond: Callable[..., Symbol], loop_vars: Nested, inside: Sequence[Symbol]
) -> tuple[list[Entry], Nested]:
    found = cond(*_like(loop_vars, iter(inside)))
    if not isinstance(found, Symbol) or len(found) != 1:
        raise ValueError(f"while_loop: cond: got {found!r}, expected a single Symbol")
    return [_own(found.entries[0])], found


def _stepped(
    func: Callable[..., tuple[Nested, Nested]], loop_vars: Nested, inside: Sequence[Symbol]
) -> tuple[list[Entry], Nested]:
    outs, new = func(*_like(loop_vars, iter(inside)))
    outs, new = ([] if part is None else part for part in (outs, new))
    made, kept = _leaves("while_loop: outputs", outs), _leaves("while_loop: loop_vars", new)
    if len(kept) != len(inside):
        raise ValueError(f"while_loop: loop_vars: got {len(kept)}, expected {len(inside)}")
    return [_own(entry) for entry in (*made, *kept)], outs


def _branch(func: Callable[[], Nested]) -> Callable[[Any], tuple[list[Entry], Nested]]:
    def run(inside: Any) -> tuple[list[Entry], Nested]:
        outs = func()
        return [_own(entry) for entry in _leaves("cond: outputs", outs)], outs

    return run


# ----- from functions to graphs


class _Body(NamedTuple):
    """A function's graph. ``sources``: what feeds each of its variables, in order.

    ``places``: the variables that stand for the given symbols. ``form``: the function's outputs.
    """

    graph: Graph
    sources: list[Entry]
    places: list[int | None]
    form: Nested

    def number_of_given(self, place: int) -> int | None:
        """Which of the given symbols the variable at `place` stands for."""
        return self.places.index(place) if place in self.places else None

    def name_of_variable(self, place: int) -> str | None:
        """The name of the variable that feeds the one at `place`."""
        node = self.sources[place].node
        return node.name if node.is_variable else None


def _trace(
    name: str,
    given: Sequence[Entry],
    run: Callable[[Sequence[Symbol]], tuple[list[Entry], Nested]],
) -> _Body:
    """The graph of what `run` makes of variables that stand for the `given` entries."""
    mark = _unique(name)
    with AttrScope(**{_MARK: mark}):
        inside = [Variable(f"{entry.node.name}-{entry.index}") for entry in given]
        heads, form = run(inside)
    stand_ins = [symbol.entries[0] for symbol in inside]
    sources = dict(zip(stand_ins, given, strict=True))
    graph = _cut(heads, mark, sources)
    variables = [Entry(node) for node in graph.variables()]
    names = [entry.node.name for entry in variables]
    if len(set(names)) < len(names):
        raise AssertionError(f"{name}: inputs don't have unique names: got {', '.join(names)}")
    places = [variables.index(entry) if entry in variables else None for entry in stand_ins]
    return _Body(graph, [sources.get(entry, entry) for entry in variables], places, form)


def _unique(name: str) -> str:
    """The name of a graph, behind that of the graph around it, with a number of its own."""
    outer = AttrScope.current.get({}).get(_MARK)
    full = f"{outer}${name}" if outer else name
    return f"{full}{NameManager.current.count(_MARK + full)}"


def _own(entry: Entry, taken: Collection[str] = ()) -> Entry:
    """A head of the graph that is traced: what is not made in it goes through a copy.

    So do nodes whose name is `taken`: heads of a graph are told apart by their names.
    """
    node = entry.node
    is_inside = node.attrs.get(_MARK) == AttrScope.current.get({})[_MARK]
    if is_inside and not node.is_variable and node.name not in taken:
        return entry
    return create(find_op("_copy"), "identity", [Symbol([entry])], {}).entries[0]


def _cut(heads: Sequence[Entry], mark: str, sources: dict[Entry, Entry]) -> Graph:
    """The graph of the nodes that bear the mark; `sources` receives what they read from others."""
    stand_ins: dict[Entry, Entry] = {}
    new: dict[Node, Node] = {}

    def inside(entry: Entry) -> Entry:
        if entry.node in new:
            return Entry(new[entry.node], entry.index)
        if entry not in stand_ins:
            stand_ins[entry] = variable(output_name(entry))
        return stand_ins[entry]

    # Only marked nodes are visited: what lies outside may be large.
    stack = [entry.node for entry in heads]
    while stack:
        node = stack[-1]
        marked = (e.node for e in node.inputs if e.node.attrs.get(_MARK) == mark)
        waiting = [one for one in marked if one not in new]
        stack += waiting
        if not waiting:
            stack.pop()
            if node not in new:  # several may have waited for it
                new[node] = node.with_inputs([inside(entry) for entry in node.inputs])
    sources.update((own, outer) for outer, own in stand_ins.items())
    return Graph.of(inside(entry) for entry in heads)


def _united(
    bodies: Sequence[_Body], key: Callable[[_Body, int], Hashable]
) -> tuple[list[Entry], list[list[int]]]:
    """The inputs of all graphs, and for each graph the inputs that its variables read.

    Variables with the same `key` share an input; None is shared with nobody.
    """
    inputs: list[Entry] = []
    known: dict[Hashable, int] = {}
    locs = []
    for body in bodies:
        own = []
        for place, source in enumerate(body.sources):
            name = key(body, place)
            slot = len(inputs) if name is None else known.setdefault(name, len(inputs))
            inputs += [source] if slot == len(inputs) else []
            own.append(slot)
        locs.append(own)
    return inputs, locs


def _made(
    op_name: str, graphs: Sequence[Graph], inputs: Sequence[Entry], params: Mapping[str, Any]
) -> Iterator[Symbol]:
    """The visible outputs of a new node that runs `graphs`."""
    name = NameManager.current.get(None, op_name)
    texts = {key: str(value) for key, value in params.items()}
    texts["num_args"] = str(len(graphs) + len(inputs))
    source = call_site()
    try:
        op = make_op(op_name, texts).with_subgraphs(graphs)
    except RuleError as error:
        context = [f"made at {source}"]
        raise MXNetError(node_message(op_name, name, str(error), context)) from None
    attrs = {**scoped_attrs(find_op(op_name), name, None), **texts}
    node = Node(op, name, inputs, dict(sorted(attrs.items())), source)
    return (Symbol([entry]) for entry in node.entries()[: op.n_visible()])


# ----- nested lists of symbols


def _leaves(what: str, nested: Nested) -> list[Entry]:
    if isinstance(nested, Symbol):
        return list(nested.entries)
    if not isinstance(nested, list | tuple):
        kind = type(nested).__name__
        raise AssertionError(f"{what}: got {kind}, expected a Symbol or a (nested) list of Symbols")
    return [entry for part in nested for entry in _leaves(what, part)]


def _like(nested: Nested, made: Iterator[Symbol]) -> Nested:
    """The next symbols of `made` in the form of `nested`; several outputs count as a list."""
    if isinstance(nested, Symbol):
        return next(made) if len(nested) == 1 else [next(made) for _ in nested]
    return [_like(part, made) for part in nested]


def _form(nested: Nested) -> Nested:
    return [_form(part) for part in nested] if isinstance(nested, list | tuple) else len(nested)


def _check_form(what: str, got: Nested, expected: Nested) -> None:
    _leaves(what, got)
    if _form(got) != _form(expected):
        raise AssertionError(
            f"{what}: different format: got {_form(got)}, expected {_form(expected)} "
            "(numbers of outputs)"
        )
