"""Cases of misuse: the exception class, words of the message, and the line that it must name."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest


class Case(NamedTuple):
    number: int
    act: Callable[..., Any]
    error: type[Exception]
    words: tuple[str, ...]
    made_here: bool = False  # the message gives the line that made the node

    def check(self, *args: Any) -> None:
        with pytest.raises(self.error) as caught:
            self.act(*args)
        assert type(caught.value) is self.error
        text = str(caught.value.args[0])
        for word in self.words:
            assert word in text, text
        lines = text.split("\n")
        assert len(lines) <= 4, text
        assert not self.made_here or self._line(text) in self._own_lines(), text

    def _line(self, text: str) -> int:
        found = re.search(r"made at \S*test_misuse\w*\.py:(\d+)$", text, re.MULTILINE)
        assert found, text
        return int(found[1])

    def _own_lines(self) -> range:
        lines, first = inspect.getsourcelines(self.act)
        return range(first, first + len(lines))


def collector(cases: list[Case]) -> Callable[..., Any]:
    """A decorator that enters a function into `cases`: number, class and words, ``here``."""

    def case(number: int, error: type[Exception], *words: str, here: bool = False) -> Any:
        def enter(act: Callable[..., Any]) -> Callable[..., Any]:
            cases.append(Case(number, act, error, words, here))
            return act

        return enter

    return case


def parameters(cases: list[Case]) -> list[Any]:
    """The cases as parameters of a test."""
    return [pytest.param(c, id=f"{c.number}-{i}") for i, c in enumerate(cases)]
