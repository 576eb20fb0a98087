"""Executor: a bound graph with MXNet's surface; the only place that holds state for users."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from raysym.errors import MXNetError, did_you_mean, in_words, sentence, some
from raysym.graph import Node, node_error, node_text
from raysym.heads import head_list
from raysym.monitor import make_tap
from raysym.nd.creation import array
from raysym.ndarray import NDArray
from raysym.pictures.of_executor import draw_executor
from raysym.planning.footprint import Footprint, in_lines
from raysym.planning.pipeline import STEP
from raysym.planning.plan import Plan
from raysym.planning.update import Optimizer
from raysym.profile import Profile, profile_plan
from raysym.random_state import next_draw
from raysym.runtime.protocol import StepKey
from raysym.session import MODE_OF_PHASE, Session

Arrays = Mapping[str, NDArray]


class Snapshot(NamedTuple):
    """Arguments, auxiliary states and those of the optimizer, by name."""

    args: dict[str, NDArray]
    auxs: dict[str, NDArray]
    states: dict[str, NDArray]


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
        grads: Sequence[NDArray | None] | None,
        aux: Sequence[NDArray],
        outputs: Sequence[NDArray],
        schedule: Any = None,
    ) -> None:
        self.symbol, self._session, self._rebind = symbol, session, rebind
        self.arg_arrays = list(args)
        self.grad_arrays = None if grads is None else list(grads)
        self.aux_arrays = list(aux)
        self.outputs = list(outputs)
        self._homes = tuple(outputs)
        self.schedule = schedule
        self._arg_names = symbol.list_arguments()
        self._aux_names = symbol.list_auxiliary_states()
        self._output_names = symbol.list_outputs()
        self._dicts: dict[str, dict[str, Any]] = {}
        self._key = StepKey(0, 0)
        self._last = ""  # the phase that ran forward last; "step" did all of its own
        self._monitor: tuple[Any, bool] | None = None

    # ----- running

    def forward(self, is_train: bool = False, **kwargs: Any) -> list[NDArray]:
        """Run forward and return `outputs`; keyword arrays are copied into bound arguments first.

        The list is new every time, its arrays share their memory with those of other runs.
        TypeError for an unknown argument; ValueError for something else than an array of exactly
        the bound shape.
        """
        for name, value in kwargs.items():
            self._feed(name, value)
        self._last = "forward" if is_train else "inference"
        self._key = StepKey(*next_draw())
        self._session.run(self._last, self._key)
        self.outputs = [array.detach() for array in self._homes]
        return self.outputs

    def _feed(self, name: str, value: Any) -> None:
        if name not in self._arg_names:
            wanted, fix = f"one of {some(self._arg_names)}", did_you_mean(name, self._arg_names)
            raise TypeError(sentence("forward: Unknown argument", name, wanted, fix))
        if not isinstance(value, (NDArray, np.ndarray)):
            wrong = sentence(
                "forward: only accept NDArray and numpy arrays", type(value).__name__, "an array"
            )
            raise ValueError(node_text(self._variable(name), wrong))
        target = self.arg_dict[name]
        if tuple(value.shape) != target.shape:
            wrong = sentence("forward: Shape not match", tuple(value.shape), target.shape)
            raise ValueError(node_text(self._variable(name), wrong))
        target[:] = value

    def _variable(self, name: str) -> Node:
        return next(n for n in self._session.bound.graph.variables() if n.name == name)

    def backward(self, out_grads: Any = None, is_train: bool = True) -> None:
        """Fill the gradient arrays from those of the outputs.

        `out_grads`: one NDArray, a list, or a dict by output name; needed for every head that is
        no loss and that a requested gradient depends on (MXNetError). After an inference forward
        the gradient is that of the inference graph. MXNetError after `step`, which has run backward
        and may have updated the parameters.
        """
        if self._last == STEP:
            wanted = "a forward that keeps what backward needs: call forward(is_train=True)"
            raise MXNetError(sentence("backward: what ran last", "step", wanted))
        heads = head_list(out_grads, self._output_names)
        phase = "inference_backward" if self._last == "inference" else "backward"
        if not self._session.bound.grad_req:
            return
        if not self._last:
            self.forward(is_train=True)
        for i in self._session.mode(MODE_OF_PHASE[phase])[0].head_grads:
            self._set_head(i, heads)
        self._session.run(phase, self._key)

    def step(self, out_grads: Any = None, **kwargs: Any) -> list[NDArray]:
        """Run forward and backward of one training step together; returns `outputs`.

        One message per worker; with micro-batches, in the order of the schedule. Arguments as for
        `forward` and `backward`.
        """
        self._prepare(out_grads, kwargs)
        self._session.run(STEP, self._key)
        return self.outputs

    def run(self, batches: Iterable[Mapping[str, Any]]) -> Iterator[list[np.ndarray[Any, Any]]]:
        """A training step for each of `batches`; yields the outputs of each, in order.

        Several steps are under way at once: what is written to bound arrays while this runs is seen
        by steps that begin later, and gradients and states are those of the newest step.
        """
        homes = [f"output:{i}" for i in range(len(self.outputs))]
        made = self._session.made(STEP, homes)
        for found in self._session.stream(map(self._begin, batches), made):
            yield [
                found[home] if home in found else output.asnumpy()
                for home, output in zip(homes, self.outputs, strict=True)
            ]

    def _begin(self, batch: Mapping[str, Any]) -> StepKey:
        self._prepare(None, batch)
        return self._key

    def _prepare(self, out_grads: Any, feeds: Mapping[str, Any]) -> None:
        for name, value in feeds.items():
            self._feed(name, value)
        heads = head_list(out_grads, self._output_names)
        for i in self._session.mode(STEP)[0].head_grads:
            self._set_head(i, heads)
        self._last, self._key = STEP, StepKey(*next_draw())

    def _set_head(self, i: int, heads: Sequence[NDArray]) -> None:
        node, name = self._session.bound.graph.outputs[i].node, self._output_names[i]
        target = self._session.arrays[f"head_grad:{i}"]
        if i >= len(heads):
            wrong = f"backward: head gradient required for output {i}, '{name}'"
            raise node_error(node, sentence(wrong, f"{len(heads)} gradients", target.shape))
        if heads[i].shape != target.shape:
            wrong = f"backward: head gradient of '{name}' has a wrong shape"
            raise node_error(node, sentence(wrong, heads[i].shape, target.shape))
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
        """Gradient arrays by argument name, None where no gradient is kept.

        TypeError when nothing was bound for gradients.
        """
        if self.grad_arrays is None:
            raise TypeError("grad_dict: nothing was bound for gradients: bind with args_grad")
        return self._by_name("gradient", self._arg_names, self.grad_arrays)

    @property
    def aux_dict(self) -> dict[str, NDArray]:
        """Auxiliary states by name."""
        return self._by_name("auxiliary state", self._aux_names, self.aux_arrays)

    @property
    def state_dict(self) -> dict[str, NDArray]:
        """The states of the optimizer that `step` runs, by slot and argument: ``mom:fc_weight``.

        Reading fetches from the workers, writing is seen by the next step.
        """
        return self._session.states()

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
                    wanted, fix = f"one of {some(list(bound))}", did_you_mean(name, bound)
                    raise ValueError(sentence("copy_params_from: unknown name", name, wanted, fix))

    def _copy_param(self, name: str, value: NDArray, target: NDArray) -> None:
        if value.shape != target.shape:
            wrong = sentence("copy_params_from: wrong shape", value.shape, target.shape)
            raise node_error(self._variable(name), wrong)
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

    def set_optimizer(self, optimizer: Optimizer | None) -> None:
        """Let `step` update parameters with another op or rate, as ("sgd_update", {"lr": 0.01}).

        States keep their content; None: no updates. Other numbers for the same op, such as the rate
        of this step, are passed on with the next step: kernels take them as data, and nothing is
        planned or compiled anew, unless another value calls for other code, as a bound for
        gradients in place of none does. With another op workers get new programs. PlanError for an
        op that is no update.
        """
        self._session.set_optimizer(optimizer)

    # ----- looking inside

    def set_monitor_callback(self, callback: Any, monitor_all: bool = False) -> None:
        """Call ``callback(name, array)`` for every op output as it is computed.

        `name` is bytes, as MXNet's callbacks expect; `array` is an NDArray that holds a copy. With
        `monitor_all` inputs are reported as well. None removes the callback. Meanwhile reference
        kernels run on all nodes of the graph, whatever `kernels` and `memory` were asked for.
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
        """What each worker does, as text and as data: the plan of the mode that ran last.

        Before anything ran that of training, or of inference if there is nothing to train.
        """
        first = "forward" if self._session.bound.grad_req else "inference"
        return self._session.mode(MODE_OF_PHASE[self._last or first])[1]

    @property
    def step_plan(self) -> Plan:
        """What each worker does in `step`: all micro-batches in the order of the schedule."""
        return self._session.mode(STEP)[1]

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
        """The plan of the mode that ran last, how workers linked it, and planned bytes.

        The bytes are those of every mode that is loaded, and of all of them together.
        """
        linkages = self._session.runtime.linked(self.plan.phases[0])
        lines = [str(self.plan), *(f"{worker}: {it.text}" for worker, it in linkages.items())]
        works = self._session.works()
        return "\n".join([*lines, *in_lines(works, self._session.footprints(works))])

    def memory(self, mode: str | None = None) -> dict[str, Footprint]:
        """Planned peak bytes of each worker: resident arrays by kind, and ``work`` beside them.

        ``work`` is what MXNet's `debug_str` calls allocated: activations, gradients on the way and
        workspace. Of `mode`, such as "training", "inference" or "step", or of all that have been
        loaded: each has an arena of its own. Interpreted ones share: they take so much at most.
        """
        return self._session.footprints(self._session.works(mode))

    def get_optimized_symbol(self) -> Any:
        """The forward graph as it is executed, after simplification."""
        step = self._session.mode("training")[0]
        heads = {s.home: s.entry for s in step.stores if s.home.startswith("output:")}
        entries = [
            heads.get(f"output:{i}", entry)
            for i, entry in enumerate(self._session.bound.graph.outputs)
        ]
        return type(self.symbol)(entries)

    def profile(self, steps: int = 5, at_once: int = 1) -> Profile:
        """Measured seconds of every kernel, from steps in this process on copies: `profile_plan`.

        ``cluster.measured(executor.profile().nodes)`` places the next bind by them.
        """
        plan = self._session.mode("training")[1]
        return profile_plan(plan, self._session.contents(plan), steps, at_once)

    def timings(self) -> dict[str, dict[str, float]]:
        """Seconds that each worker has spent computing, communicating and waiting."""
        return self._session.runtime.timings()

    def health(self) -> dict[str, str]:
        """What each worker does right now: it answers while steps are under way, on any thread.

        As ``waits for fc1 from cpu:0 in step 3, forward instruction 2: ...``; nothing in-process.
        StallError when a worker does not answer within seconds, WorkerError when one is dead.
        """
        return self._session.runtime.health()

    def snapshot(self) -> Snapshot:
        """Copies of arguments, auxiliary states and the optimizer's, between the same two steps.

        After all steps that have begun, also in the middle of `run`; for the thread that runs them.
        Workers lay the copies aside and go on; they travel as Ray objects, not over the channels.
        """
        names = self._arg_names, self._aux_names
        found = self._session.snapshot([*names[0], *names[1]])
        args, auxs = ({name: found.pop(name) for name in own} for own in names)
        return Snapshot(args, auxs, {name.removeprefix("state:"): a for name, a in found.items()})

    def restore(self, snapshot: Snapshot) -> None:
        """Go on from a snapshot, here or in another executor of the same graph and optimizer.

        Random numbers go on as they would. ValueError for states of another optimizer.
        """
        states = self._session.states_like(snapshot.states)
        self.copy_params_from(snapshot.args, snapshot.auxs)
        for name, value in snapshot.states.items():
            states[name][:] = value

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
