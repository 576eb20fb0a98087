"""Samples of ops that reshape, slice, join and rearrange."""

import numpy as np
from samples import Sample


def shape_code(shape, before, after, **more):
    return Sample(
        {"shape": shape, **more}, [before], reference=lambda x: x.reshape(after), smooth=True
    )


def zeros_with(shape, place):
    def reference(grad, *_):
        made = np.zeros(shape)
        made[place] = grad
        return made

    return reference


def sliced(params, shape, place):
    return Sample(params, [shape], reference=lambda x: x[place], smooth=True)


def backward_sliced(params, grad, shape, place):
    """The gradient of a cut, with its shape from an input and from the parameter."""
    reference = zeros_with(shape, place)
    return [
        Sample(params, [grad, shape], reference=reference, wrt=(0,), smooth=True),
        Sample({**params, "shape": shape}, [grad], reference=reference, smooth=True),
    ]


def padded(mode, width, shape, **more):
    pairs = list(zip(width[::2], width[1::2], strict=True))
    return Sample(
        {"mode": mode, "pad_width": width, **({"constant_value": 2.5} if more else {})},
        [shape],
        reference=lambda x: np.pad(x, pairs, mode=mode, **more),
        smooth=True,
    )


def unfolded(x, b):
    n, c, h, w = x.shape
    made = np.zeros((n, c // b**2, h * b, w * b))
    for i in range(b):
        for j in range(b):
            first = (i * b + j) * (c // b**2)
            made[:, :, i::b, j::b] = x[:, first : first + c // b**2]
    return made


def windows(x):
    """Columns of 2 x 3 windows with pad (1, 0), stride (2, 1) and dilation (1, 2)."""
    x = np.pad(x, [(0, 0), (0, 0), (1, 1), (0, 0)])
    rows = range(0, x.shape[2] - 1, 2)
    columns = range(x.shape[3] - 4)
    made = [x[:, :, i : i + 2, j : j + 5 : 2].reshape(len(x), -1) for i in rows for j in columns]
    return np.stack(made, axis=2)


REVERSED = slice(None, None, -1)
IMAGE = (0, 0, 0, 0, 1, 2, 2, 0)
VOLUME = (0, 0, 0, 0, 1, 0, 2, 1, 0, 2)
WINDOW = {"kernel": (2, 3), "pad": (1, 0), "stride": (2, 1), "dilate": (1, 2)}

SAMPLES = {
    "Reshape": [
        shape_code((4, 6), (2, 3, 4), (4, 6)),
        shape_code((0, -1), (2, 3, 4), (2, 12)),
        shape_code((-3, 4), (2, 3, 4), (6, 4)),
        shape_code((0, -4, 1, -1, -2), (2, 3, 4), (2, 1, 3, 4)),
        shape_code((-4, -1, 2, -2), (6, 3, 5), (3, 2, 3, 5)),
        shape_code((-4, 1, 2, -2, -1), (2, 3), (1, 2, 3, 1)),
        shape_code((-1, 0), (8, 3, 5), (24, 5), reverse=True),
        shape_code((-3, 0), (8, 3, 5), (24, 5), reverse=True),
        shape_code((0, 3, -1, -4), (2, 6), (2, 3, 2), reverse=True),
        Sample(
            {"target_shape": (0, 6)}, [(2, 3, 4)], reference=lambda x: x.reshape(4, 6), smooth=True
        ),
        Sample(
            {"target_shape": (9, 0), "keep_highest": True},
            [(2, 3, 4)],
            reference=lambda x: x.reshape(2, 12),
        ),
    ],
    "reshape_like": [
        Sample(
            {},
            [(2, 6), (4, 3)],
            reference=lambda x, _: x.reshape(4, 3),
            wrt=(0,),
            smooth=True,
        ),
        Sample(
            {"lhs_begin": -1, "rhs_begin": 1},
            [(2, 5, 12), (7, 3, 4)],
            reference=lambda x, _: x.reshape(2, 5, 3, 4),
            wrt=(0,),
            smooth=True,
        ),
        Sample(
            {"lhs_begin": 0, "lhs_end": 2, "rhs_begin": -2, "rhs_end": -1},
            [(2, 3, 5), (7, 6, 4)],
            reference=lambda x, _: x.reshape(6, 5),
            wrt=(0,),
        ),
    ],
    "Flatten": [
        Sample({}, [(2, 3, 4)], reference=lambda x: x.reshape(2, 12), smooth=True),
        Sample({}, [(5,)], reference=lambda x: x.reshape(5, 1)),
    ],
    "expand_dims": [
        Sample({"axis": 1}, [(2, 3)], reference=lambda x: x[:, None], smooth=True),
        Sample({"axis": -1}, [(2, 3)], reference=lambda x: x[..., None]),
    ],
    "squeeze": [
        Sample({}, [(1, 2, 1, 3)], reference=lambda x: x[0, :, 0], smooth=True),
        Sample({"axis": (0, -2)}, [(1, 2, 1, 3)], reference=lambda x: x[0, :, 0]),
        Sample({"axis": 2}, [(1, 2, 1, 3)], reference=lambda x: x[:, :, 0]),
        Sample({}, [(1, 1)], reference=lambda x: x[0]),
    ],
    "transpose": [
        Sample({}, [(2, 3, 4)], reference=np.transpose, smooth=True),
        Sample(
            {"axes": (1, 2, 0)},
            [(2, 3, 4)],
            reference=lambda x: np.transpose(x, (1, 2, 0)),
            smooth=True,
        ),
    ],
    "SwapAxis": [
        Sample({"dim1": 0, "dim2": -1}, [(2, 3, 4)], reference=np.transpose, smooth=True),
        Sample({}, [(2, 3)], reference=lambda x: x),
    ],
    "slice": [
        sliced({"begin": (1,), "end": (3,)}, (4, 5), np.s_[1:3]),
        sliced(
            {"begin": (None, 4), "end": (-1, None), "step": (2, -1)}, (4, 5), np.s_[:-1:2, 4::-1]
        ),
        sliced({"begin": (-20, 1), "end": (20, 4)}, (4, 5, 3), np.s_[:, 1:4]),
    ],
    "_backward_slice": backward_sliced(
        {"begin": (1, 4), "end": (None, None), "step": (2, -3)},
        (2, 2, 3),
        (4, 5, 3),
        np.s_[1::2, 4::-3],
    ),
    "slice_axis": [
        sliced({"axis": 1, "begin": 1, "end": 3}, (2, 4, 3), np.s_[:, 1:3]),
        sliced({"axis": -1, "begin": -3, "end": None}, (2, 4), np.s_[:, -3:]),
        sliced({"axis": 0, "begin": 0, "end": -1}, (4, 3), np.s_[:-1]),
    ],
    "_backward_slice_axis": backward_sliced(
        {"axis": -2, "begin": -3, "end": -1}, (3, 2, 5), (3, 4, 5), np.s_[:, -3:-1]
    ),
    "slice_like": [
        Sample({}, [(4, 5), (2, 3)], reference=lambda x, _: x[:2, :3], wrt=(0,), smooth=True),
        Sample(
            {"axes": (0, -1)},
            [(4, 6, 5), (2, 9, 3)],
            reference=lambda x, _: x[:2, :, :3],
            wrt=(0,),
            smooth=True,
        ),
    ],
    "_backward_slice_like": backward_sliced({}, (2, 3), (4, 5), np.s_[:2, :3]),
    "SliceChannel": [
        Sample({"num_outputs": 3}, [(2, 6)], reference=lambda x: tuple(np.split(x, 3, 1))),
        Sample(
            {"num_outputs": 3, "axis": -2, "squeeze_axis": True},
            [(2, 3, 5)],
            reference=lambda x: (x[:, 0], x[:, 1], x[:, 2]),
            smooth=True,
        ),
        Sample({"num_outputs": 1}, [(2, 3)], reference=lambda x: x, smooth=True),
    ],
    "_split_v2": [
        Sample(
            {"indices": (0, 2, 3), "axis": -1},
            [(4, 7)],
            reference=lambda x: (x[:, :2], x[:, 2:3], x[:, 3:]),
            smooth=True,
        ),
        Sample(
            {"indices": (), "sections": 3, "axis": 0},
            [(7, 2)],
            reference=lambda x: tuple(np.array_split(x, 3)),
        ),
        Sample(
            {"indices": (0, 1, 2), "axis": 1, "squeeze_axis": True},
            [(4, 3)],
            reference=lambda x: tuple(x.T),
        ),
    ],
    "Concat": [
        Sample(
            {"num_args": 3},
            [(2, 3, 4), (2, 1, 4), (2, 5, 4)],
            reference=lambda *x: np.concatenate(x, 1),
            smooth=True,
        ),
        Sample({"num_args": 2, "dim": -1}, [(2, 3), (2, 4)], reference=lambda *x: np.hstack(x)),
        Sample({"num_args": 1}, [(2, 3)], reference=lambda x: x),
    ],
    "_rnn_param_concat": [
        Sample(
            {"num_args": 2, "dim": 0},
            [(3,), (5,)],
            reference=lambda *x: np.concatenate(x),
            smooth=True,
        )
    ],
    "_backward_Concat": [
        Sample(
            {"num_args": 2, "dim": -2},
            [(5, 3), (2, 3), (3, 3)],
            reference=lambda g, *_: (g[:2], g[2:]),
            wrt=(0,),
            smooth=True,
        )
    ],
    "stack": [
        Sample(
            {"num_args": 3, "axis": 1},
            [(2, 5)] * 3,
            reference=lambda *x: np.stack(x, 1),
            smooth=True,
        ),
        Sample({"num_args": 2, "axis": -1}, [(2, 5)] * 2, reference=lambda *x: np.stack(x, -1)),
        Sample({"num_args": 1}, [(2, 5)], reference=lambda x: x[None], smooth=True),
    ],
    "tile": [
        Sample({"reps": (2, 3)}, [(4, 5)], reference=lambda x: np.tile(x, (2, 3)), smooth=True),
        Sample({"reps": (2,)}, [(4, 5)], reference=lambda x: np.tile(x, 2)),
        Sample({"reps": (3, 1, 2)}, [(4, 5)], reference=lambda x: np.tile(x, (3, 1, 2))),
        Sample({"reps": ()}, [(4, 5)], reference=lambda x: x),
    ],
    "_backward_tile": [
        Sample(
            {"reps": (3, 1, 2)},
            [(3, 4, 10), (4, 5)],
            reference=lambda g, _: g[..., :5].sum(0) + g[..., 5:].sum(0),
            wrt=(0,),
            smooth=True,
        )
    ],
    "repeat": [
        Sample({"repeats": 3}, [(2, 4)], reference=lambda x: np.repeat(x, 3), smooth=True),
        Sample(
            {"repeats": 3, "axis": -2},
            [(2, 4)],
            reference=lambda x: np.repeat(x, 3, 0),
            smooth=True,
        ),
    ],
    "_backward_repeat": [
        Sample(
            {"repeats": 3, "axis": 1},
            [(2, 12), (2, 4)],
            reference=lambda g, _: g[:, ::3] + g[:, 1::3] + g[:, 2::3],
            wrt=(0,),
            smooth=True,
        ),
        Sample(
            {"repeats": 3},
            [(24,), (2, 4)],
            reference=lambda g, _: (g[::3] + g[1::3] + g[2::3]).reshape(2, 4),
            wrt=(0,),
        ),
    ],
    "reverse": [
        Sample({"axis": 1}, [(2, 3)], reference=lambda x: x[:, ::-1], smooth=True),
        Sample({"axis": (0, -1)}, [(2, 3, 4)], reference=lambda x: x[REVERSED, :, REVERSED]),
    ],
    "Pad": [
        padded("constant", IMAGE, (2, 3, 4, 5), constant_values=2.5),
        padded("edge", IMAGE, (2, 3, 4, 5)),
        padded("reflect", IMAGE, (2, 3, 4, 5)),
        padded("edge", VOLUME, (2, 1, 3, 4, 5)),
        padded("reflect", VOLUME, (2, 1, 3, 4, 5)),
    ],
    "_backward_Pad": [
        Sample(
            {"mode": "constant", "pad_width": IMAGE},
            [(2, 3, 7, 6)],
            reference=lambda g: g[:, :, 1:5, 2:],
            smooth=True,
        ),
        Sample({"mode": "edge", "pad_width": IMAGE}, [(2, 3, 7, 6)], smooth=True),
        Sample({"mode": "reflect", "pad_width": IMAGE}, [(2, 3, 7, 6)], smooth=True),
    ],
    "Crop": [
        Sample(
            {"num_args": 1, "h_w": (3, 4), "offset": (2, 1)},
            [(2, 3, 5, 7)],
            reference=lambda x: x[:, :, 2:5, 1:5],
            smooth=True,
        ),
        Sample(
            {"num_args": 2, "center_crop": True},
            [(2, 3, 6, 7), (1, 5, 3, 4)],
            reference=lambda x, _: x[:, :, 1:4, 1:5],
            wrt=(0,),
            smooth=True,
        ),
    ],
    "_backward_Crop": [
        *backward_sliced({"offset": (2, 1)}, (2, 3, 3, 4), (2, 3, 5, 7), np.s_[:, :, 2:5, 1:5]),
        *backward_sliced({"center_crop": True}, (2, 3, 3, 4), (2, 3, 6, 7), np.s_[:, :, 1:4, 1:5]),
    ],
    "depth_to_space": [
        Sample({"block_size": 2}, [(2, 12, 1, 5)], reference=lambda x: unfolded(x, 2), smooth=True)
    ],
    "space_to_depth": [
        Sample(
            {"block_size": 2},
            [(2, 3, 4, 10)],
            reference=lambda x: np.concatenate(
                [x[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)], 1
            ),
            smooth=True,
        )
    ],
    "diag": [
        Sample({}, [(3, 4)], reference=np.diagonal, smooth=True),
        Sample({"k": -1}, [(3,)], reference=lambda x: np.diag(x, -1), smooth=True),
        Sample(
            {"k": 1, "axis1": -1, "axis2": 0},
            [(2, 3, 4)],
            reference=lambda x: np.diagonal(x, 1, -1, 0),
            smooth=True,
        ),
    ],
    "_backward_diag": [
        Sample(
            {"k": 1},
            [(3,), (3, 4)],
            reference=zeros_with((3, 4), ([0, 1, 2], [1, 2, 3])),
            wrt=(0,),
            smooth=True,
        ),
        Sample({"k": -1}, [(4, 4), (3,)], reference=lambda g, _: np.diagonal(g, -1), wrt=(0,)),
        Sample({"axis1": 2, "axis2": 0, "k": -1, "shape": (2, 3, 4)}, [(3, 2)], smooth=True),
    ],
    "_slice_assign": [
        Sample(
            {"begin": (1, None), "end": (3, None), "step": (1, -2)},
            [(4, 5), (2, 3)],
            reference=lambda x, y: np.concatenate(
                [x[:1], np.stack([y[:, 2], x[1:3, 1], y[:, 1], x[1:3, 3], y[:, 0]], 1), x[3:]]
            ),
            smooth=True,
        )
    ],
    "_slice_assign_scalar": [
        Sample(
            {"scalar": 2.5, "begin": (1,), "end": (3,)},
            [(4, 5)],
            reference=lambda x: np.concatenate([x[:1], np.full((2, 5), 2.5), x[3:]]),
            smooth=True,
        )
    ],
    "im2col": [
        Sample(WINDOW, [(2, 3, 5, 7)], reference=windows, smooth=True),
        Sample(
            {"kernel": (2,)},
            [(2, 3, 5)],
            reference=lambda x: np.stack([x[..., :-1], x[..., 1:]], 2).reshape(2, 6, 4),
        ),
        Sample({"kernel": (2, 1, 3), "stride": (1, 2, 1)}, [(2, 1, 3, 4, 5)], smooth=True),
    ],
    "col2im": [
        Sample({"output_size": (5, 7), **WINDOW}, [(2, 18, 9)], smooth=True),
        Sample(
            {"output_size": (5,), "kernel": (2,)},
            [(3, 4, 4)],
            reference=lambda x: (
                np.pad(x[:, ::2], [(0, 0), (0, 0), (0, 1)])
                + np.pad(x[:, 1::2], [(0, 0), (0, 0), (1, 0)])
            ),
        ),
    ],
    "_backward_im2col": [Sample(WINDOW, [(2, 18, 9), (2, 3, 5, 7)], wrt=(0,), smooth=True)],
}
