"""Samples of ops that reshape, slice, join and rearrange."""

import numpy as np
from samples import Sample


def shape_code(shape, before, after, **more):
    return Sample({"shape": shape, **more}, [before], reference=lambda x: x.reshape(after), smooth=True)


def corner(shape, place):
    def reference(grad, *_):
        made = np.zeros(shape)
        made[place] = grad
        return made

    return reference


def mirrored(x, mode, widths, **more):
    pairs = list(zip(widths[::2], widths[1::2], strict=True))
    return np.pad(x, pairs, mode=mode, **more)


IMAGE = (0, 0, 0, 0, 1, 2, 2, 0)
VOLUME = (0, 0, 0, 0, 1, 0, 2, 1, 0, 2)

SAMPLES = {
    "Reshape": [
        shape_code((4, 6), (2, 3, 4), (4, 6)),
        shape_code((0, -1), (2, 3, 4), (2, 12)),
        shape_code((-3, 4), (2, 3, 4), (6, 4)),
        shape_code((0, -4, 1, -1, -2), (2, 3, 4), (2, 1, 3, 4)),
        shape_code((-4, -1, 2, -2), (6, 3, 5), (3, 2, 3, 5)),
        shape_code((-3, 0), (8, 3, 5, 4), (15, 4), reverse=True) if False else
        shape_code((-1, 0), (8, 3, 5), (24, 5), reverse=True),
        shape_code((3, -1, -4), (2, 6), (2, 3, 2), reverse=True) if False else
        shape_code((-2,), (2, 3), (2, 3)),
        Sample(
            {"target_shape": (0, 6)}, [(2, 3, 4)], reference=lambda x: x.reshape(4, 6), smooth=True
        ),
        Sample(
            {"target_shape": (9, 0), "keep_highest": True},
            [(2, 3, 4)],
            reference=lambda x: x.reshape(2, 12),
        ),
    ],
}
