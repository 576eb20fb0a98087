"""Checkpoints as MXNet writes them: ``prefix-symbol.json`` and ``prefix-0000.params``."""

from __future__ import annotations

from collections.abc import Mapping

from raysym import nd, sym
from raysym.ndarray import NDArray
from raysym.symbol import Symbol

Params = dict[str, NDArray]


def save_checkpoint(
    prefix: str,
    epoch: int,
    symbol: Symbol | None,
    arg_params: Mapping[str, NDArray],
    aux_params: Mapping[str, NDArray],
    remove_amp_cast: bool = True,
) -> None:
    """Write the symbol (if given) and the parameters of an epoch."""
    if symbol is not None:
        symbol.save(f"{prefix}-symbol.json", remove_amp_cast=remove_amp_cast)
    named = {f"arg:{name}": array for name, array in arg_params.items()}
    named |= {f"aux:{name}": array for name, array in aux_params.items()}
    nd.save(f"{prefix}-{epoch:04d}.params", named)


def load_params(prefix: str, epoch: int) -> tuple[Params, Params]:
    """Arguments and auxiliary states of an epoch; names with other prefixes are left out."""
    saved = nd.load(f"{prefix}-{epoch:04d}.params")
    parts: dict[str, Params] = {"arg": {}, "aux": {}}
    for key, array in saved.items() if isinstance(saved, dict) else ():
        kind, _, name = key.partition(":")
        if kind in parts:
            parts[kind][name] = array
    return parts["arg"], parts["aux"]


def load_checkpoint(prefix: str, epoch: int) -> tuple[Symbol, Params, Params]:
    """Symbol, arguments and auxiliary states; MXNetError when a file cannot be read."""
    return sym.load(f"{prefix}-symbol.json"), *load_params(prefix, epoch)
