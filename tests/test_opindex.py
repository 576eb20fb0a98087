"""The written side of the operators: index, README example and manual pages."""

from __future__ import annotations

import operator
import pydoc
import re
from pathlib import Path

import numpy as np
import pytest

import raysym as mx
from raysym import op as registry
from raysym.op import CANONICAL, REGISTRY
from raysym.opindex import FILE, index, summary

README = Path(FILE).parent / "README.md"


def test_the_index_is_current() -> None:
    assert FILE.read_text(encoding="utf-8") == index(), "run python -m raysym.opindex"


def test_the_index_has_one_line_for_every_operator() -> None:
    rows = re.findall(r"^\| `(\w+)` \| .* \| .* \| (.+) \|$", index(), re.MULTILINE)
    assert sorted(name for name, _ in rows) == sorted(CANONICAL)
    assert not [name for name, words in rows if words.strip() in ("", ".")]


def test_every_page_begins_with_one_line() -> None:
    for page in CANONICAL.values():
        assert 5 < len(summary(page)) < 120, page.name
        assert summary(page)[-1] in ".:", page.name


# ----- the README of the pages


def test_the_example_of_the_readme_works() -> None:
    page, sample = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    known = dict(REGISTRY), dict(CANONICAL)
    try:
        exec(page, {"__name__": "example"})
        x = mx.sym.Variable("x")
        y = operator.attrgetter("softplus")(mx.sym)(x, beta=2.0)
        data = mx.nd.array([-1.0, 0.5], dtype="float64")
        values = mx.sym.Group([y, y.gradient("x")]).eval(x=data)
    finally:
        for held, old in zip((REGISTRY, CANONICAL), known, strict=True):
            held.clear()
            held.update(old)
        vars(mx.sym).pop("softplus", None)
        registry._cached.cache_clear()
    z = np.array([-1.0, 0.5])
    np.testing.assert_allclose(values[0].asnumpy(), np.log1p(np.exp(2 * z)) / 2)
    np.testing.assert_allclose(values[1].asnumpy(), 1 / (1 + np.exp(-2 * z)))
    assert "reference=lambda x: np.log1p(np.exp(2 * x)) / 2" in sample


def test_the_readme_names_only_what_there_is() -> None:
    text = README.read_text(encoding="utf-8")
    for name in re.findall(r"`tests/(\w+\.py)`", text):
        assert (Path(__file__).parent / name).exists()
    missing = text.partition("## Not carried")[2]
    assert not [name for name in re.findall(r"\b_?[a-zA-Z]+_\w+", missing) if name in REGISTRY]


# ----- manual pages


MANUAL = [
    "Convolution",
    "BatchNorm",
    "Reshape",
    "RNN",
    "SoftmaxOutput",
    "Concat",
    "linalg.gemm2",
    "split",
]


@pytest.mark.parametrize("name", MANUAL)
def test_help_reads_like_a_manual_page(name: str) -> None:
    function = operator.attrgetter(name)(mx.sym)
    text = pydoc.plain(pydoc.render_doc(function))
    parts = [line.strip() for line in text.splitlines()]
    wanted = ["Inputs", "Parameters", "Of every symbol", "Outputs"]
    assert [part for part in parts if part in wanted] == wanted
    assert f"function {function.__name__} in module raysym.sym" in parts[0]
    assert max(map(len, text.splitlines()[3:])) <= 140


def test_help_of_convolution() -> None:
    text = pydoc.plain(pydoc.render_doc(mx.sym.Convolution))
    for words in (
        "num_filter : an int >= 1, required\n        Number of filters, the output's channels.",
        "layout : one of 'NCW', 'NCHW', 'NCDHW', 'NHWC', 'NDHWC' or None, default None",
        "An input that is left out becomes a variable: name_weight.",
        "Takes floating numbers only.",
    ):
        assert words in text
