"""What the kernels of raysym/ops ask of the array library, read from their source text."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import numpy as np

OPS = Path(__file__).parent.parent / "raysym" / "ops"

Used = dict[str, set[str]]  # name -> keywords it is called with


def used() -> Used:
    """``add``, ``linalg.inv``, ``ndarray.astype``, ``ufunc.reduce`` and the keywords in calls."""
    found: Used = defaultdict(set)
    for path in sorted(OPS.glob("*.py")):
        collect(ast.parse(path.read_text(encoding="utf-8")), found)
    return dict(found)


def collect(tree: ast.Module, found: Used) -> None:
    """Enter all names of one module."""
    modules = {
        alias.asname or alias.name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
    }
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and id(node) not in inner:
            name = name_of(node, modules)
            if name:
                found[name]
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            name = name_of(node.func, modules)
            if name:
                found[name].update(keyword.arg or "**" for keyword in node.keywords)


def name_of(node: ast.Attribute, modules: set[str]) -> str | None:
    """The library's name for ``xp.linalg.inv`` or for the method in ``anything.astype``."""
    parts: list[str] = []
    base: ast.expr = node
    while isinstance(base, ast.Attribute):
        parts.insert(0, base.attr)
        base = base.value
    if isinstance(base, ast.Name) and base.id == "xp":
        return ".".join(parts)
    if isinstance(base, ast.Name) and base.id in {*modules, "self", "cls", "rng"}:
        return None
    if parts[-1].startswith("_"):
        return None
    # What an expression is cannot be read off; a method that arrays have is taken for theirs.
    kind = next((k for k in (np.ndarray, np.ufunc) if hasattr(k, parts[-1])), None)
    return f"{kind.__name__}.{parts[-1]}" if kind else None
