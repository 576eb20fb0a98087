"""The front door: what `import raysym` brings, and what it leaves for later."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import raysym as mx

ROOT = Path(__file__).parent.parent


def test_import_leaves_heavy_libraries_alone() -> None:
    code = "import sys, raysym; print([m for m in sys.argv[1:] if m in sys.modules])"
    heavy = ["ray", "cupy", "pyarrow", "scipy", "sklearn", "rich", "llvmlite"]
    done = subprocess.run(
        [sys.executable, "-c", code, *heavy], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_all_is_sorted_complete_and_there() -> None:
    assert mx.__all__ == sorted(mx.__all__)
    assert all(hasattr(mx, name) for name in mx.__all__)


def test_mxnets_long_names_are_the_same_things() -> None:
    assert mx.symbol is mx.sym
    assert mx.ndarray is mx.nd
    assert mx.attribute.AttrScope is mx.AttrScope
    assert mx.name.NameManager is not None


def test_a_script_can_ask_for_a_gpu_first() -> None:
    ctx = mx.gpu() if mx.context.num_gpus() else mx.cpu()
    assert mx.nd.zeros((2,), ctx=ctx).context == ctx


def test_tests_of_gpus_are_collected_where_little_else_is_installed() -> None:
    """A bare GPU machine has neither Ray nor what the demo and the command line need."""
    code = """
import sys
sys.modules.update(dict.fromkeys(sys.argv[1:]))
import pytest
sys.exit(pytest.main(["--collect-only", "-q", "-m", "gpu", "-p", "no:cacheprovider", "tests"]))
"""
    missing = ["ray", "rich", "scipy", "sklearn", "yaml", "psutil", "threadpoolctl", "jsonschema"]
    done = subprocess.run(
        [sys.executable, "-c", code, *missing], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert "test_arrays_on_a_gpu" in done.stdout
