"""What fusion has put together: a leader, elementwise steps, and views of what these make."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

from raysym.planning.plan import Run


class Members(NamedTuple):
    """Runs by their position in the program; steps are under the names that they are kept by.

    ``views``: by name, what each is a view of.
    """

    runs: Mapping[int, Run]
    leader: Run | None
    steps: tuple[Run, ...]
    views: Mapping[str, str]

    @property
    def is_ended(self) -> bool:
        """True when the leader reads what steps before it make."""
        return bool(self.steps) and self.leader is self.runs[max(self.runs)]

    def source(self, name: str) -> str:
        """What a name is a view of in the end, itself if of nothing here."""
        return source_of(name, self.views)


def source_of(name: str, views: Mapping[str, str]) -> str:
    """What a name is a view of in the end, by what each view is a view of."""
    while name in views:
        name = views[name]
    return name


def members_of(
    runs: Mapping[int, Run],
    direct: Mapping[str, str],
    is_view: Callable[[Run], bool],
    is_step: Callable[[Run], bool],
) -> Members:
    """A group's runs by what they are; `direct`: under which names values are kept."""
    views = {run.outs[0]: run.args[0] for run in runs.values() if is_view(run)}
    others = [run for run in runs.values() if run.outs[0] not in views]
    leader = next((run for run in others if not is_step(run)), None)
    steps = [
        replace(run, outs=tuple(direct.get(out, out) for out in run.outs))
        for run in others
        if run is not leader
    ]
    return Members(runs, leader, tuple(steps), views)


def parted(group: Members) -> list[dict[int, Run]]:
    """The runs of a group in order, each view by itself."""
    ends = [i for i, run in group.runs.items() if run.outs[0] in group.views]
    cuts = sorted({-1, *ends, *(i - 1 for i in ends), max(group.runs)})
    parts = [{i: run for i, run in group.runs.items() if a < i <= b} for a, b in pairwise(cuts)]
    return [part for part in parts if part]


def before_end(group: Members) -> list[dict[int, Run]]:
    """The runs of a group that a leader ends, apart from that."""
    end = max(group.runs)
    return [{i: run for i, run in group.runs.items() if i < end}, {end: group.runs[end]}]


def label_of(runs: Iterable[Run]) -> str:
    """The ops of a group as text."""
    return "+".join(dict.fromkeys(run.op.name for run in runs))
