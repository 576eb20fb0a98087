"""The sizes of a matrix product, and how it is cut so that its parts fit the caches."""

from __future__ import annotations

from typing import NamedTuple

from raysym.kernels.emit import LANES, even_parts, runs_of
from raysym.kernels.moving import PANEL
from raysym.kernels.shared import unevenness

ROWS = 14  # 14 x 2 sums, 2 columns and 1 factor: 31 of 32 registers
DEPTH = 1152  # sums that are longer are stored in between
BLOCK_BYTES = 1 << 19  # of A: what stays in the second cache beside panels of B and C
BLOCK_TILES = 10  # more rows would scatter C over too many pages
SHORT = 160  # so many columns of a transposed A are read where they lie, by several panels
STRIP = LANES  # floats between two columns of a strip: one line of the cache
STRIP_PANELS = 16  # strips pay where more panels read them
STRIP_DEPTH = 256  # of a transposed A, all rows of so many columns are packed at once
STRIP_BYTES = 5 << 18
COLUMN_BYTES = 1 << 20  # of a transposed A that is read where it lies
_UNEVEN = 1.1


class Product(NamedTuple):
    """``C = A B`` (+ bias): sizes, and whether the factors are stored transposed."""

    m: int
    n: int
    k: int
    turned_a: bool = False
    turned_b: bool = False
    bias: bool = False
    repeats: int = 1  # so many products, one behind the other

    @property
    def depth(self) -> int:
        """Products that are added before the sums are stored; the last part may be shorter."""
        most = STRIP_DEPTH if self.strips_a else SHORT if self.reads_columns else DEPTH
        if self.k <= most:
            return self.k
        # Parts of one size are half of the code.
        sizes = range(SHORT, SHORT // 2, -8) if self.reads_columns else ()
        even = [n for n in sizes if self.k % n == 0]
        return even[0] if even else -(-even_parts(self.k, most)[0] // 8) * 8

    @property
    def runs(self) -> list[tuple[int, int, int]]:
        """Tiles of equal height together: first row, height, number of tiles."""
        runs = runs_of(even_parts(self.m, ROWS))
        return [(start, height, (end - start) // height) for start, height, end in runs]

    @property
    def block(self) -> int:
        """Tiles whose rows of A stay in the second cache while all panels of B pass."""
        if self.strips_a:
            return STRIP_BYTES // (4 * self.depth * STRIP)
        if self.reads_columns:
            return max(1, COLUMN_BYTES // (4 * self.depth * ROWS))
        return min(BLOCK_TILES, max(1, BLOCK_BYTES // (4 * self.depth * ROWS)))

    @property
    def is_one_block(self) -> bool:
        """True when B passes once."""
        return -(-self.m // ROWS) <= self.block

    @property
    def packs_b(self) -> bool:
        """True when B is copied into panels before it is read."""
        is_read_often = self.n > PANEL and self.m >= 4 * ROWS
        is_cut = self.n % LANES != 0  # lines of the cache
        is_tall = self.m > BLOCK_TILES * ROWS
        return self.turned_b or (is_read_often and (is_cut or is_tall or not self.is_one_block))

    @property
    def strips_a(self) -> bool:
        """True when blocks of a transposed A are packed: so many panels read them."""
        return self.turned_a and self.k > SHORT and self.n > STRIP_PANELS * PANEL

    @property
    def reads_columns(self) -> bool:
        """True when several panels read a transposed A where it lies."""
        return self.turned_a and self.n > PANEL and not self.strips_a

    @property
    def strip(self) -> int:
        """Floats from one strip to the next: one more line, or all would want the same lines."""
        return STRIP * (self.depth + 1)

    @property
    def a_steps(self) -> tuple[int, int]:
        """Floats between two rows of A, and between two of its columns."""
        return (1, self.m) if self.turned_a else (self.k, 1)

    @property
    def panels(self) -> int:
        """Floats of packed B: one panel, or all of them where many blocks of rows read them."""
        wide = PANEL if self.is_one_block else -(-self.n // PANEL) * PANEL
        return wide * self.depth if self.packs_b else 0

    def workspace(self) -> int:
        """Floats of extra memory."""
        tiles = min(self.block, -(-self.m // ROWS))
        return self.panels + (tiles * self.strip if self.strips_a else 0)


def row_groups(p: Product, parts: int) -> int:
    """Into how many groups of rows `parts` threads cut a product; 1: they share its columns.

    Of two ways that keep all busy, the one that lets each thread read less.
    """
    groups = max(n for n in range(1, parts + 1) if p.m % n == 0)
    if groups == 1 or p.turned_a:
        return 1
    by_rows, by_columns = parts / groups, unevenness(-(-p.n // PANEL), parts)
    if max(by_rows, by_columns) > _UNEVEN * min(by_rows, by_columns):
        return groups if by_rows < by_columns else 1
    return groups if p.m > p.n else 1
