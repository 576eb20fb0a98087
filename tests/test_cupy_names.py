"""Every name and keyword that a kernel takes from `xp`, and every array method, exists in CuPy 14.

CuPy imports without a GPU. Where it is not installed, the check runs against
``data/cupy_names.txt``, which ``python tests/test_cupy_names.py`` writes from an installed CuPy.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from kernel_names import Used, used

LIST = Path(__file__).parent / "data" / "cupy_names.txt"
USED = used()


def described(cupy: Any, name: str) -> str | None:
    """``arange(start, stop, step, dtype)``; None when CuPy has no such thing."""
    found: Any = cupy
    for part in name.split("."):
        found = getattr(found, part, None)
        if found is None:
            return None
    keywords = keywords_of(cupy, found)
    return name if keywords is None else f"{name}({', '.join(keywords)})"


def keywords_of(cupy: Any, found: Any) -> list[str] | None:
    """Parameter names, ``**`` if any are taken; None for what is not called or takes no keyword."""
    if isinstance(found, type) or not callable(found):
        return None
    if isinstance(found, cupy.ufunc):
        return from_text((found.__doc__ or "").splitlines()[0])
    try:
        parameters = inspect.signature(found).parameters.values()
    except ValueError:
        return from_text((found.__doc__ or "").splitlines()[0])
    return [
        "**" if p.kind is p.VAR_KEYWORD else p.name
        for p in parameters
        if p.kind is not p.VAR_POSITIONAL
    ]


def from_text(line: str) -> list[str]:
    """Compiled functions say their signature in the first line of their docstring."""
    inside = line.partition("(")[2].rpartition(")")[0]
    names = [
        re.split(r"[=\s]+", part.strip())[-1 if "=" not in part else 0]
        for part in inside.split(",")
    ]
    return [name for name in names if name.isidentifier() and name != "self"]


def installed() -> Any:
    return pytest.importorskip(
        "cupy", reason="CuPy is not installed: the committed list is checked"
    )


def problems(known: dict[str, list[str] | None], asked: Used = USED) -> list[str]:
    """What the kernels use and CuPy lacks."""
    found = []
    for name, keywords in sorted(asked.items()):
        if name not in known:
            found.append(f"CuPy has no {name}")
            continue
        accepted = known[name] or []
        if "**" not in accepted:
            found += [f"{name} takes no {word}=" for word in sorted(keywords - {"**", *accepted})]
    return found


def parsed(text: str) -> dict[str, list[str] | None]:
    known: dict[str, list[str] | None] = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, bracket, rest = line.partition("(")
            known[name] = rest.rstrip(")").split(", ") if bracket else None
    return known


def written(cupy: Any) -> str:
    lines = [line for name in sorted(USED) if (line := described(cupy, name))]
    head = f"# Names that raysym/ops uses, as CuPy {cupy.__version__.split('.')[0]} has them."
    return "\n".join([head, *lines]) + "\n"


def test_kernels_use_only_what_cupy_has() -> None:
    assert len(USED) > 100
    assert problems(parsed(LIST.read_text(encoding="utf-8"))) == []


def test_the_committed_list_is_that_of_cupy() -> None:
    assert LIST.read_text(encoding="utf-8") == written(installed())


def test_installed_cupy_has_all_names() -> None:
    assert problems(parsed(written(installed()))) == []


def test_unknown_names_and_keywords_are_found() -> None:
    known = parsed("add(x1, x2, out)\nnumber\n")
    asked = {"add": {"out", "where"}, "number": set(), "gone": set()}
    assert problems(known, asked) == ["add takes no where=", "CuPy has no gone"]


if __name__ == "__main__":
    LIST.write_text(written(__import__("cupy")), encoding="utf-8")
