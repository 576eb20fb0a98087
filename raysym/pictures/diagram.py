"""Diagram: marks and arrows as plain data, checked when made. It knows no symbols, no executors."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, get_args

from raysym.errors import did_you_mean
from raysym.pictures.looks import LOOKS

__all__ = ["Arrow", "Diagram", "Mark"]

Direction = Literal["down", "right"]


@dataclass(frozen=True)
class Mark:
    """One thing drawn: `label` large, `sublabel` small below it (its newlines break lines).

    `kind` is a key of `LOOKS`; marks that share a `group` stand together on one labelled backdrop.
    """

    id: str
    label: str
    sublabel: str = ""
    kind: str = field(kw_only=True)
    group: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        if self.kind not in LOOKS:
            hint = _hint(self.kind, LOOKS)
            raise ValueError(
                f"Mark '{self.id}': unknown kind: got {self.kind!r}, "
                f"expected one of {', '.join(LOOKS)}.{hint}"
            )


@dataclass(frozen=True)
class Arrow:
    """An arrow from mark `src` to mark `dst`, both ids; two equal arrows are drawn side by side."""

    src: str
    dst: str
    label: str = ""


@dataclass(frozen=True)
class Diagram:
    """Marks and arrows; arrows point along `ranks`, "down" or "right".

    Raises ValueError for no marks, a repeated id, an arrow end without a mark, or a cycle.
    """

    marks: tuple[Mark, ...]
    arrows: tuple[Arrow, ...] = ()
    title: str = ""
    ranks: Direction = "down"

    def __post_init__(self) -> None:
        object.__setattr__(self, "marks", tuple(self.marks))
        object.__setattr__(self, "arrows", tuple(self.arrows))
        if self.ranks not in get_args(Direction):
            self._refuse(f"unknown ranks: got {self.ranks!r}, expected 'down' or 'right'")
        if not self.marks:
            self._refuse("nothing to draw: got 0 marks, expected at least 1")
        self._check_ids()
        self._check_arrows()
        self._check_acyclic()

    def _refuse(self, what: str) -> None:
        raise ValueError(f"Diagram '{self.title}': {what}")

    def _check_ids(self) -> None:
        seen: set[str] = set()
        for mark in self.marks:
            if mark.id in seen:
                self._refuse(f"repeated mark id: got {mark.id!r} twice, expected every id once")
            seen.add(mark.id)

    def _check_arrows(self) -> None:
        ids = {mark.id for mark in self.marks}
        for arrow in self.arrows:
            for end in (arrow.src, arrow.dst):
                if end not in ids:
                    self._refuse(
                        f"arrow {arrow.src!r} -> {arrow.dst!r} has no mark at one end: "
                        f"got {end!r}, expected the id of a mark.{_hint(end, ids)}"
                    )

    def _check_acyclic(self) -> None:
        cycle = _find_cycle(self.marks, self.arrows)
        if cycle:
            self._refuse(f"arrows run in a circle: got {' -> '.join(cycle)}, expected no cycle")


def _hint(word: str, words: Iterable[str]) -> str:
    return f" {did_you_mean(word, sorted(words))}".rstrip()


def _find_cycle(marks: tuple[Mark, ...], arrows: tuple[Arrow, ...]) -> list[str]:
    """The ids along one cycle, the first repeated at the end; [] when there is none."""
    above: dict[str, list[str]] = {mark.id: [] for mark in marks}
    below: dict[str, list[str]] = {mark.id: [] for mark in marks}
    for arrow in arrows:
        above[arrow.dst].append(arrow.src)
        below[arrow.src].append(arrow.dst)
    waiting = {name: len(sources) for name, sources in above.items()}
    ready = [name for name, count in waiting.items() if count == 0]
    while ready:
        name = ready.pop()
        del waiting[name]
        for target in below[name]:
            waiting[target] -= 1
            if waiting[target] == 0:
                ready.append(target)
    return _walk_back(above, waiting) if waiting else []


def _walk_back(above: dict[str, list[str]], stuck: dict[str, int]) -> list[str]:
    # Every stuck mark has a stuck source, so walking up must meet a mark a second time.
    name = next(iter(stuck))
    path: list[str] = []
    while name not in path:
        path.append(name)
        name = next(source for source in above[name] if source in stuck)
    return [name, *reversed(path[path.index(name) :])]
