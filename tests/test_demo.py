"""The demo: its data, its network, its training, and that it says what happened."""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest
from rich.console import Console

from raysym import demo
from raysym.demo import digits, network, training
from raysym.demo.plan_text import shortened
from raysym.demo.training import Trainer
from raysym.errors import MXNetError
from raysym.planning.plan import parse

pytest.importorskip("sklearn", reason="the demo needs scikit-learn")


def say(options: demo.Options) -> tuple[int, str]:
    console = Console(file=io.StringIO(), width=100, highlight=False)
    status = demo.run(options, console)
    return status, console.file.getvalue()  # type: ignore[attr-defined]


def trained(workers: int, runtime: str = "local", epochs: int = 1, seed: int = 0) -> Trainer:
    executor = network.bind(network.compose(), training.BATCH, workers, runtime)
    trainer = Trainer(executor, seed, epochs)
    for _ in trainer.train(digits.load_digits(seed), lambda: None):
        pass
    return trainer


def test_the_test_set_is_kept_apart():
    data = digits.load_digits(0)
    train = {image.tobytes() for image in data.train_images}
    assert not [image for image in data.test_images if image.tobytes() in train]
    assert len(data.train_images) + len(data.test_images) == 1797


def test_all_digits_are_equally_frequent_in_both_sets():
    data = digits.load_digits(0)
    for labels in (data.train_labels, data.test_labels):
        shares = np.bincount(labels.astype(int)) / len(labels)
        assert abs(shares - 0.1).max() < 0.01


def test_images_go_from_0_to_1():
    data = digits.load_digits(0)
    assert data.train_images.dtype == np.float32
    assert (data.train_images.min(), data.train_images.max()) == (0.0, 1.0)
    assert data.train_images.shape[1:] == (1, 8, 8)


def test_a_missing_scikit_learn_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MXNetError, match=r"pip install 'raysym\[demo\]'"):
        digits.load_digits(0)


def test_every_stage_has_a_worker_and_the_last_takes_the_rest():
    def workers(n):
        return [context.worker for context in network.placement(n).values()]

    assert workers(1) == ["cpu:0"] * 4
    assert workers(2) == ["cpu:0", "cpu:1", "cpu:1", "cpu:1"]
    assert workers(4) == ["cpu:0", "cpu:1", "cpu:2", "cpu:3"]


def test_the_network_has_batch_normalisation_with_auxiliary_states():
    symbol = network.compose()
    assert len(symbol.list_auxiliary_states()) == 6
    assert symbol.infer_shape(data=(7, 1, 8, 8))[1] == [(7, 10)]


def test_an_epoch_holds_full_batches_of_different_images():
    chosen = np.concatenate(list(training.batches(123, np.random.default_rng(0))))
    assert len(chosen) == len(set(chosen.tolist())) == 100
    assert training.n_steps(123) == 2


def test_the_last_batch_of_a_prediction_is_cut_to_size():
    trainer = trained(1)
    images = digits.load_digits(0).test_images[: training.BATCH + 3]
    together = trainer.predict(images)
    assert together.shape == (training.BATCH + 3, 10)
    assert (trainer.predict(images[training.BATCH :]) == together[training.BATCH :]).all()


@pytest.mark.parametrize("workers", [2, 3, 4])
def test_any_cut_comes_to_the_same_bits(workers):
    data = digits.load_digits(0)
    whole, cut = (training.state(trained(n), data) for n in (1, workers))
    assert training.differences(whole, cut) == []


def test_differences_name_what_differs():
    first = {"a": np.zeros(2), "b": np.array([0.0])}
    second = {"a": np.zeros(2), "b": np.array([-0.0])}
    assert training.differences(first, second) == ["b"]


def test_a_shortened_plan_keeps_all_messages():
    executor = network.bind(network.compose(), training.BATCH, 2, "local")
    lines = list(shortened(executor.plan))
    full = [f"{line}" for line in str(executor.plan).splitlines()]
    assert [x for x in lines if x.split()[0] in ("send", "recv")] == [
        x for x in full if x.split()[0] in ("send", "recv")
    ]
    assert not [x for x in lines if x.split()[0] == "free"]
    assert len(lines) < len(full) / 2


def test_a_shortened_plan_counts_what_it_leaves_out():
    runs = "".join(f"    run   x{i} f32[2] = relu(a)\n" for i in range(20))
    plan = parse(f"cpu:0\n  home  a f32[2]\n  forward:\n{runs}    free  x0\n")
    assert list(shortened(plan))[-4:] == [
        "    run   x6 f32[2] = relu(a)",
        "    … 11 more",
        "    run   x18 f32[2] = relu(a)",
        "    run   x19 f32[2] = relu(a)",
    ]


def test_the_demo_tells_the_whole_story(tmp_path):
    options = demo.Options(epochs=1, runtime="local", out=tmp_path)
    status, said = say(options)
    assert status == 0
    for heading in ("Data", "Network", "Plan", "Training", "Time", "Check", "Files"):
        assert heading in said
    assert "the same bits" in said
    assert "send  pool1 -> cpu:1" in said
    assert parse((tmp_path / "plan.txt").read_text()).workers == ("cpu:0", "cpu:1")
    assert (tmp_path / "network.svg").read_text().startswith("<svg")
    assert "backward operator" in (tmp_path / "training-step.svg").read_text()


def test_other_bits_make_the_demo_fail(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "differences", lambda first, second: ["fc2_weight"])
    status, said = say(demo.Options(epochs=1, runtime="local", out=tmp_path))
    assert status == 1
    assert "not the same bits: fc2_weight" in said


@pytest.mark.slow
def test_the_usual_training_reads_97_percent_of_the_test_digits():
    usual = demo.Options()
    trainer = trained(1, epochs=usual.epochs, seed=usual.seed)
    data = digits.load_digits(usual.seed)
    hits = trainer.predict(data.test_images).argmax(axis=1) == data.test_labels
    assert hits.mean() >= 0.97


@pytest.mark.ray
@pytest.mark.usefixtures("ray_session")
def test_two_actors_come_to_the_same_bits(tmp_path):
    status, said = say(demo.Options(epochs=1, runtime="ray", out=tmp_path))
    assert status == 0
    assert "11 parameters, 6 auxiliary states and all test outputs: the same bits" in said


def test_importing_the_demo_does_not_import_scikit_learn():
    code = "import raysym.cli, sys; sys.exit('sklearn' in sys.modules or 'ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
