"""Products of image windows with weight panels: what convolution forward and backward share.

Images lie channels-last, so the taps of one kernel row are one run of neighbouring floats. A tile
of up to 14 pixels and 32 channels stays in registers while a run is multiplied.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

from raysym.kernels.emit import LANES, Emit, Index, Value, even_parts, runs_of
from raysym.kernels.epilogue import Results, are_at
from raysym.kernels.micro import register_groups, tile
from raysym.kernels.moving import PANEL, each_panel
from raysym.kernels.product import ROWS
from raysym.kernels.shared import parts_here, shared, shared_nest, unevenness

_DEPTH = 384
_CACHE = 320 * 1024  # bytes of images that are kept near while all panels pass
_SMALL_CELL = 64  # images of fewer pixels are tiled as a whole

# Whether nothing is added to a sum any more: a truth, or an IR truth (see `Results.finish`).
Ends: TypeAlias = Callable[[], Value]


class Windows(NamedTuple):
    """Pixels ``(images, rows, columns)``, steps between them in x and y, and the runs of x."""

    pixels: tuple[int, int, int]
    x_steps: tuple[int, int, int]
    y_steps: tuple[int, int, int]
    runs: int
    start: int  # offset of the first run
    step: int  # between rows of runs
    length: int  # floats of a run
    width: int  # channels of y
    taps: int = 1  # runs in a row of them
    tap_step: int = 0  # between these
    rows: int = 1  # in a plane of runs
    plane_step: int = 0  # between these

    def offset(self, e: Emit, run: Index) -> Index:
        """Where a run begins, from the first one."""
        row, tap = (run, 0) if self.taps == 1 else (e.share(run, self.taps), e.rest(run, self.taps))
        plane: Index = 0
        if self.plane_step:
            plane, row = e.share(row, self.rows), e.rest(row, self.rows)
        steps = (plane, self.plane_step), (row, self.step), (tap, self.tap_step)
        return e.plus(*(e.times(i, step) for i, step in steps))

    def panel_floats(self) -> int:
        """Size of the packed weights."""
        return -(-self.width // PANEL) * PANEL * self.runs * self.length

    @property
    def gathers(self) -> bool:
        """True when sums are stored before they are complete."""
        return self.runs > 1 or self.length > _DEPTH


class Cell(NamedTuple):
    """A block of pixels that is tiled at once: images, rows, and the pixels of each tile."""

    images: int
    rows: int
    tiles: tuple[tuple[tuple[int, int, int], ...], ...]


def cell_of(pixels: tuple[int, int, int]) -> Cell:
    """Whole small images, or a few rows."""
    images, rows, columns = pixels
    several, tall = 1, 1
    if rows * columns <= _SMALL_CELL:
        tall = rows
        several = max(d for d in _divisors(images) if d * rows * columns <= _SMALL_CELL)
    elif columns <= ROWS // 2:
        tall = max(d for d in _divisors(rows) if d * columns <= ROWS)
    all_pixels = [(i, r, c) for i in range(several) for r in range(tall) for c in range(columns)]
    tiles, at = [], 0
    for size in even_parts(len(all_pixels), ROWS):
        tiles.append(tuple(all_pixels[at : at + size]))
        at += size
    return Cell(several, tall, tuple(tiles))


def _divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]


def _most(n: int, limit: int, multiple: int) -> int:
    """The largest divisor of n that is a multiple of `multiple` and at most `limit`."""
    fitting = [d for d in _divisors(n) if d % multiple == 0 and d <= limit]
    return max(fitting, default=multiple)


def window_product(
    e: Emit, g: Windows, x: Value, panels: Value, y: Results, bias: Value | None = None
) -> None:
    """``y[pixel, :] = sum over runs of x[pixel + run] . panel (+ bias)``."""
    cell = cell_of(g.pixels)
    images, rows, _ = g.pixels
    budget = _CACHE // 4 if g.panel_floats() * 4 <= 192 * 1024 else _CACHE
    tall = _most(rows, max(1, budget // (4 * max(1, g.x_steps[1]))), cell.rows)
    image_bytes = 4 * rows * max(1, g.x_steps[1])
    several = _most(images, max(1, budget // image_bytes), cell.images)

    def block(first_image: Index, first_row: Index) -> None:
        def panel(column: Index, lanes: list[int]) -> None:
            kept = [n for n in lanes if n]
            packed = e.at(panels, e.times(column, g.runs * g.length))

            def cells(run: Index, k: Index, depth: int, starts: bool, ends: Ends) -> None:
                def one(i: Index, r: Index) -> None:
                    image, row = e.plus(first_image, i), e.plus(first_row, r)
                    sx, sy = g.x_steps, g.y_steps
                    source = e.at(x, e.times(image, sx[0]), e.times(row, sx[1]), g.start,
                                  g.offset(e, run), k)  # fmt: skip
                    at = e.plus(e.times(image, sy[0]), e.times(row, sy[1]), column)
                    place = y.moved(at, column)
                    right = e.at(packed, e.times(run, g.length * PANEL), e.times(k, PANEL))
                    first = bias if bias is None else e.at(bias, column)
                    _tiles(e, g, cell, source, right, place, depth, kept, starts, ends, first)

                _steps(e, several, cell.images, lambda i: _steps(
                    e, tall, cell.rows, lambda r: one(i, r)))  # fmt: skip

            _each_part(e, g, cells)

        each_panel(e, g.width, panel)

    _each_block(e, g, (several, tall), block)


def _each_block(
    e: Emit, g: Windows, size: tuple[int, int], body: Callable[[Index, Index], None]
) -> None:
    """``body(first image, first row)`` for blocks of so many images and rows, shared by threads."""
    (images, rows, _), (several, tall) = g.pixels, size
    if not _shares_blocks((images // several, rows // tall), g.width, parts_here(e)):
        _steps(e, images, several, lambda i: _steps(e, rows, tall, lambda r: body(i, r)))
    elif images == several:
        shared(e, rows // tall, lambda r: body(0, r), step=tall)
    else:
        shared(
            e,
            images // several,
            lambda i: _steps(e, rows, tall, lambda r: body(i, r)),
            step=several,
        )


def _shares_blocks(blocks: tuple[int, int], width: int, parts: int) -> bool:
    """True when threads take blocks of pixels; else they take panels of all."""
    count = blocks[1] if blocks[0] == 1 else blocks[0]
    by_blocks, by_panels = unevenness(count, parts), unevenness(-(-width // PANEL), parts)
    return parts > 1 and by_blocks <= by_panels


def _steps(e: Emit, end: int, step: int, body: Callable[[Index], None]) -> None:
    if end == step:
        body(0)
    else:
        e.loop(0, end, body, step=step)


def _each_part(e: Emit, g: Windows, cells: Callable[[Index, Index, int, bool, Ends], None]) -> None:
    """``cells(run, first float, floats, is first, is last)`` for all parts of all runs."""
    parts = runs_of(even_parts(g.length, _DEPTH))
    cells(0, 0, parts[0][1], True, lambda: are_at(e, (0, g.runs - 1), (parts[0][1], g.length)))

    def rest(r: Index, skip: int) -> None:
        for start, depth, end in parts:

            def part(k: Index, depth: int = depth) -> None:
                last = (r, g.runs - 1), (k, g.length - depth)
                cells(r, k, depth, False, lambda: are_at(e, *last))

            begin = start + depth if skip and start == 0 else start
            if begin < end:
                e.loop(begin, end, part, step=depth)

    rest(0, 1)
    if g.runs > 1:
        e.loop(1, g.runs, lambda r: rest(r, 0))


def _tiles(
    e: Emit,
    g: Windows,
    cell: Cell,
    source: Value,
    right: Value,
    place: Results,
    depth: int,
    lanes: list[int],
    starts: bool,
    ends: Ends,
    bias: Value | None,
) -> None:
    for pixels in cell.tiles:
        offsets = [sum(p * s for p, s in zip(pixel, g.x_steps, strict=True)) for pixel in pixels]
        targets = [sum(p * s for p, s in zip(pixel, g.y_steps, strict=True)) for pixel in pixels]
        for skipped, group in register_groups(e, lanes):
            columns = [(skipped + j * LANES, n) for j, n in enumerate(group)]
            cells = [(t + j, n) for t in targets for j, n in columns]
            if not starts:
                sums = [e.load(place.first, offset, n) for offset, n in cells]
            elif bias is not None:
                sums = [e.load(bias, j, n) for j, n in columns] * len(pixels)
            else:
                sums = [e.zero] * len(cells)
            full, panel = [LANES] * len(group), e.at(right, skipped)
            sums = tile(e, source, offsets, 1, panel, PANEL, depth, sums, full)
            place.finish(ends, sums, cells, [j for j, _ in columns] * len(pixels))


class _Block(NamedTuple):
    """Images and rows that are summed over before the next panel is turned to."""

    images: int
    rows: int
    first_image: Index = 0
    first_row: Index = 0


def window_correlation(e: Emit, g: Windows, x: Value, grad: Value, result: Value) -> None:
    """``result[panel][run][k][:] += sum over pixels of x[pixel + run + k] grad[pixel, :]``.

    Here `y_steps` are those of `grad`.
    """
    images, rows, _ = g.pixels
    line = 4 * (g.x_steps[1] + g.y_steps[1])
    tall = _most(rows, max(1, _CACHE // max(1, line)), 1)
    several = _most(images, max(1, _CACHE // max(1, line * rows)), 1) if tall == rows else 1

    def block(image: Index, row: Index) -> None:
        _correlate_block(e, g, _Block(several, tall, image, row), x, grad, result)

    _steps(e, images, several, lambda i: _steps(e, rows, tall, lambda r: block(i, r)))


def _correlate_block(
    e: Emit, g: Windows, block: _Block, x: Value, grad: Value, result: Value
) -> None:
    by_runs = unevenness(g.runs, parts_here(e)) < unevenness(-(-g.width // PANEL), parts_here(e))

    def panel(column: Index, lanes: list[int]) -> None:
        kept = [n for n in lanes if n]

        def run(r: Index) -> None:
            size = g.length * PANEL
            target = e.at(result, e.times(column, g.runs * g.length), e.times(r, size))
            source = e.at(x, g.start, g.offset(e, r))
            for start, height, end in runs_of(even_parts(g.length, ROWS)):

                def some(k: Index, height: int = height) -> None:
                    place = e.at(target, e.times(k, PANEL))
                    right = e.at(grad, column)
                    for skipped, group in register_groups(e, kept):
                        there, of = e.at(place, skipped), e.at(right, skipped)
                        _correlate_tile(e, g, block, e.at(source, k), of, there, height, group)

                e.loop(start, end, some, step=height)

        shared_nest(e, (g.runs,), run)

    each_panel(e, g.width, panel, inner=by_runs)


def _correlate_tile(
    e: Emit,
    g: Windows,
    block: _Block,
    x: Value,
    grad: Value,
    place: Value,
    height: int,
    lanes: Sequence[int],
) -> None:
    cells = [i * PANEL + j * LANES for i in range(height) for j in range(len(lanes))]

    def row(i: Index, q: Index, *sums: Value) -> list[Value]:
        image, line = e.plus(block.first_image, i), e.plus(block.first_row, q)
        left = e.at(x, e.times(image, g.x_steps[0]), e.times(line, g.x_steps[1]))
        right = e.at(grad, e.times(image, g.y_steps[0]), e.times(line, g.y_steps[1]))
        count, steps = g.pixels[2], (g.x_steps[2], g.y_steps[2])
        return tile(e, left, range(height), steps[0], right, steps[1], count, sums, lanes)

    def image(i: Index, *sums: Value) -> list[Value]:
        return e.loop(0, block.rows, lambda q, *s: row(i, q, *s), sums)

    sums = e.loop(0, block.images, image, [e.load(place, at) for at in cells])
    for value, at in zip(sums, cells, strict=True):
        e.store(value, place, at)
