"""Compiling together: claims between processes, helpers, and steps that do not wait for code."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from random_graphs import assert_same_bits, bind_random, random_symbol, train

import raysym as mx
from raysym.kernels import compilers, llvm
from raysym.kernels.cache import DiskCache
from raysym.kernels.claims import Claims, claims_in
from raysym.kernels.link import LinkedPhase
from raysym.kernels.room import MOST_BYTES
from raysym.kernels.specs import Kernels, Spec
from raysym.runtime.linked import Linked
from raysym.runtime.local import LocalRuntime

ROOT = Path(__file__).parent.parent
SPECS = [Spec("transpose", (2, n, 3)) for n in range(2, 8)]

HOLDER = """
import sys
from pathlib import Path
from raysym.kernels.claims import claims_in
claims_in(Path(sys.argv[1])).take(7)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process, which holds claim 7."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=env, stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def test_a_claim_ends_with_its_process(tmp_path: Path, holder: subprocess.Popen[bytes]) -> None:
    claims = claims_in(tmp_path)
    assert not claims.take(7, wait=False)
    assert claims.take(8, wait=False)
    holder.kill()
    assert claims.take(7)  # waits until it is gone
    assert claims.take(7, wait=False)


def test_without_a_place_for_locks_everybody_gets_each_claim(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    claims = Claims(tmp_path / "file" / "folder")
    assert claims.take(7)
    assert claims.take(7, wait=False)
    claims.leave(7)


def test_what_another_process_makes_is_left_to_it(
    tmp_path: Path, holder: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raysym.kernels.cache._number", lambda key: 7)
    cache = DiskCache(tmp_path)
    cache.offer("k", lambda: b"code")
    assert not cache.has("k")
    holder.kill()
    assert cache.get("k", lambda: b"code") == b"code"
    cache.offer("k", lambda: b"other")
    assert cache.get("k", lambda: b"other") == b"code"


def test_a_helper_makes_what_it_is_told(tmp_path: Path) -> None:
    compilers.help_out(io.BytesIO(pickle.dumps((tmp_path, MOST_BYTES, 2, SPECS))))
    kernels = Kernels(DiskCache(tmp_path))
    assert not any(map(kernels.is_missing, SPECS))


def test_a_helper_leaves_when_enough_are_at_it(tmp_path: Path) -> None:
    compilers.help_out(io.BytesIO(pickle.dumps((tmp_path, MOST_BYTES, 0, SPECS))))
    assert all(map(Kernels(DiskCache(tmp_path)).is_missing, SPECS))


@pytest.mark.parametrize("place", ["good", "file/folder"])
def test_helpers_share_the_work(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when nothing can be written, and nobody can help."""
    monkeypatch.setattr(compilers, "LEAST", 2)
    (tmp_path / "file").write_text("")
    kernels = Kernels(DiskCache(tmp_path / place))
    compilers.compile_all(kernels, SPECS * 2, processes=3)
    assert len({kernels.address(spec) for spec in SPECS}) == len(SPECS)
    again = Kernels(DiskCache(tmp_path / place))
    assert any(map(again.is_missing, SPECS)) == (place != "good")


def test_code_is_kept_under_its_ir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another version of the source that writes the same IR compiles nothing anew."""
    Kernels(DiskCache(tmp_path)).address(SPECS[0])
    monkeypatch.setattr("raysym.kernels.specs.source_digest", lambda: "another")
    cache = DiskCache(tmp_path)
    Kernels(cache).address(SPECS[0])
    assert (cache.hits, cache.misses) == (1, 1)  # the code; the index


def test_code_for_another_processor_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache folder may be shared by hosts with different processors."""
    Kernels(DiskCache(tmp_path)).address(SPECS[0])
    monkeypatch.setattr("raysym.kernels.llvm.host", lambda: "another")
    cache = DiskCache(tmp_path)
    assert Kernels(cache).is_missing(SPECS[0])
    Kernels(cache).address(SPECS[0])
    assert cache.misses == 1  # the code; the index is that of the first
    monkeypatch.undo()
    assert not Kernels(cache).is_missing(SPECS[0])


def test_code_of_another_level_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    here = llvm.host()
    monkeypatch.setattr(llvm, "LEVEL", 1)
    assert llvm.host.__wrapped__() != here


def test_in_the_background_first_steps_run_on_reference_kernels() -> None:
    net = random_symbol(np.random.default_rng(2), 8, 2)
    executor = bind_random(net, 2, kernels="generated", compiling="background")
    first = train(executor, 1)
    for name, want in train(bind_random(net, 2), 1).items():
        np.testing.assert_allclose(first[name], want, rtol=2e-3, atol=2e-4, err_msg=name)
    runtime = executor._session.runtime
    assert isinstance(runtime, LocalRuntime)
    for engine in runtime.engines.values():
        assert isinstance(engine, Linked)
        engine.wait()
        executor.forward()
        assert isinstance(engine._now, LinkedPhase)


def test_compiled_in_the_background_gives_the_same_bits() -> None:
    net = random_symbol(np.random.default_rng(2), 8, 2)
    executor = bind_random(net, 2, kernels="generated", compiling="background")
    for mode in ("training", "inference"):
        executor._session.mode(mode)
    assert executor._session.runtime.linked("forward")  # waits for what is being made
    want = train(bind_random(net, 2, kernels="generated"), 2)
    assert_same_bits(train(executor, 2), want)


def test_what_fails_in_the_background_is_raised_by_the_next_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*args: object, **options: object) -> None:
        raise OSError("no compiler")

    monkeypatch.setattr("raysym.runtime.linked.link", broken)
    executor = mx.sym.exp(mx.sym.Variable("x")).simple_bind(
        mx.cpu(), x=(2,), kernels="generated", compiling="background"
    )
    with pytest.raises(OSError, match="no compiler"):
        executor.debug_str()
    with pytest.raises(OSError, match="no compiler"):
        executor.forward()
