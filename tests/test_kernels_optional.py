"""Generated kernels are optional: what binding says and does without llvmlite."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
WITHOUT = """
import sys
sys.modules["llvmlite"] = None  # as if it were not installed
import raysym as mx
net = mx.sym.exp(mx.sym.Variable("x"))
try:
    executor = net.simple_bind(mx.cpu(), x=(2,), kernels=sys.argv[1])
    executor.forward(x=mx.nd.zeros((2,)))
    print(executor.outputs[0].asnumpy().tolist(), executor._session.runtime.linked("forward"))
except mx.MXNetError as error:
    print(error)
"""


def printed(kernels: str) -> str:
    """What a process without llvmlite prints that binds a net with these kernels."""
    command = [sys.executable, "-c", WITHOUT, kernels]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_generated_kernels_without_llvmlite_are_refused() -> None:
    words = r"bind: kernels='generated': No module named 'llvmlite.*Install raysym\[kernels\]"
    assert re.fullmatch(words, printed("generated"))


def test_auto_without_llvmlite_takes_reference_kernels() -> None:
    assert printed("auto") == "[1.0, 1.0] {}"
