"""What users see of an op page as a Python function: its name, signature and manual page."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from inspect import Parameter, Signature
from typing import Any, Final

import raysym.ops  # noqa: F401  (fills the registry)
from raysym.errors import did_you_mean
from raysym.op import REGISTRY, Op
from raysym.params import REQUIRED, Param

# Ops that arrays and symbols also offer as methods: ``x.relu()`` is ``relu(x)``.
FLUENT_METHODS: Final = tuple(
    """
    abs arccos arccosh arcsin arcsinh arctan arctanh argmax argmax_channel argmin argsort
    broadcast_axes broadcast_like broadcast_to cbrt ceil clip cos cosh degrees depth_to_space diag
    exp expand_dims expm1 fix flatten flip floor log log10 log1p log2 log_softmax max mean min
    nanprod nansum norm one_hot ones_like pad pick prod radians rcbrt reciprocal relu repeat
    reshape_like rint round rsqrt shape_array sigmoid sign sin sinh size_array slice slice_axis
    slice_like softmax softmin sort space_to_depth split sqrt square squeeze sum swapaxes take tan
    tanh tile topk transpose trunc zeros_like
    """.split()
)

# The prefix of a registry name decides the namespace of its function.
_NAMESPACES = {
    "_contrib_": "contrib.",
    "_linalg_": "linalg.",
    "_sparse_": "sparse.",
    "_image_": "image.",
    "_random_": "random.",
}


def public_functions() -> dict[str, type[Op]]:
    """The page of every function, by Python name below ``mx.nd`` or ``mx.sym``.

    ``exp``, ``linalg.gemm2``, ``contrib.CTCLoss``, ``_internal._plus_scalar``.
    """
    return {
        python_name(name): page
        for name, page in REGISTRY.items()
        if not page.internal and page.name != "null"
    }


def python_name(registry_name: str) -> str:
    """Where the function of a registry name lives: ``_linalg_gemm2`` -> ``linalg.gemm2``."""
    for prefix, namespace in _NAMESPACES.items():
        if registry_name.startswith(prefix):
            # Of the samplers only those "like" an array are functions of their own: the others
            # share one function for numbers and arrays (nd.random.uniform).
            if prefix == "_random_" and not registry_name.endswith("_like"):
                break
            return namespace + registry_name.removeprefix(prefix)
    return f"_internal.{registry_name}" if registry_name.startswith("_") else registry_name


def functions_below(namespace: str) -> dict[str, type[Op]]:
    """The functions of one namespace by plain name: ``""``, ``linalg``, ``_internal``, ..."""
    prefix = f"{namespace}." if namespace else ""
    return {
        name.removeprefix(prefix): page
        for name, page in public_functions().items()
        if name.startswith(prefix) and "." not in name.removeprefix(prefix)
    }


# ----- signatures


class _Required:
    def __repr__(self) -> str:
        return "<required>"


def signature_of(page: type[Op], *extra: str) -> Signature:
    """Inputs first, then parameters in the page's order, then the `extra` keywords, default None.

    Inputs and parameters may both be given by position, unless the number of inputs is free.
    """
    kind = Parameter.KEYWORD_ONLY if _inputs_only(page) else Parameter.POSITIONAL_OR_KEYWORD
    found = list(_input_parameters(page))
    for param in page.params.values():
        if param.name != page.variadic:
            default = _Required() if param.default is REQUIRED else param.default
            found.append(Parameter(param.name, kind, default=default))
    taken = {parameter.name for parameter in found}
    found += [Parameter(name, kind, default=None) for name in extra if name not in taken]
    found.append(Parameter("kwargs", Parameter.VAR_KEYWORD))
    return Signature(found)


def _inputs_only(page: type[Op]) -> bool:
    return bool(page.variadic) or page.keyword_only


def _input_parameters(page: type[Op]) -> Iterator[Parameter]:
    if page.variadic:
        yield Parameter(page.inputs[0] if page.inputs else "args", Parameter.VAR_POSITIONAL)
        return
    for name in page.inputs:
        # An input and a parameter of one name: the parameter is then given by keyword.
        if name not in page.params:
            yield Parameter(name, Parameter.POSITIONAL_OR_KEYWORD, default=None)


# ----- manual pages


def doc_of(page: type[Op], kind: str = "NDArray") -> str:
    """A manual page: formula and shapes, inputs, parameters, outputs. `kind` is what goes in."""
    blocks = [
        inspect.cleandoc(page.__doc__ or page.name),
        _section("Inputs", [_input_text(page, name, kind) for name in page.inputs]),
        _section("Parameters", [_param_text(page, param) for param in page.params.values()]),
        _section("Of every symbol", _SYMBOL_PARAMETERS if kind == "Symbol" else []),
        _section("Outputs", [_output_text(page)]),
        _section("Notes", [*_variable_notes(page, kind), *_notes(page)]),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


_SYMBOL_PARAMETERS: Final = [
    "name : a string, default None",
    "    Name of the node; None: the name of the function and a number.",
    "attr : a dict of strings, default None",
    "    Attributes of the node: ctx_group, or any key of the form __key__.",
]


def _section(title: str, lines: list[str]) -> str:
    return "\n".join([title, "-" * len(title), *lines]) if lines else ""


def _input_text(page: type[Op], name: str, kind: str) -> str:
    if page.variadic:
        return f"*{name} : {kind}, as many as wanted"
    roles = [("auxiliary state", page.aux), ("label", page.labels), ("type only", page.shape_only)]
    # Where the inputs depend on parameters, so does this, and a page cannot tell.
    said = [role for role, names in roles if isinstance(names, tuple) and name in names]
    return f"{name} : {kind}{''.join(f', {role}' for role in said)}"


def _param_text(page: type[Op], param: Param) -> str:
    default = "required" if param.default is REQUIRED else f"default {param.default!r}"
    if param.name == page.variadic:
        default = "counted if not given"
    return f"{param.name} : {param.describe()}, {default}\n    {param.doc}"


def _output_text(page: type[Op]) -> str:
    visible = page.outputs[: len(page.outputs) - page.hidden]
    hidden = page.outputs[len(visible) :]
    text = ", ".join(visible) + (f" (and {', '.join(hidden)}, not shown)" if hidden else "")
    decided = page.output_names is not Op.output_names or page.n_visible is not Op.n_visible
    return text + (": parameters decide which and how many" if decided else "")


def _variable_notes(page: type[Op], kind: str) -> list[str]:
    if kind != "Symbol" or page.variadic or len(page.inputs) < 2:
        return []
    return [f"An input that is left out becomes a variable: name_{page.inputs[1]}."]


def _notes(page: type[Op]) -> list[str]:
    notes = []
    if page.random is True:  # where graphs or parameters decide, a page cannot tell
        notes.append("Draws random numbers: see random.seed.")
    if not page.needs_head_grad:
        notes.append("A loss: its gradient ignores the gradient that comes from above.")
    if page.zero_gradient:
        notes.append("Its gradient is zero everywhere.")
    if page.kinds != "fiub":
        words = {"f": "floating numbers only", "fiu": "numbers, but no truth values"}
        notes.append(f"Takes {words[page.kinds]}.")
    names = [python_name(name) for name in (page.name, *page.aliases)]
    known = [name for name in names if not name.startswith("_internal.")]
    if len(known) > 1:
        notes.append(f"Names of this operator: {', '.join(known)}.")
    if python_name(page.name) != page.name or len(known) > 1:
        notes.append(f"Files record it as {page.name}.")
    return notes


# ----- namespaces


def lazily(
    names: dict[str, Any], namespace: str, make: Callable[[str, type[Op]], Any]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` of a module whose functions are made when first used.

    `names` is the module's own dict, where a function stays once ``make(name, page)`` made it.
    """

    def get(name: str) -> Any:
        page = None if name.startswith("__") else functions_below(namespace).get(name)
        if page is None:
            hint = did_you_mean(name, functions_below(namespace))
            raise AttributeError(f"module '{names['__name__']}' has no attribute '{name}'. {hint}")
        names[name] = make(name, page)
        return names[name]

    def listed() -> list[str]:
        return sorted({*names, *functions_below(namespace)})

    return get, listed
