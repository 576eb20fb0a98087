"""The report: what the demo says in a terminal, section by section."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich import box
from rich.console import Console
from rich.panel import Panel
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

import raysym as mx
from raysym.demo.digits import Array, Digits
from raysym.demo.network import INPUTS
from raysym.demo.training import Epoch

_ACTIVITIES = {"compute": "green", "communicate": "magenta", "wait": "yellow"}
_BAR = 24  # characters


class Report:
    """Writes to one console; sections number themselves."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._section = 0

    def _open(self, title: str, note: str = "") -> None:
        self._section += 1
        heading = Text.assemble((f"{self._section} ", "cyan"), (title, "bold"))
        if note:
            heading.append(f"  {note}", style="dim")
        self.console.print()
        self.console.print(Rule(heading, align="left", style="cyan", characters="─"))

    def start(self, words: str) -> None:
        """The title."""
        body = Text.assemble(("raysym demo", "bold cyan"), f"\n{words}")
        self.console.print(Panel(body, box=box.ROUNDED, border_style="cyan", padding=(0, 2)))

    def data(self, digits: Digits) -> None:
        """How many images there are, and a few of them."""
        train, test = len(digits.train_images), len(digits.test_images)
        self._open("Data", "scikit-learn's handwritten digits, 8 x 8 pixels, nothing downloaded")
        self.console.print(f"{train:,} images to learn from, {test} held out for testing")
        self.console.print(_drawn(digits), highlight=False)

    def network(self, symbol: mx.Symbol, executor: mx.Executor, places: Mapping[str, str]) -> None:
        """One line for each operator: what it makes, with which parameters, and where."""
        table = Table(box=box.SIMPLE_HEAD, header_style="dim")
        for title in ("node", "operator", "output", "parameters", "worker"):
            table.add_column(title, justify="right" if title == "parameters" else "left")
        sizes = {n: a.size for n, a in executor.arg_dict.items() if n not in INPUTS}
        for node in symbol.graph.nodes:
            if not node.is_variable:
                size = sum(sizes.get(entry.node.name, 0) for entry in node.inputs)
                worker = Text(places[node.name], style=_colour(places[node.name]))
                made = str(executor.plan.types.get(node.name, ""))
                table.add_row(node.name, node.op.name, made, f"{size:,}" if size else "", worker)
        self._open("Network", f"composed with the Symbol API, {sum(sizes.values()):,} parameters")
        self.console.print(table)

    def plan(self, lines: Iterable[str], n_lines: int) -> None:
        """The plan, coloured by kind of instruction."""
        self._open("Plan", f"what each worker does in a step ({n_lines} lines in plan.txt)")
        for line in lines:
            self.console.print(_coloured(line), overflow="ellipsis", no_wrap=True)

    @contextmanager
    def starting(self, words: str) -> Iterator[None]:
        """A spinner; meanwhile other libraries say only what went wrong."""
        logging.disable(logging.WARNING)
        try:
            with self.console.status(words):
                yield
        finally:
            logging.disable(logging.NOTSET)

    def training(self, where: str) -> None:
        """The heading of the training section."""
        self._open("Training", where)

    def progress(self) -> Progress:
        """A progress bar that counts batches."""
        return Progress(
            SpinnerColumn(style="cyan"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=_BAR, complete_style="cyan", finished_style="cyan"),
            MofNCompleteColumn(),
            TextColumn("batches"),
            TimeElapsedColumn(),
            console=self.console,
        )

    def epoch(self, epoch: Epoch, seconds: float) -> None:
        """One line for each epoch."""
        line = Text.assemble(
            f"epoch {epoch.number:2d}  loss {epoch.loss:6.4f}  test accuracy ",
            (f"{epoch.test_accuracy:7.2%}  ", "bold"),
            _bar({"cyan": epoch.test_accuracy}),
            (f" {seconds:5.1f} s", "dim"),
        )
        self.console.print(line)

    def times(self, timings: Mapping[str, Mapping[str, float]], total_s: float) -> None:
        """Where the time of each worker went."""
        self._open("Time", f"{total_s:.1f} s of training; the rest is the driver's and Ray's")
        table = Table(box=box.SIMPLE_HEAD, header_style="dim")
        table.add_column("worker")
        for activity, colour in _ACTIVITIES.items():
            table.add_column(Text(_PARTICIPLE[activity], style=colour), justify="right")
        table.add_column("")
        for worker, seconds in timings.items():
            shares = {c: seconds[a] / total_s for a, c in _ACTIVITIES.items()}
            cells = [f"{seconds[activity]:.2f} s" for activity in _ACTIVITIES]
            table.add_row(Text(worker, style=_colour(worker)), *cells, _bar(shares))
        self.console.print(table)

    def same_bits(self, n_parameters: int, n_aux: int, different: Sequence[str]) -> None:
        """Whether the in-process run agrees."""
        if different:
            self.console.print(f"[bold red]✗ not the same bits:[/] {', '.join(different)}")
            return
        words = f"{n_parameters} parameters, {n_aux} auxiliary states and all test outputs:"
        self.console.print(f"[bold green]✓ {words} the same bits[/]")

    def check(self) -> None:
        """The heading of the check."""
        self._open("Check", "the same training again, in this process and without Ray")

    def files(self, paths: Sequence[Path]) -> None:
        """What was written."""
        self._open("Files", "the pictures open in any browser")
        for path in paths:
            self.console.print(str(path), style="cyan", highlight=False)

    def result(self, accuracy: float, seconds: float) -> None:
        """The last line."""
        words = f"{accuracy:.2%} of the held-out digits are read correctly, after {seconds:.0f} s"
        self.console.print()
        self.console.print(Panel(words, box=box.ROUNDED, border_style="green", padding=(0, 2)))


_PARTICIPLE = {"compute": "computing", "communicate": "communicating", "wait": "waiting"}
_WORKER_COLOURS = ("bright_blue", "bright_green", "bright_magenta", "bright_yellow")
_INSTRUCTIONS = {"run": "default", "send": "magenta", "recv": "yellow", "home": "dim"}


def _colour(worker: str) -> str:
    return _WORKER_COLOURS[int(worker.partition(":")[2]) % len(_WORKER_COLOURS)]


def _coloured(line: str) -> Text:
    """A line of a plan: workers bold, messages in the colours of their columns below."""
    if not line.startswith(" "):
        return Text(line, style=f"bold {_colour(line)}")
    word = line.split()[0]
    return Text(line, style=_INSTRUCTIONS.get(word, "dim"))


def _bar(shares: Mapping[str, float]) -> Text:
    """Blocks in the colour of each share of 1, then what is left of the full length."""
    bar, used = Text(), 0
    for colour, share in shares.items():
        length = round(share * _BAR)
        bar.append("█" * length, style=colour)
        used += length
    return bar.append("░" * max(0, _BAR - used), style="dim")


_SHADES = " ░▒▓█"


def _drawn(digits: Digits) -> Text:
    """Some test images, two characters to a pixel."""
    chosen = [int((digits.test_labels == digit).argmax()) for digit in (0, 3, 4, 5)]
    rows = [
        "  ".join(_pixels(digits.test_images[index, 0, row]) for index in chosen)
        for row in range(digits.test_images.shape[2])
    ]
    return Text("\n".join(rows), style="cyan", no_wrap=True)


def _pixels(values: Array) -> str:
    return "".join(_SHADES[min(4, int(value * 5))] * 2 for value in values)
