"""The command line: verbs, options, exit statuses, and errors that can be read."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest
from rich.console import Console
from test_pipeline_forecast import FAST, products

import raysym
from raysym import cli, demo, tutorial


def run(*arguments: str) -> tuple[int, str]:
    """Exit status and what was printed, on a plain terminal of 100 columns."""
    console = Console(file=io.StringIO(), width=100, highlight=False)
    status = cli.main(arguments, console)
    return status, console.file.getvalue()  # type: ignore[attr-defined]


def usage_error(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert stop.value.code == 2
    return capsys.readouterr().err


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"raysym {raysym.__version__}\n"


def test_without_a_verb_the_verbs_are_named(capsys):
    error = usage_error(capsys)
    assert "demo" in error
    assert "pictures" in error


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("demo", "--epochs", "0"), "got 0, expected a whole number from 1 on"),
        (("demo", "--epochs", "some"), "got some, expected a whole number from 1 on"),
        (("demo", "--workers", "5"), "invalid choice: 5"),
        (("demo", "--runtime", "cloud"), "invalid choice: 'cloud'"),
        (("train",), "invalid choice: 'train'"),
    ],
)
def test_wrong_usage_is_refused(capsys, arguments, word):
    assert word in usage_error(capsys, *arguments)


def test_pictures_runs_the_tutorial_and_writes_nine_files(tmp_path):
    status, printed = run("pictures", "--out", str(tmp_path / "new"))
    assert status == 0
    assert len(sorted((tmp_path / "new").glob("*.svg"))) == 9
    for program in tutorial.LESSONS:
        assert (program.__doc__ or "") in printed
    assert "E = A * B + D" in printed
    assert "→ grad A = 4.0" in printed


def test_pictures_shows_programs_that_stand_on_their_own():
    """What is shown of a program runs without the lines that are left out."""
    for program in tutorial.LESSONS:
        names = {"mx": raysym, "product_of_three": tutorial.product_of_three}
        exec(cli._body(program), names)
        assert len(names) > 3


def test_an_error_is_a_message_not_a_traceback(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    status, printed = run("pictures", "--out", str(blocked))
    assert status == 1
    assert "FileExistsError" in printed
    assert "--traceback shows where" in printed
    assert "Traceback" not in printed


def test_the_traceback_is_there_for_those_who_ask(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(FileExistsError):
        run("pictures", "--out", str(blocked), "--traceback")


def test_an_interrupt_ends_quietly(monkeypatch):
    def interrupted(options, console):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "run", interrupted)
    status, printed = run("demo")
    assert status == 130
    assert printed.strip() == "interrupted"


def test_options_reach_the_demo(monkeypatch):
    seen = []
    monkeypatch.setattr(demo, "run", lambda options, console: seen.append(options) or 0)
    assert run("demo", "--epochs", "3", "--workers", "4", "--seed", "7")[0] == 0
    [options] = seen
    assert (options.epochs, options.workers, options.seed) == (3, 4, 7)
    assert options.runtime == "ray"


def test_the_module_runs_as_a_program():
    done = subprocess.run(
        [sys.executable, "-m", "raysym.cli", "--version"], capture_output=True, text=True
    )
    assert done.stdout == f"raysym {raysym.__version__}\n"


def test_the_command_takes_a_schedule(tmp_path):
    products(4).save(str(tmp_path / "net.json"))
    FAST.save(tmp_path / "two.toml")
    options = ["--cluster", str(tmp_path / "two.toml"), "--shapes", "data:64,64"]
    options += ["--policy", "contiguous", "--micro-batches", "4"]
    status, text = run("plan", str(tmp_path / "net.json"), *options, "--schedule", "zero_bubble_h1")
    assert status == 0
    assert "(step " in text
    assert "cpu:1 |" in text
    assert "cpu:2" not in text
    status, text = run("plan", str(tmp_path / "net.json"), *options, "--data-parallel", "2")
    assert status == 0
    assert "cpu:2, cpu:3: replicas" in text
    status, text = run("plan", str(tmp_path / "net.json"), *options, "--schedule", "1f2b")
    assert status == 1
    assert "schedule: got '1f2b'" in text
