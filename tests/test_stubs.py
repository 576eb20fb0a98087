"""The stubs for type checkers say what the op pages say."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from raysym.opdoc import FLUENT_METHODS, functions_below
from raysym.stubs import stub_texts

TEXTS = stub_texts()


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_stubs_are_current(path: Path) -> None:
    wanted = "write it anew with `python -m raysym.stubs`"
    assert path.read_text(encoding="utf-8") == TEXTS[path], wanted


def defined(text: str) -> set[str]:
    tree = ast.parse(text)
    names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return names | {alias.asname for node in imports for alias in node.names if alias.asname}


def test_every_function_and_method_is_there() -> None:
    by_name = {f"{path.parent.name}.{path.stem}": defined(text) for path, text in TEXTS.items()}
    assert set(FLUENT_METHODS) <= by_name["raysym.fluent"]
    assert set(functions_below("")) <= by_name["sym.__init__"] & by_name["nd.__init__"]
    assert {"Variable", "Group", "load_json", "zeros"} <= by_name["sym.__init__"]
    assert {"array", "zeros", "save", "load"} <= by_name["nd.__init__"]
