"""SciPy as a second opinion: `special` and `stats`. Without it, tests that compare are skipped."""

from __future__ import annotations

import importlib
from typing import Any

import pytest


class _Missing:
    """Stands for a module, a function or a result that is not there; comparing it skips."""

    def __getattr__(self, name: str) -> _Missing:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> _Missing:
        return self

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        pytest.skip("scipy is not installed")


def _load(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return _Missing()


special = _load("scipy.special")
stats = _load("scipy.stats")
