"""Checkpoints as MXNet writes them: a symbol file and parameters by epoch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import raysym as mx

sym, nd, V = mx.sym, mx.nd, mx.sym.Variable


def net() -> mx.Symbol:
    return sym.BatchNorm(sym.FullyConnected(V("a"), num_hidden=2, name="fc"), name="bn")


def test_a_checkpoint_comes_back(tmp_path: Path) -> None:
    prefix = str(tmp_path / "net")
    args = {"fc_weight": nd.ones((2, 3)), "fc_bias": nd.array([1, 2])}
    aux = {"bn_moving_mean": nd.array([3, 4], dtype="float64")}
    mx.model.save_checkpoint(prefix, 7, net(), args, aux)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "net-0007.params", "net-symbol.json",
    ]  # fmt: skip
    symbol, arg_params, aux_params = mx.model.load_checkpoint(prefix, 7)
    assert symbol.tojson() == net().tojson()
    assert sorted(arg_params) == ["fc_bias", "fc_weight"]
    np.testing.assert_array_equal(arg_params["fc_bias"].asnumpy(), [1, 2])
    assert aux_params["bn_moving_mean"].dtype == np.float64


def test_names_and_epochs_of_files(tmp_path: Path) -> None:
    prefix = str(tmp_path / "net")
    mx.model.save_checkpoint(prefix, 12345, None, {}, {})
    assert [path.name for path in tmp_path.iterdir()] == ["net-12345.params"]
    assert mx.model.load_params(prefix, 12345) == ({}, {})


def test_only_the_first_colon_splits_and_other_prefixes_are_left_out(tmp_path: Path) -> None:
    arrays = {"arg:a:b": nd.ones(1), "other:c": nd.ones(1), "plain": nd.ones(1)}
    nd.save(str(tmp_path / "net-0000.params"), arrays)
    args, aux = mx.model.load_params(str(tmp_path / "net"), 0)
    assert (list(args), aux) == (["a:b"], {})


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(mx.MXNetError, match=r"net-symbol\.json"):
        mx.model.load_checkpoint(str(tmp_path / "net"), 0)
