"""Automatic names and attribute scopes: NameManager, Prefix, AttrScope (thread-local stacks)."""

from __future__ import annotations

import threading
from typing import Any, ClassVar, Self

GROUP = "__ctx_group__"  # the attribute that says where a node is to run
# Short spellings that users write and that are stored as __key__.
HIDDEN_KEYS = ("ctx_group", "lr_mult", "wd_mult", "force_mirroring", "mirror_stage")


class _Stacks(threading.local):
    def __init__(self) -> None:
        self.names: list[NameManager] = [NameManager()]
        self.attrs: list[AttrScope] = [AttrScope()]


class NameManager:
    """Gives unnamed operators names made of a hint and a counter; a ``with`` block restarts it."""

    def __init__(self) -> None:
        self._counter: dict[str, int] = {}

    def get(self, name: str | None, hint: str) -> str:
        """`name` if given, else ``hint`` followed by the next number."""
        return name or f"{hint}{self.count(hint)}"

    def count(self, hint: str) -> int:
        """How often `hint` was asked for before."""
        count = self._counter.get(hint, 0)
        self._counter[hint] = count + 1
        return count

    def __enter__(self) -> Self:
        _stacks.names.append(self)
        return self

    def __exit__(self, *exc: Any) -> None:
        _stacks.names.pop()

    class _Current:
        def __get__(self, instance: object, owner: type) -> NameManager:
            return _stacks.names[-1]

    current: ClassVar[Any] = _Current()


class Prefix(NameManager):
    """A NameManager that puts a prefix before automatic and explicit operator names."""

    def __init__(self, prefix: str) -> None:
        super().__init__()
        self._prefix = prefix

    def get(self, name: str | None, hint: str) -> str:
        """The name that `NameManager` gives, behind the prefix."""
        return self._prefix + super().get(name, hint)


class AttrScope:
    """Attributes for all symbols made inside the ``with`` block; inner scopes win.

    ``with AttrScope(ctx_group="stage1"): ...`` Values must be strings (ValueError).
    """

    def __init__(self, **attrs: str) -> None:
        for key, value in attrs.items():
            if not isinstance(value, str):
                raise ValueError(
                    f"AttrScope: attributes need to be string: got {key}={value!r}, expected a str"
                )
        self._attrs = attrs

    def get(self, attr: dict[str, str] | None) -> dict[str, str]:
        """The scope's attributes overlaid with `attr`."""
        return {**self._attrs, **(attr or {})}

    def __enter__(self) -> Self:
        # A scope of its own is entered, so that one AttrScope may serve in several places.
        _stacks.attrs.append(AttrScope(**_stacks.attrs[-1].get(self._attrs)))
        return self

    def __exit__(self, *exc: Any) -> None:
        _stacks.attrs.pop()

    class _Current:
        def __get__(self, instance: object, owner: type) -> AttrScope:
            return _stacks.attrs[-1]

    current: ClassVar[Any] = _Current()


_stacks = _Stacks()
