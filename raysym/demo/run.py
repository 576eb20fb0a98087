"""The demo from beginning to end."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

import raysym as mx
from raysym.demo import network, training
from raysym.demo.digits import Array, Digits, load_digits
from raysym.demo.plan_text import shortened
from raysym.demo.report import Report
from raysym.demo.training import Epoch, Trainer
from raysym.names import GROUP


@dataclass(frozen=True)
class Options:
    """What the command line can change."""

    epochs: int = 8
    workers: int = 2
    runtime: str = "ray"
    out: Path = Path("raysym-demo")
    seed: int = 0


def run(options: Options, console: Console) -> int:
    """Train, check, report; 0 when the in-process training came to the same bits, else 1.

    Raises MXNetError when scikit-learn is missing or the cluster cannot hold the workers.
    """
    begun = time.perf_counter()
    report = Report(console)
    report.start(_summary(options))
    digits = load_digits(options.seed)
    report.data(digits)
    symbol = network.compose()
    with report.starting("starting the workers"):
        executor = network.bind(symbol, training.BATCH, options.workers, options.runtime)
    with executor:
        report.network(symbol, executor, _places(symbol, options.workers))
        paths = _write(symbol, executor, options.out)
        report.plan(shortened(executor.plan), len(str(executor.plan).splitlines()))
        report.training(f"{options.epochs} epochs of stochastic gradient descent")
        trainer, epochs, seconds = _train(executor, digits, options, report)
        report.times(executor.timings(), seconds)
        found = training.state(trainer, digits)
    report.check()
    different = training.differences(found, _in_process(symbol, digits, options, report))
    n_aux = len(symbol.list_auxiliary_states())
    report.same_bits(len(found) - n_aux - 1, n_aux, different)
    report.files(paths)
    report.result(epochs[-1].test_accuracy, time.perf_counter() - begun)
    return 1 if different else 0


def _summary(options: Options) -> str:
    count = {1: "one", 2: "two", 3: "three", 4: "four"}[options.workers]
    where = "Ray actors" if options.runtime == "ray" else "workers of this process"
    return (
        f"A convolutional network, cut over {count} {where}, learns to read\n"
        "handwritten digits and ends with the same bits as on one device."
    )


def _places(symbol: mx.Symbol, n_workers: int) -> dict[str, str]:
    """The worker of each operator, by name."""
    contexts = network.placement(n_workers)
    nodes = [node for node in symbol.graph.nodes if not node.is_variable]
    return {node.name: contexts[node.attrs[GROUP]].worker for node in nodes}


def _write(symbol: mx.Symbol, executor: mx.Executor, folder: Path) -> list[Path]:
    """The pictures and the plan, as files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name for name in ("network.svg", "training-step.svg", "plan.txt")]
    symbol.draw(paths[0], title="The network and its stages")
    executor.draw(paths[1], title="One training step")
    paths[2].write_text(f"{executor.plan}\n", encoding="utf-8")
    return paths


def _train(
    executor: mx.Executor, digits: Digits, options: Options, report: Report
) -> tuple[Trainer, list[Epoch], float]:
    """The trainer, its epochs, and the seconds that they took."""
    trainer = Trainer(executor, options.seed, options.epochs)
    epochs = []
    begun = last = time.perf_counter()
    with report.progress() as progress:
        total = options.epochs * training.n_steps(len(digits.train_images))
        task = progress.add_task("training", total=total)
        for epoch in trainer.train(digits, lambda: progress.advance(task)):
            now = time.perf_counter()
            report.epoch(epoch, now - last)
            epochs.append(epoch)
            last = now
    return trainer, epochs, last - begun


def _in_process(
    symbol: mx.Symbol, digits: Digits, options: Options, report: Report
) -> dict[str, Array]:
    """The state after the same training on one device, without Ray."""
    with network.bind(symbol, training.BATCH, 1, "local") as executor:
        trainer = Trainer(executor, options.seed, options.epochs)
        with report.progress() as progress:
            total = options.epochs * training.n_steps(len(digits.train_images))
            task = progress.add_task("in-process", total=total)
            for _ in trainer.train(digits, lambda: progress.advance(task)):
                pass
        return training.state(trainer, digits)
