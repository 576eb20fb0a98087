"""Executor: a bound graph with MXNet's surface; the only place that holds state for users."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from raysym.errors import MXNetError, did_you_mean
from raysym.monitor import make_tap
from raysym.nd.creation import array
from raysym.ndarray import NDArray
from raysym.op import in_words
from raysym.pictures.of_executor import draw_executor
from raysym.planning.plan import Plan
from raysym.random_state import next_draw
from raysym.runtime.protocol import StepKey
from raysym.session import Session

Arrays = Mapping[str, NDArray]


class Executor:
    """Runs a bound symbol forward and backward; made by `Symbol.bind` and `simple_bind`.

    The arrays that were bound are aliased: writing into them is seen by the next run, and results
    appear in `outputs`, `grad_arrays` and `aux_arrays`. Use it as a ``with`` block, or call
    `close`, when it runs on a cluster.
    """

    def __init__(
        self,
        symbol: Any,
        session: Session,
        rebind: Callable[..., Executor],
        args: Sequence[NDArray],
        grads: Sequence[NDArray | None],
        aux: Sequence[NDArray],
        outputs: Sequence[NDArray],
        schedule: Any = None,
    ) -> None:
        self.symbol, self._session, self._rebind = symbol, session, rebind
        self.arg_arrays = list(args)
        self.grad_arrays = list(grads)
        self.aux_arrays = list(aux)
        self.outputs = list(outputs)
        self.schedule = schedule
        self._arg_names = symbol.list_arguments()
        self._aux_names = symbol.list_auxiliary_states()
        self._output_names = symbol.list_outputs()
        self._dicts: dict[str, dict[str, Any]] = {}
        self._key = StepKey(0, 0)
        self._last = ""  # the phase that ran forward last
        self._monitor: tuple[Any, bool] | None = None

    # ----- running

    def forward(self, is_train: bool = False, **kwargs: Any) -> list[NDArray]:
        """Run forward and return `outputs`; keyword arrays are copied into bound arguments first.

        TypeError for an unknown argument; ValueError for something else than an array of exactly
        the bound shape.
        """
        for name, value in kwargs.items():
            self._feed(name, value)
        self._last = "forward" if is_train else "inference"
        self._key = StepKey(*next_draw())
        self._session.run(self._last, self._key)
        return self.outputs

    def _feed(self, name: str, value: Any) -> None:
        if name not in self._arg_names:
            raise TypeError(
                f"forward: Unknown argument {name}: {did_you_mean(name, self._arg_names)} "
                f"The arguments are {in_words(self._arg_names)}"
            )
        if not isinstance(value, (NDArray, np.ndarray)):
            raise ValueError(
                f"forward: {name}: got {type(value).__name__}, only NDArray and numpy arrays"
            )
        target = self.arg_dict[name]
        if tuple(value.shape) != target.shape:
            raise ValueError(
                f"forward: {name}: Shape not match: got {tuple(value.shape)}, "
                f"expected {target.shape}"
            )
        target[:] = value

    def backward(self, out_grads: Any = None, is_train: bool = True) -> None:
        """Fill the gradient arrays from those of the outputs.

        `out_grads`: one NDArray, a list, or a dict by output name; needed for every head that is
        no loss and that a requested gradient depends on (MXNetError). After an inference forward
        the gradient is that of the inference graph.
        """
        heads = self._head_list(out_grads)
        phase = "inference_backward" if self._last == "inference" else "backward"
        if not self._session.bound.grad_req:
            return
        if not self._last:
            self.forward(is_train=True)
        mode = "training" if phase == "backward" else "inference_backward"
        for i in self._session.mode(mode)[0].head_grads:
            self._set_head(i, heads)
        self._session.run(phase, self._key)

    def _head_list(self, out_grads: Any) -> Sequence[NDArray]:
        if out_grads is None:
            return []
        if isinstance(out_grads, NDArray):
            return [out_grads]
        if isinstance(out_grads, dict):
            out_grads = [out_grads[name] for name in self._output_names]
        if not isinstance(out_grads, (list, tuple)):
            raise TypeError(f"backward: out_grads: got {type(out_grads).__name__}, expected arrays")
        for grad in out_grads:
            if not isinstance(grad, NDArray):
                kind = type(grad).__name__
                raise TypeError(f"backward: inputs must be NDArray: got {kind}")
        return out_grads

    def _set_head(self, i: int, heads: Sequence[NDArray]) -> None:
        name = self._output_names[i]
        if i >= len(heads):
            raise MXNetError(f"backward: head gradient required for output {i}, '{name}'")
        target = self._session.arrays[f"head_grad:{i}"]
        if heads[i].shape != target.shape:
            raise MXNetError(
                f"backward: head gradient of '{name}': got {heads[i].shape}, "
                f"expected {target.shape}"
            )
        target[:] = heads[i]

    # ----- arrays by name

    def _by_name(self, what: str, names: Sequence[str], arrays: Sequence[Any]) -> dict[str, Any]:
        if what not in self._dicts:
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"Duplicate names among the {what}s: {in_words(twice)}")
            self._dicts[what] = dict(zip(names, arrays, strict=True))
        return self._dicts[what]

    @property
    def arg_dict(self) -> dict[str, NDArray]:
        """Bound arguments by name."""
        return self._by_name("argument", self._arg_names, self.arg_arrays)

    @property
    def grad_dict(self) -> dict[str, NDArray | None]:
        """Gradient arrays by argument name; None where no gradient is kept."""
        return self._by_name("gradient", self._arg_names, self.grad_arrays)

    @property
    def aux_dict(self) -> dict[str, NDArray]:
        """Auxiliary states by name."""
        return self._by_name("auxiliary state", self._aux_names, self.aux_arrays)

    @property
    def output_dict(self) -> dict[str, NDArray]:
        """Outputs by name."""
        return self._by_name("output", self._output_names, self.outputs)

    def copy_params_from(
        self,
        arg_params: Arrays,
        aux_params: Arrays | None = None,
        allow_extra_params: bool = False,
    ) -> None:
        """Copy values into arguments and auxiliary states by name, casting dtypes.

        ValueError for an unknown name unless `allow_extra_params`; MXNetError for another shape.
        """
        for given, bound in ((arg_params, self.arg_dict), (aux_params or {}, self.aux_dict)):
            for name, value in given.items():
                if name in bound:
                    self._copy_param(name, value, bound[name])
                elif not allow_extra_params:
                    known = did_you_mean(name, bound)
                    raise ValueError(f"copy_params_from: '{name}' is not bound. {known}")

    def _copy_param(self, name: str, value: NDArray, target: NDArray) -> None:
        if value.shape != target.shape:
            raise MXNetError(
                f"copy_params_from: '{name}': got {value.shape}, expected {target.shape}"
            )
        value.astype(target.dtype).copyto(target)

    def reshape(
        self, partial_shaping: bool = False, allow_up_sizing: bool = False, **kwargs: Any
    ) -> Executor:
        """A new executor for other input shapes that shares this one's memory.

        MXNetError when an array that was not named changes its shape (unless `partial_shaping`)
        or grows (unless `allow_up_sizing`; its content is then fresh).
        """
        shapes = {name: value for name, value in kwargs.items() if isinstance(value, tuple)}
        made = self._rebind(self, shapes, partial_shaping, allow_up_sizing)
        if self._monitor is not None:
            made.set_monitor_callback(*self._monitor)
        return made

    # ----- looking inside

    def set_monitor_callback(self, callback: Any, monitor_all: bool = False) -> None:
        """Call ``callback(name, array)`` for every op output as it is computed.

        `name` is bytes, as MXNet's callbacks expect; `array` is an NDArray that holds a copy. With
        `monitor_all` inputs are reported as well. None removes the callback.
        """
        self._monitor = (callback, monitor_all) if callback is not None else None
        if callback is None:
            self._session.watch(None)
            return

        def report(name: str, value: Any) -> None:
            callback(name.encode(), array(value, dtype=value.dtype))

        self._session.watch(make_tap(self._session.bound, report, monitor_all))

    @property
    def plan(self) -> Plan:
        """The plan of the mode that ran last: what each worker does, as text and as data."""
        training = self._last in ("", "forward") and bool(self._session.bound.grad_req)
        return self._session.mode("training" if training else "inference")[1]

    def draw(self, path: str | Path | None = None, title: str = "") -> str:
        """`plan` as an SVG picture, written to `path` if one is given.

        The smallest arrays show their content, as far as it is here and not on a worker.
        """
        arrays = self._session.arrays
        here = {home: array for home, array in arrays.items() if not array.chunk.is_stale}
        values = {home: _in_figures(array) for home, array in here.items() if array.size <= 3}
        picture = draw_executor(self.plan, title, values)
        if path is not None:
            Path(path).write_text(picture, encoding="utf-8")
        return picture

    def debug_str(self) -> str:
        """The plan as text, and the peak bytes of each worker."""
        from_step, plan = self._session.mode("training")
        total = sum(kind.nbytes for kind in from_step.types.values())
        return f"{plan}\nTotal {total / 2**20:.4g} MB allocated"

    def get_optimized_symbol(self) -> Any:
        """The forward graph as it is executed, after simplification."""
        step = self._session.mode("training")[0]
        heads = {s.home: s.entry for s in step.stores if s.home.startswith("output:")}
        entries = [
            heads.get(f"output:{i}", entry)
            for i, entry in enumerate(self._session.bound.graph.outputs)
        ]
        return type(self.symbol)(entries)

    def timings(self) -> dict[str, dict[str, float]]:
        """Seconds that each worker has spent computing, communicating and waiting."""
        return self._session.runtime.timings()

    # ----- ending

    def close(self) -> None:
        """Fetch what the workers hold and let them go; may be called twice."""
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: Any) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Executor of {self.symbol!r}: {len(self.arg_arrays)} arguments>"


def _in_figures(array: NDArray) -> str:
    return ", ".join(f"{value:g}" for value in array.asnumpy().ravel())
