"""The three kernels of convolution: forward, transposed, and the correlation that learns weights.

Cast: x data ``(N, C, *S)``, w weight ``(F, C/G, *K)``, y or g output ``(N, F, *P)``, G groups.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from raysym.ops.numeric import wide
from raysym.ops.windows import Window, columns, crop_spatial, pad_spatial
from raysym.params import Dims

# Windows are copied out in blocks of at most so many elements, to bound the extra memory.
BLOCK = 1 << 22


def convolve(xp: Any, x: Any, w: Any, window: Window, groups: int) -> Any:
    """Cross-correlate: x ``(N, C, *S)``, w ``(F, C/G, *K)`` -> ``(N, F, *P)``."""
    sizes = window.sizes(x.shape[2:])
    f = w.shape[0] // groups
    rows = wide(w).reshape(groups, f, -1)
    if window.is_pointwise():
        cells = wide(window.cells(x)).reshape(x.shape[0], groups, x.shape[1] // groups, -1)
        y = product(xp, rows, cells)
        return y.reshape(x.shape[0], -1, *sizes).astype(x.dtype, copy=False)
    y = xp.empty((x.shape[0], w.shape[0], *sizes), x.dtype)
    for block, cols in _blocks(xp, x, window, sizes, groups):
        made = product(xp, rows, cols).reshape(groups * f, -1, *sizes)
        y[block] = made.swapaxes(0, 1)
    return y


def spread(xp: Any, g: Any, w: Any, window: Window, groups: int, spatial: Dims) -> Any:
    """Transposed convolution: g ``(N, F, *P)``, w ``(F, C/G, *K)`` -> ``(N, C, *spatial)``."""
    n, f, c = g.shape[0], w.shape[0] // groups, w.shape[1]
    if _is_faster_turned(window, g.shape[2:], spatial):
        turned = w.reshape(groups, f, c, *window.kernel)[(..., *window.reversed())].swapaxes(1, 2)
        turned = turned.reshape(groups * c, f, *window.kernel)
        return convolve(xp, g, turned, window.turned(), groups)
    units = wide(g).reshape(n, groups, f, -1)
    w = wide(w).reshape(groups, f, c, *window.kernel).swapaxes(1, 2)
    x = xp.zeros((n, groups * c, *window.padded(spatial)), units.dtype)
    for tap, place in window.taps(g.shape[2:]):
        made = product(xp, w[(slice(None), slice(None), slice(None), *tap)], units)
        x[place] += made.reshape(n, groups * c, *g.shape[2:])
    return crop_spatial(x, window.pad, spatial).astype(g.dtype, copy=False)


def _is_faster_turned(window: Window, sizes: Sequence[int], spatial: Sequence[int]) -> bool:
    # With stride 1 the transpose is a convolution by the turned kernel, which needs no scattering,
    # but counts every cell of the data where the transpose counts the windows only.
    if any(s > 1 for s in window.stride) or min(window.turned().pad) < 0:
        return False
    return math.prod(spatial) < 1.3 * math.prod(sizes)


def correlate(xp: Any, g: Any, x: Any, window: Window, groups: int) -> Any:
    """Weight gradient: g ``(N, F, *P)``, x ``(N, C, *S)`` -> ``(F, C/G, *K)``."""
    sizes, f = g.shape[2:], g.shape[1] // groups
    total: Any = 0
    if window.is_pointwise():
        return _correlate_pointwise(xp, g, x, window, groups)
    for block, cols in _blocks(xp, x, window, sizes, groups):
        units = wide(g[block]).swapaxes(0, 1).reshape(groups, f, -1)
        total = total + product(xp, units, cols.swapaxes(1, 2))
    shape = (g.shape[1], x.shape[1] // groups, *window.kernel)
    return total.reshape(shape).astype(g.dtype, copy=False)


def _correlate_pointwise(xp: Any, g: Any, x: Any, window: Window, groups: int) -> Any:
    # Sample by sample, because the matrices then need no transposed copies.
    cells = wide(window.cells(x)).reshape(x.shape[0], groups, x.shape[1] // groups, -1)
    units = wide(g).reshape(g.shape[0], groups, g.shape[1] // groups, -1)
    total: Any = 0
    step = max(1, BLOCK // max(1, g.shape[1] * cells.shape[2]))
    for start in range(0, g.shape[0], step):
        block = slice(start, start + step)
        total = total + xp.matmul(units[block], cells[block].swapaxes(2, 3)).sum(axis=0)
    shape = (g.shape[1], x.shape[1] // groups, *window.kernel)
    return total.reshape(shape).astype(g.dtype, copy=False)


def _blocks(
    xp: Any, x: Any, window: Window, sizes: Dims, groups: int
) -> Iterator[tuple[slice, Any]]:
    """Windows of a few samples at a time: ``(G, C/G * K, samples * P)``."""
    each = x.shape[1] * math.prod(window.kernel) * math.prod(sizes)
    step = max(1, BLOCK // max(each, 1))
    for start in range(0, x.shape[0], step):
        block = slice(start, start + step)
        padded = pad_spatial(xp, wide(x[block]), window.pad, window.pad)
        rows = x.shape[1] // groups * math.prod(window.kernel)
        yield block, columns(xp, padded, window, sizes).reshape(groups, rows, -1)


def product(xp: Any, a: Any, b: Any) -> Any:
    """Matrix product over the last two axes; an outer product where only one index is summed."""
    return a * b if a.shape[-1] == 1 else xp.matmul(a, b)
