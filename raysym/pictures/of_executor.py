"""An executor's plan as a picture: operators as ellipses, the arrays they read and make as squares.

What a plan stores in a resident array is drawn as that array, not as a copy of it. Each worker has
a backdrop of its own when there are several.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from raysym.pictures.captions import GLYPHS, parameter_lines
from raysym.pictures.diagram import Arrow, Diagram, Mark
from raysym.pictures.svg import svg
from raysym.planning.plan import Plan, Run

__all__ = ["diagram_of_plan", "draw_executor"]


def draw_executor(plan: Plan, title: str = "", values: Mapping[str, str] | None = None) -> str:
    """The SVG document of `diagram_of_plan`."""
    return svg(diagram_of_plan(plan, title, values))


def diagram_of_plan(
    plan: Plan, title: str = "", values: Mapping[str, str] | None = None
) -> Diagram:
    """Everything that the plan's phases read, run and write.

    Arrays: arguments orange, auxiliary states dark green, internal grey, outputs red, gradients
    green, head gradients blue circles. `values` are words for the content of resident entries.
    """
    sketch = _Sketch(plan, values or {})
    sketch.fill()
    return Diagram(tuple(sketch.marks.values()), tuple(sketch.arrows), title)


class _Step(NamedTuple):
    """A run with the worker and phase it belongs to."""

    run: Run
    worker: str
    phase: str


@dataclass
class _Sketch:
    plan: Plan
    values: Mapping[str, str]
    marks: dict[str, Mark] = field(default_factory=dict)
    arrows: list[Arrow] = field(default_factory=list)

    def fill(self) -> None:
        steps = list(_steps(self.plan))
        stores = [step for step in steps if self._is_store(step.run)]
        work = [step for step in steps if not self._is_store(step.run)]
        self.aux = {arg for step in work for arg in _aux_args(step.run)}
        self.read = {arg for step in steps for arg in step.run.args}
        self.written = {step.run.outs[0] for step in stores}
        self.drawn_as = self._merged(work, stores)
        for step in work:
            self._draw_run(step)
        for step in stores:
            self._draw_store(step)

    def _is_store(self, run: Run) -> bool:
        return run.op.name == "_copy" and run.outs[0] in self.plan.homes

    def _merged(self, work: list[_Step], stores: list[_Step]) -> dict[str, str]:
        """Values stored once, and where they are made: each is drawn as what it is stored in."""
        maker = {out: step.worker for step in work for out in step.run.outs}
        targets: dict[str, list[_Step]] = {}
        for step in stores:
            targets.setdefault(step.run.args[0], []).append(step)
        return {
            made: at[0].run.outs[0]
            for made, at in targets.items()
            if len(at) == 1 and maker.get(made) == at[0].worker
        }

    # ----- marks and arrows

    def _draw_run(self, step: _Step) -> None:
        op, outs = step.run.op, [out for out in step.run.outs if out != "_"]
        name = f"run {outs[0]}"
        kind = "backward_op" if "backward" in step.phase else "op"
        label = GLYPHS.get(op.name, op.name.strip("_"))
        group = self._group(step.worker)
        words = "\n".join(parameter_lines(op))
        self.marks[name] = Mark(name, label, words, kind=kind, group=group)
        for arg in step.run.args:
            self.arrows.append(Arrow(self._source(arg), name))
        for out in outs:
            if out in self.read:
                self.arrows.append(Arrow(name, self._made(out, step.worker)))

    def _draw_store(self, step: _Step) -> None:
        home, made = step.run.outs[0], step.run.args[0]
        if made not in self.drawn_as:
            target = self._stored(home, "", step.worker)
            self.arrows.append(Arrow(self._source(made), target))

    def _source(self, entry: str) -> str:
        """The mark that an operator reads: a resident array, or what another operator makes."""
        if entry in self.plan.homes:
            if entry not in self.marks:
                at = self._group(self.plan.homes[entry])
                kind, label = self._look(entry)
                # A value that a phase replaces is shown where it is new, not where it was read.
                is_old = entry in self.written
                words = self._type(entry) if is_old else self._words(entry)
                self.marks[entry] = Mark(entry, label, words, kind=kind, group=at)
            return entry
        return self._target(entry)

    def _made(self, entry: str, worker: str) -> str:
        if entry in self.drawn_as:
            return self._stored(self.drawn_as[entry], entry, worker)
        words, group = self._words(entry), self._group(worker)
        self.marks[entry] = Mark(entry, entry, words, kind="internal_array", group=group)
        return entry

    def _stored(self, home: str, made: str, worker: str) -> str:
        """The mark of a resident array that is written; made new where its old value is read."""
        target = self._target(made) if made else self._written(home)
        kind, label = self._look(home)
        words = self._words(home)
        if home.startswith("output:"):
            words = f"{label}\n{words}" if made else words
            label = made or label
        elif target != home:
            words = f"new value\n{words}"
        self.marks[target] = Mark(target, label, words, kind=kind, group=self._group(worker))
        return target

    def _target(self, entry: str) -> str:
        """The id of the mark that stands for a value that a run makes."""
        return self._written(self.drawn_as[entry]) if entry in self.drawn_as else entry

    def _written(self, home: str) -> str:
        return f"{home}, new" if home in self.read else home

    def _look(self, home: str) -> tuple[str, str]:
        """Kind and label of a resident array."""
        prefix, _, rest = home.partition(":")
        match prefix:
            case "head_grad":
                return "head_grad", "head grad" if rest == "0" else f"head grad {rest}"
            case "grad" if rest:
                return "grad_array", f"grad {rest}"
            case "output" if rest:
                return "out_array", f"output {rest}"
        return ("aux_array" if home in self.aux else "arg_array"), home

    def _words(self, entry: str) -> str:
        kind = self._type(entry)
        return f"{kind}\n= {self.values[entry]}" if entry in self.values else kind

    def _type(self, entry: str) -> str:
        return str(self.plan.types.get(entry, ""))

    def _group(self, worker: str) -> str:
        return worker if len(self.plan.workers) > 1 else ""


def _steps(plan: Plan) -> Iterator[_Step]:
    for phase in plan.phases:
        for worker, programs in plan.programs.items():
            for instruction in programs.get(phase, ()):
                if type(instruction) is Run:
                    yield _Step(instruction, worker, phase)


def _aux_args(run: Run) -> list[str]:
    slots = zip(run.op.input_names(), run.args, strict=False)
    return [arg for slot, arg in slots if slot in run.op.aux]
