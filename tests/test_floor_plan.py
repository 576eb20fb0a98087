"""The floor plan: imports point down, foreign libraries have one door, files stay small."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# From the ground up. A module may import from its own floor and from those below it.
FLOORS = [
    {"scheduler"},
    {
        "compose", "context", "errors", "graph", "graph_json", "graph_upgrade",
        "names", "op", "params", "types",
    },
    {"ops"},
    {"passes"},
    {
        "arithmetic", "calls", "chunk", "convert", "device", "fluent", "imperative",
        "indexing", "inplace", "nd", "ndarray", "ndarray_file", "opdoc", "operator", "opindex",
        "random_state",
    },
    {"kernels", "planning"},
    {"pictures", "runtime"},
    {
        "bind", "binding", "executor", "heads", "monitor", "profile", "rebind", "session",
        "simple_bind", "sym", "symbol", "symbol_text", "symbol_types",
    },
    {"contexts", "demo", "forecast", "model", "stubs", "tutorial"},
    {"__init__", "cli"},
]  # fmt: skip
LEVEL = {name: level for level, names in enumerate(FLOORS) for name in names}

# The files that may import a foreign library, and those that may import when first needed.
DOORS = {
    "ray": {"raysym/runtime/ray.py"},
    "cupy": {"raysym/device.py"},
    "pyarrow": {"raysym/interop/arrow.py"},
    "scipy": {"scheduler"},
    "sklearn": {"raysym/demo/digits.py"},
}
LAZY = {
    "raysym/runtime/__init__.py",
    "raysym/runtime/engines.py",
    "raysym/device.py",
    "raysym/demo/digits.py",
    "raysym/runtime/threads.py",
}


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def part_of(path: Path) -> str:
    """The module or package of raysym that a file belongs to: ``ops``, ``symbol``."""
    relative = path.relative_to(ROOT)
    return relative.parts[0] if relative.parts[0] == "scheduler" else Path(relative.parts[1]).stem


def test_every_part_has_a_floor() -> None:
    assert {part_of(path) for path in sources("raysym", "scheduler")} <= set(LEVEL)


def imports(tree: ast.AST) -> Iterator[tuple[str, ast.stmt]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [alias.name for alias in node.names]
            # ``from raysym import nd`` names modules; ``from raysym.nd import zeros`` does not.
            full = (
                [f"raysym.{name}" for name in names] if node.module == "raysym" else [node.module]
            )
            yield from ((name, node) for name in full)


def type_checking_lines(tree: ast.Module) -> set[int]:
    found: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            found.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return found


@pytest.mark.parametrize("path", sources("raysym", "scheduler"), ids=lambda p: p.name)
def test_imports_point_down(path: Path) -> None:
    tree = ast.parse(path.read_text())
    own = part_of(path)
    for name, _ in imports(tree):
        parts = name.split(".")
        if parts[0] == "scheduler":
            target = "scheduler"
        elif parts[0] == "raysym" and len(parts) > 1:
            target = parts[1]
        else:
            continue
        assert LEVEL.get(target, 0) <= LEVEL.get(own, 99), (
            f"{own} imports {target}, which lies above it"
        )


def test_scheduler_imports_nothing_of_ours() -> None:
    for path in sources("scheduler"):
        assert not [n for n, _ in imports(ast.parse(path.read_text())) if n.startswith("raysym")]


def test_there_is_no_import_cycle() -> None:
    graph: dict[str, set[str]] = {}
    for path in sources("raysym", "scheduler"):
        tree = ast.parse(path.read_text())
        hidden = type_checking_lines(tree)
        own = part_of(path)
        for name, node in imports(tree):
            parts = name.split(".")
            if parts[0] in ("raysym", "scheduler") and node.lineno not in hidden:
                target = parts[1] if parts[0] == "raysym" and len(parts) > 1 else parts[0]
                if target != own:
                    graph.setdefault(own, set()).add(target)
    done: set[str] = set()

    def walk(part: str, trail: tuple[str, ...]) -> None:
        assert part not in trail, f"import cycle: {' -> '.join([*trail, part])}"
        if part not in done:
            for target in sorted(graph.get(part, ())):
                walk(target, (*trail, part))
            done.add(part)

    for part in sorted(graph):
        walk(part, ())


@pytest.mark.parametrize("path", sources("raysym", "scheduler"), ids=lambda p: p.name)
def test_no_import_hides_in_a_function(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            inner = [n for n in ast.walk(node) if isinstance(n, (ast.Import, ast.ImportFrom))]
            assert not inner, f"{node.name} imports inside"
            called = [n for n in ast.walk(node) if isinstance(n, ast.Attribute)]
            lazy = any(n.attr == "import_module" for n in called)
            assert not lazy or str(path.relative_to(ROOT)) in LAZY or "scheduler" in path.parts


@pytest.mark.parametrize("library", DOORS)
def test_a_foreign_library_has_one_door(library: str) -> None:
    for path in sources("raysym", "scheduler"):
        relative = str(path.relative_to(ROOT))
        if relative in DOORS[library] or relative.split("/")[0] in DOORS[library]:
            continue
        names = [name.split(".")[0] for name, _ in imports(ast.parse(path.read_text()))]
        assert library not in names, relative


@pytest.mark.parametrize("path", sources("raysym", "scheduler"), ids=lambda p: p.name)
def test_files_functions_and_classes_stay_small(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            doc = ast.get_docstring(node, clean=False)
            lines = (node.end_lineno or 0) - node.lineno + 1 - (doc.count("\n") + 1 if doc else 0)
            assert lines <= 40, f"{node.name} has {lines} lines"


@pytest.mark.parametrize("path", sources("raysym", "scheduler"), ids=lambda p: p.name)
def test_modules_say_what_lives_in_them(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert not tree.body or ast.get_docstring(tree)


def test_nobody_prints_but_the_command_line() -> None:
    for path in sources("raysym", "scheduler"):
        if path.name != "cli.py":
            calls = [
                n.func for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)
            ]
            assert not [f for f in calls if isinstance(f, ast.Name) and f.id == "print"], path
