"""The plan: what every worker does, as flat instructions that print, parse and pickle.

Entries go by name: ``fc1``, ``split0.1``, ``grad:fc1_weight``, ``output:0``. `_` is a value that
nobody uses. A worker runs the instructions of a phase in order; a receive waits for its message.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import TypeAlias

from raysym.errors import PlanError
from raysym.graph import call_text
from raysym.op import Op, make_op
from raysym.params import parse_literal
from raysym.types import DTYPE_CODES, TensorType, short_dtype


@dataclass(frozen=True, slots=True)
class Run:
    """Run an op's kernel on `args` and keep its values under the names `outs`."""

    outs: tuple[str, ...]
    op: Op
    args: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Send:
    """Hand an entry to another worker; never waits."""

    entry: str
    to: str


@dataclass(frozen=True, slots=True)
class Recv:
    """Wait until the entry has arrived from the worker `source`."""

    entry: str
    source: str


@dataclass(frozen=True, slots=True)
class Free:
    """Forget an entry."""

    entry: str


Instruction: TypeAlias = Run | Send | Recv | Free
Program: TypeAlias = tuple[Instruction, ...]


@dataclass(frozen=True)
class Plan:
    """Programs by worker and phase, the home of each resident entry, all types, and how edges go.

    ``links`` is filled in by the runtime, which knows on which nodes the workers are.
    """

    programs: Mapping[str, Mapping[str, Program]]
    homes: Mapping[str, str]
    types: Mapping[str, TensorType] = field(default_factory=dict)
    links: Mapping[tuple[str, str], str] = field(default_factory=dict)  # edge -> transport

    @property
    def workers(self) -> tuple[str, ...]:
        """Names of the workers, in the order of the plan."""
        return tuple(self.programs)

    @property
    def phases(self) -> tuple[str, ...]:
        """Names of the phases, in the order in which they run."""
        return tuple(dict.fromkeys(phase for p in self.programs.values() for phase in p))

    def written(self, phase: str) -> list[str]:
        """Resident entries that the phase writes."""
        return self._written.get(phase, [])

    @cached_property
    def _written(self) -> dict[str, list[str]]:
        """By phase; asked for in every step."""
        found: dict[str, list[str]] = {}
        for phases in self.programs.values():
            for phase, program in phases.items():
                outs = [out for i in program if type(i) is Run for out in i.outs]
                found.setdefault(phase, []).extend(out for out in outs if out in self.homes)
        return found

    def __str__(self) -> str:
        lines: list[str] = []
        for worker, phases in self.programs.items():
            lines.append(worker)
            resident = [name for name, home in self.homes.items() if home == worker]
            lines += [f"  home  {quote(name)}{self._type(name)}" for name in resident]
            own = {to: how for (source, to), how in self.links.items() if source == worker}
            lines += [f"  link  -> {to} {how}" for to, how in own.items()]
            for phase, program in phases.items():
                lines.append(f"  {phase}:")
                lines += [f"    {self.line(instruction)}" for instruction in program]
        return "\n".join(lines)

    def line(self, instruction: Instruction) -> str:
        """One instruction as text."""
        match instruction:
            case Run(outs, op, args):
                left = ", ".join(f"{quote(out)}{self._type(out)}" for out in outs)
                return f"run   {left} = {call_text(op, [quote(a) for a in args])}"
            case Send(entry, to):
                return f"send  {quote(entry)} -> {to}"
            case Recv(entry, source):
                return f"recv  {quote(entry)} <- {source}"
            case Free(entry):
                return f"free  {quote(entry)}"

    def _type(self, name: str) -> str:
        return f" {self.types[name]}" if name in self.types else ""


@lru_cache(maxsize=4096)
def split_entry(entry: str) -> tuple[str, int]:
    """The entry without its micro-batch, and the micro-batch: ``fc1@3`` is ("fc1", 3)."""
    base, mark, number = entry.rpartition("@")
    return (base, int(number)) if mark and number.isdigit() else (entry, 0)


# ----- names in text

_PLAIN = re.compile(r"[A-Za-z0-9_.:#/@-]+$")


def quote(name: str) -> str:
    """A name as it stands in plan text: plain, or as a Python string where it would confuse."""
    return name if _PLAIN.match(name) else repr(name)


def parse(text: str) -> Plan:
    """The plan of a text: ``parse(str(plan)) == plan``; PlanError names the line it cannot read."""
    programs: dict[str, dict[str, Program]] = {}
    homes: dict[str, str] = {}
    types: dict[str, TensorType] = {}
    links: dict[tuple[str, str], str] = {}
    worker, phase = "", ""
    for number, line in enumerate(text.splitlines(), 1):
        body = line.strip()
        try:
            if not line.startswith(" "):
                worker = body
                programs[worker] = {}
            elif body.startswith("home "):
                homes[_typed_name(body[5:], types)] = worker
            elif body.startswith("link "):
                _, _, to, how = body.split()
                links[worker, to] = how
            elif not line.startswith("   "):
                phase = body.rstrip(":")
                programs[worker][phase] = ()
            else:
                programs[worker][phase] += (_parse_instruction(body, types),)
        except (KeyError, ValueError, SyntaxError, AttributeError) as error:
            raise PlanError(f"plan, line {number}: cannot read {body!r} ({error})") from None
    return Plan(programs, homes, types, links)


def _parse_instruction(body: str, types: dict[str, TensorType]) -> Instruction:
    kind, rest = body.split(None, 1)
    if kind == "run":
        left, right = _split_top(rest, " = ")
        outs = tuple(_typed_name(part, types) for part in _split_commas(left))
        return Run(outs, *_parse_call(right))
    if kind == "send":
        entry, to = rest.rsplit(" -> ", 1)
        return Send(_name(entry), to.strip())
    if kind == "recv":
        entry, source = rest.rsplit(" <- ", 1)
        return Recv(_name(entry), source.strip())
    if kind == "free":
        return Free(_name(rest))
    raise ValueError(f"unknown instruction {kind}")


def _parse_call(text: str) -> tuple[Op, tuple[str, ...]]:
    name, inside = text[:-1].split("(", 1)
    args, given = _split_top(inside, "; ") if _has_top(inside, "; ") else (inside, "")
    params = {}
    for part in _split_commas(given):
        key, value = part.split("=", 1)
        params[key.strip()] = parse_literal(value)
    return make_op(name.strip(), params), tuple(_name(part) for part in _split_commas(args))


def _name(text: str) -> str:
    text = text.strip()
    return str(parse_literal(text)) if text[:1] in "'\"" else text


def _typed_name(text: str, types: dict[str, TensorType]) -> str:
    text = text.strip()
    match = re.search(r" ([fiub]\d*)\[([\d,]*)\]$", text)
    if not match:
        return _name(text)
    name = _name(text[: match.start()])
    dims = tuple(int(d) for d in match[2].split(",") if d)
    types[name] = TensorType(dims, _LONG[match[1]])
    return name


_LONG = {short_dtype(dtype): dtype for dtype in DTYPE_CODES}


# ----- splitting outside of quotes and brackets


def _top_positions(text: str) -> list[int]:
    """Positions that lie outside of quotes and brackets."""
    found, depth, quoted, i = [], 0, "", 0
    while i < len(text):
        char = text[i]
        if quoted:
            i += char == "\\"
            quoted = "" if char == quoted else quoted
        elif char in "'\"":
            quoted = char
        else:
            depth += (char in "([{") - (char in ")]}")
            if depth == 0:
                found.append(i)
        i += 1
    return found


def _split_top(text: str, mark: str) -> tuple[str, str]:
    at = next(i for i in _top_positions(text) if text.startswith(mark, i))
    return text[:at], text[at + len(mark) :]


def _has_top(text: str, mark: str) -> bool:
    return any(text.startswith(mark, i) for i in _top_positions(text))


def _split_commas(text: str) -> Sequence[str]:
    cuts = [i for i in _top_positions(text) if text[i] == ","]
    bounds = [-1, *cuts, len(text)]
    parts = [text[a + 1 : b].strip() for a, b in pairwise(bounds)]
    return [part for part in parts if part]
