"""The command line: ``raysym demo``, ``raysym pictures``, ``raysym plan``."""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.padding import Padding
from rich.panel import Panel
from rich.syntax import Syntax
from rich.text import Text

import raysym
import scheduler
from raysym import demo, tutorial
from raysym.demo.network import STAGES


def main(arguments: Sequence[str] | None = None, console: Console | None = None) -> int:
    """Run a verb; the exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    console = console or Console(highlight=False)
    given = _parser().parse_args(arguments)
    try:
        verb: Callable[[argparse.Namespace, Console], int] = given.verb
        return verb(given, console)
    except KeyboardInterrupt:
        console.print("\n[yellow]interrupted[/]")
        return 130
    except Exception as error:
        if given.traceback:
            raise
        _say(error, console)
        return 1


def _say(error: Exception, console: Console) -> None:
    body = Text(str(error) or "no message")
    title = f"[bold red]{type(error).__name__}[/]"
    hint = "[dim]--traceback shows where[/]"
    console.print(Panel(body, title=title, subtitle=hint, title_align="left", border_style="red"))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="raysym", description=raysym.__doc__)
    parser.add_argument("--version", action="version", version=f"raysym {raysym.__version__}")
    verbs = parser.add_subparsers(title="verbs", required=True, metavar="{demo,pictures,plan}")
    _add_demo(verbs.add_parser("demo", help="train a network on two workers, and check it"))
    _add_pictures(verbs.add_parser("pictures", help="run the tutorial and draw its pictures"))
    _add_plan(verbs.add_parser("plan", help="cut a saved symbol, and say what it would cost"))
    return parser


def _add_plan(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("symbol", help="a symbol file: model-symbol.json")
    parser.add_argument("--cluster", type=Path, required=True, help="a cluster's TOML file")
    parser.add_argument(
        "--shapes",
        type=_shape,
        nargs="+",
        required=True,
        metavar="NAME:N,N,..",
        help="input shapes: data:32,3,224,224",
    )
    parser.add_argument("--policy", default="auto", help="default %(default)s")
    parser.add_argument("--objective", choices=("load", "makespan"), default="load")
    parser.add_argument(
        "--micro-batches",
        type=_positive,
        default=1,
        metavar="N",
        help="parts of the batch, one behind the other (default %(default)s)",
    )
    parser.add_argument(
        "--schedule",
        default="1f1b",
        help="their order: 1f1b, gpipe, interleaved, zero_bubble_h1, zero_bubble_free, search, "
        "or the text of one (default %(default)s)",
    )
    parser.add_argument(
        "--data-parallel",
        type=_positive,
        default=1,
        metavar="N",
        help="replicas, each with its part of the batch (default %(default)s)",
    )
    parser.add_argument("--inference", action="store_true", help="forward only")
    parser.add_argument("--full", action="store_true", help="print every instruction as well")
    _add_common(parser, _plan)


def _shape(text: str) -> tuple[str, tuple[int, ...]]:
    name, _, dims = text.rpartition(":")
    try:
        return name, tuple(int(dim) for dim in dims.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"got {text}, expected NAME:N,N,..") from None


def _plan(given: argparse.Namespace, console: Console) -> int:
    made = raysym.forecast(
        raysym.sym.load(given.symbol),
        dict(given.shapes),
        scheduler.Cluster.load(given.cluster),
        policy=given.policy,
        objective=given.objective,
        is_train=not given.inference,
        micro_batches=given.micro_batches,
        schedule=given.schedule,
        data_parallel=given.data_parallel,
    )
    console.print(Text(str(made)), soft_wrap=True)
    if given.full:
        console.print(Text(f"\n{made.plan}"), soft_wrap=True)
    return 0


def _add_demo(parser: argparse.ArgumentParser) -> None:
    usual = demo.Options()
    parser.add_argument(
        "--epochs", type=_positive, default=usual.epochs, help="default %(default)s"
    )
    parser.add_argument(
        "--workers",
        type=int,
        choices=range(1, len(STAGES) + 1),
        default=usual.workers,
        help="workers that the network is cut over (default %(default)s)",
    )
    parser.add_argument(
        "--runtime",
        choices=("ray", "local"),
        default=usual.runtime,
        help="Ray actors, or all workers in this process (default %(default)s)",
    )
    parser.add_argument(
        "--out", type=Path, default=usual.out, help="folder for the pictures (default %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=usual.seed, help="default %(default)s")
    _add_common(parser, _demo)


def _add_pictures(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", type=Path, default=Path("pictures"), help="folder (default %(default)s)"
    )
    _add_common(parser, _pictures)


def _add_common(
    parser: argparse.ArgumentParser, verb: Callable[[argparse.Namespace, Console], int]
) -> None:
    parser.add_argument("--traceback", action="store_true", help="show where an error comes from")
    parser.set_defaults(verb=verb)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got {text}, expected a whole number from 1 on")
    return int(text)


def _demo(given: argparse.Namespace, console: Console) -> int:
    options = demo.Options(given.epochs, given.workers, given.runtime, given.out, given.seed)
    return demo.run(options, console)


def _pictures(given: argparse.Namespace, console: Console) -> int:
    given.out.mkdir(parents=True, exist_ok=True)
    for number, program in enumerate(tutorial.LESSONS, 1):
        lesson = tutorial.run(program)
        path = given.out / f"{number}-{program.__name__.replace('_', '-')}.svg"
        path.write_text(lesson.svg, encoding="utf-8")
        console.print()
        console.print(Text.assemble((f"{number} ", "cyan"), (program.__doc__ or "", "bold")))
        console.print(_code(program))
        for name, fact in lesson.facts.items():
            console.print(Text.assemble("  → ", (name, "green"), f" = {fact}"))
        console.print(Text(f"  {path}", style="cyan"))
    return 0


def _code(program: Callable[[], tutorial.Lesson]) -> Padding:
    code = Syntax(_body(program), "python", theme="ansi_dark", background_color="default")
    return Padding(code, (0, 0, 0, 2))


def _body(program: Callable[[], tutorial.Lesson]) -> str:
    """The program without the lines that only serve the tutorial."""
    lines = inspect.getsource(program).splitlines()[2:]
    return "\n".join(line[4:] for line in lines if not line.strip().startswith(("facts", "return")))


if __name__ == "__main__":
    sys.exit(main())
