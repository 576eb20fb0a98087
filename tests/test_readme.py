"""The README: its examples run as they stand and print what they are said to print."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from raysym import tutorial

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
MARK = "---- next block ----"


def test_every_example_says_what_it_prints():
    languages = [language for language, _ in BLOCKS]
    assert languages == ["python", "text"] * 5


@pytest.mark.ray
def test_the_examples_print_what_the_readme_says():
    """All in one process of its own, one after the other: the last one registers an operator."""
    code = f"\nprint({MARK!r})\n".join(body for language, body in BLOCKS if language == "python")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    wanted = [body for language, body in BLOCKS if language == "text"]
    assert done.stdout.split(f"{MARK}\n") == wanted


def test_its_links_lead_somewhere():
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert len(links) >= 3
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_its_picture_is_what_draw_gives():
    """After a change of the drawing: `raysym pictures`, then copy the seventh."""
    kept = (ROOT / "raysym" / "pictures" / "example.svg").read_text(encoding="utf-8")
    assert tutorial.run(tutorial.backward).svg == kept


@pytest.mark.parametrize("name", re.findall(r"`(\w+(?:/|\.py))`", README.split("## How it")[1]))
def test_the_files_that_it_names_exist(name):
    assert any((folder / name).exists() for folder in (ROOT / "raysym", ROOT))
