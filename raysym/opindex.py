"""The operator index: one line for every operator, written from the pages.

``python -m raysym.opindex`` writes ``raysym/ops/INDEX.md``; a test says when that is due.
"""

from __future__ import annotations

import inspect
from collections import defaultdict
from pathlib import Path

import raysym.ops  # noqa: F401  (fills the registry)
from raysym.op import CANONICAL, Op

FILE = Path(__file__).parent / "ops" / "INDEX.md"

_HEAD = """\
# Operators

Written by `python -m raysym.opindex` from the pages; what a page says is what `help()` shows.
Inputs in brackets are there for some parameters only; `*` stands for as many as wanted.
"""


def index() -> str:
    """The whole index: a table for each file of pages, internal operators last."""
    files: dict[str, list[type[Op]]] = defaultdict(list)
    inner: list[type[Op]] = []
    for page in CANONICAL.values():
        (inner if page.internal else files[_file_of(page)]).append(page)
    parts = [_table(f"{name}.py", files[name]) for name in sorted(files)]
    public = sum(map(len, files.values()))
    count = f"{public} operators that users call, {len(inner)} that gradients and passes call.\n"
    return "\n".join([_HEAD, count, *parts, _table("Internal", inner)])


def _file_of(page: type[Op]) -> str:
    return page.__module__.rpartition(".")[2]


def _table(title: str, pages: list[type[Op]]) -> str:
    rows = [_row(page) for page in sorted(pages, key=lambda page: page.name.lower())]
    head = ["| Operator | Also called | Inputs | What it does |", "|---|---|---|---|"]
    return "\n".join([f"## {title}", "", *head, *rows, ""])


def _row(page: type[Op]) -> str:
    aliases = ", ".join(f"`{alias}`" for alias in sorted(page.aliases))
    return f"| `{page.name}` | {aliases} | {_inputs(page)} | {summary(page)} |"


def _inputs(page: type[Op]) -> str:
    if page.variadic:
        return f"*{page.inputs[0]}" if page.inputs else "*args"
    if page.input_names is Op.input_names:
        return ", ".join(page.inputs)
    return ", ".join([*page.inputs[:1], *(f"[{name}]" for name in page.inputs[1:])])


def summary(page: type[Op]) -> str:
    """The first line of the page's docstring, fit for a table."""
    first = inspect.cleandoc(page.__doc__ or "").partition("\n\n")[0]
    return " ".join(first.split()).replace("``", "`").replace("|", "\\|")


if __name__ == "__main__":
    FILE.write_text(index(), encoding="utf-8")
