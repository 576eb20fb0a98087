"""Reads the numbers recorded from MXNet 1.9.1 (``../shared/golden``) and runs a case on raysym."""

from __future__ import annotations

import json
import operator
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

import raysym as mx

FOLDER = Path(__file__).parent.parent.parent / "shared" / "golden"

_PYTHON = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": operator.truediv,
    "mod": operator.mod, "pow": operator.pow, "gt": operator.gt, "ge": operator.ge,
    "lt": operator.lt, "le": operator.le, "eq": operator.eq, "ne": operator.ne,
}  # fmt: skip
_TOLERANCE = {"float16": (1e-2, 1e-2), "float32": (1e-4, 1e-5), "float64": (1e-6, 1e-7)}


class Golden:
    """The manifest and its arrays."""

    @cached_property
    def cases(self) -> dict[str, dict[str, Any]]:
        """All cases by id; none where the data is not at hand."""
        if not FOLDER.exists():
            return {}
        return {
            case["id"]: case for case in json.loads((FOLDER / "manifest.json").read_text())["cases"]
        }

    @cached_property
    def _flat(self) -> dict[str, np.ndarray]:
        with np.load(FOLDER / "arrays.npz") as stored:
            return {dtype: stored[dtype] for dtype in stored.files}

    def array(self, ref: list) -> np.ndarray:
        """The array that a reference ``[dtype, offset, shape]`` names."""
        dtype, offset, shape = ref
        size = int(np.prod(shape)) if shape else 1
        return self._flat[dtype][offset : offset + size].reshape(shape).copy()

    def arrays(self, refs: Mapping[str, list | None]) -> dict[str, np.ndarray]:
        """Arrays by name; names without one are left out."""
        return {name: self.array(ref) for name, ref in refs.items() if ref is not None}


GOLDEN = Golden()


def tuples(value: Any) -> Any:
    """Lists of the manifest stand for tuples."""
    return tuple(tuples(v) for v in value) if isinstance(value, list) else value


# ----- building


def build(case: Mapping[str, Any]) -> mx.Symbol:
    """The symbol of a case, through the public API."""
    if case["kind"] == "net":
        return mx.sym.load(str(FOLDER / "nets" / f"{case['prefix']}-symbol.json"))
    if case["kind"] == "dag":
        return build_dag(case)
    variables = [mx.sym.Variable(name) for name in case["arguments_given"]]
    return call(mx.sym, case, variables, case.get("name"))


def call(namespace: Any, call_of: Mapping[str, Any], inputs: list, name: str | None = None) -> Any:
    """One operator call as the manifest writes it."""
    path, attrs = call_of["op"], {key: tuples(v) for key, v in call_of["attrs"].items()}
    if path.startswith("@"):
        return _python_operator(path[1:], inputs, attrs)
    if name is not None:
        attrs["name"] = name
    if path.startswith("."):
        return getattr(inputs[0], path[1:])(*inputs[1:], **attrs)
    function = operator.attrgetter(path)(namespace)
    keywords = call_of.get("kw")
    if keywords:
        return function(**dict(zip(keywords, inputs, strict=True)), **attrs)
    return function(*inputs, **attrs)


def _python_operator(name: str, inputs: list, attrs: Mapping[str, Any]) -> Any:
    if name in ("neg", "abs"):
        return getattr(operator, name)(inputs[0])
    left, right = inputs[0], inputs[1] if len(inputs) > 1 else attrs["scalar"]
    if name in _PYTHON:
        return _PYTHON[name](left, right)
    return _PYTHON[name[1:]](right, left)


def build_dag(case: Mapping[str, Any]) -> mx.Symbol:
    """Nodes in order; a reference is a variable's name or [node, output]."""
    made: list[mx.Symbol] = []
    variables: dict[str, mx.Symbol] = {}

    def look_up(ref: Any) -> mx.Symbol:
        if isinstance(ref, str):
            if ref not in variables:
                variables[ref] = mx.sym.Variable(ref)
            return variables[ref]
        several = case["nodes"][ref[0]].get("nout", 1) > 1
        return made[ref[0]][ref[1]] if several else made[ref[0]]

    for node in case["nodes"]:
        scope = {"ctx_group": node["group"]} if node.get("group") else {}
        with mx.AttrScope(**scope):
            made.append(call(mx.sym, node, [look_up(r) for r in node["in"]], node.get("name")))
    heads = [look_up(ref) for ref in case["heads"]]
    return heads[0] if len(heads) == 1 else mx.sym.Group(heads)


# ----- running


def bind(case: Mapping[str, Any], symbol: mx.Symbol, **where: Any) -> mx.Executor:
    """The executor of a case, with the start values of arguments, aux states and gradients."""
    args, aux, grads = inputs_of(case)
    shapes = {name: value.shape for name, value in args.items()}
    types = {name: value.dtype.type for name, value in args.items()}
    groups = case.get("group2ctx")
    if groups:
        where.setdefault("group2ctx", {name: mx.cpu(i) for name, i in groups.items()})
    executor = symbol.simple_bind(
        mx.cpu(),
        grad_req=dict(case.get("grad_req") or {}) or "null",
        type_dict=types,
        **where,
        **shapes,
    )
    for held, values in ((executor.arg_dict, args), (executor.aux_dict, aux)):
        for name, value in values.items():
            held[name][:] = value
    for name, value in grads.items():
        if executor.grad_dict[name] is not None:
            executor.grad_dict[name][:] = value
    return executor


def inputs_of(case: Mapping[str, Any]) -> tuple[dict, dict, dict]:
    """Arguments, auxiliary states and gradient start values by name."""
    args = GOLDEN.arrays(case["in"])
    aux = GOLDEN.arrays(case.get("aux0") or {})
    if case["kind"] == "net":
        params = GOLDEN.arrays(case["params"])
        aux |= {name: params.pop(name) for name in case["aux"]}
        args |= params
    return args, aux, GOLDEN.arrays(case.get("grad0") or {})


def failures(case: Mapping[str, Any], **where: Any) -> Iterator[str]:
    """Everything in which raysym differs from the record."""
    with mx.name.NameManager():
        symbol = build(case)
    yield from _name_failures(case, symbol)
    want = case["want"]
    if "out_infer" in want:
        with bind(case, symbol, **where) as executor:
            outputs = [o.asnumpy() for o in executor.forward(is_train=False)]
        yield from _differences("output", outputs, want["out_infer"], case)
    if "out_train" in want:
        yield from _training_failures(case, symbol, **where)


def _training_failures(case: Mapping[str, Any], symbol: mx.Symbol, **where: Any) -> Iterator[str]:
    want = case["want"]
    refs = want["out_infer"] if want["out_train"] == "same" else want["out_train"]
    with bind(case, symbol, **where) as executor:
        outputs = [o.asnumpy() for o in executor.forward(is_train=True)]
        yield from _differences("training output", outputs, refs, case)
        if "grad" not in want:
            return
        heads = case["heads_in"]
        executor.backward(heads and [_as_nd(GOLDEN.array(ref)) for ref in heads])
        for kind, held in (("grad", executor.grad_dict), ("aux_train", executor.aux_dict)):
            for name, ref in (want.get(kind) or {}).items():
                yield from _differences(f"{kind} {name}", [held[name].asnumpy()], [ref], case)


def _as_nd(value: np.ndarray) -> mx.NDArray:
    return mx.nd.array(value, dtype=value.dtype)


def _name_failures(case: Mapping[str, Any], symbol: mx.Symbol) -> Iterator[str]:
    lists = {
        "arguments": symbol.list_arguments(),
        "outputs": symbol.list_outputs(),
        "aux": symbol.list_auxiliary_states(),
    }
    if "internals" in case:
        lists["internals"] = symbol.get_internals().list_outputs()
    for what, got in lists.items():
        if what in case and got != case[what]:
            yield f"{what}: {got}, want {case[what]}"
    if "shapes" in case:
        given = {name: tuple(shape) for name, shape in case["shapes"]["given"].items()}
        got = [[list(shape) for shape in part or ()] for part in symbol.infer_shape(**given)]
        if got != [case["shapes"][key] for key in ("arg", "out", "aux")]:
            yield f"infer_shape: {got}"
    if "types" in case:
        found = symbol.infer_type(**case["types"]["given"])
        got = [[np.dtype(dtype).name for dtype in part or ()] for part in found]
        if got != [case["types"][key] for key in ("arg", "out", "aux")]:
            yield f"infer_type: {got}"


# ----- comparing


def _differences(what: str, got: list, refs: list, case: Mapping[str, Any]) -> Iterator[str]:
    if len(got) != len(refs):
        yield f"{what}: {len(got)} arrays, want {len(refs)}"
    for i, (value, ref) in enumerate(zip(got, refs, strict=False)):
        wrong = difference(value, GOLDEN.array(ref), case)
        if wrong:
            yield f"{what} {i}: {wrong}"


def difference(got: np.ndarray, want: np.ndarray, case: Mapping[str, Any]) -> str:
    """How `got` differs from `want` beyond the case's tolerance; empty if it does not."""
    if got.dtype != want.dtype or (got.shape != want.shape and (got.size, want.size) != (1, 1)):
        return f"{got.dtype}{got.shape}, want {want.dtype}{want.shape}"
    got = got.reshape(want.shape)
    if want.dtype.kind != "f":
        return "" if np.array_equal(got, want) else f"{int((got != want).sum())} elements differ"
    rtol, atol = _tolerance(want.dtype.name, case)
    got, want = got.astype(np.float64), want.astype(np.float64)
    finite = np.isfinite(want)
    if not np.array_equal(got[~finite], want[~finite], equal_nan=True):
        return "nan or inf elsewhere"
    scale = max(1.0, float(np.abs(want[finite]).max(initial=0.0)))
    off = np.abs(got - want)[finite] - (atol * scale + rtol * np.abs(want[finite]))
    return f"{int((off > 0).sum())} of {off.size} off" if (off > 0).any() else ""


def _tolerance(dtype: str, case: Mapping[str, Any]) -> tuple[float, float]:
    low = case.get("low", dtype)
    pairs = [_TOLERANCE[dtype], _TOLERANCE.get(low, _TOLERANCE[dtype])]
    loose = case.get("loose", 1.0)
    return max(p[0] for p in pairs) * loose, max(p[1] for p in pairs) * loose
