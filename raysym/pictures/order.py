"""Order: left to right within the layers, with few crossings; sweeps of barycenters and swaps.

After Sugiyama, Tagawa and Toda (1981); crossings are counted as in Barth, Mutzel and Jünger (2004).
Lanes never mix: a vertex of a lower lane always stands left of one of a higher lane.
"""

from itertools import pairwise

from raysym.pictures.layers import Layers

__all__ = ["count_crossings", "order_rows"]

# Sweeps without a better result before giving up, and the most sweeps for graphs of one screen.
PATIENCE = 4
MAX_SWEEPS = 24
MAX_EXCHANGES = 40

Score = tuple[int, int]


def order_rows(layers: Layers) -> None:
    """Reorder `layers.rows` in place."""
    starts = (_depth_first_places(layers), list(range(len(layers.ranks))))
    found = []
    for places in starts:
        for row in layers.rows:
            row.sort(key=lambda v: (layers.lanes[v], places[v]))
        found.append(_improve(layers))
    _, layers.rows[:] = min(found, key=lambda pair: pair[0])


def _improve(layers: Layers) -> tuple[Score, list[list[int]]]:
    """Sweep until nothing gets better; the best score and its rows."""
    best, least = [list(row) for row in layers.rows], _score(layers)
    idle = 0
    for sweep in range(MAX_SWEEPS):
        if least == (0, 0) or idle == PATIENCE:
            break
        _sweep(layers, downwards=sweep % 2 == 1, rightmost=sweep % 4 >= 2)
        _swap_neighbours(layers)
        score = _score(layers)
        idle += 1
        if score < least:
            best, least, idle = [list(row) for row in layers.rows], score, 0
    layers.rows[:] = _mirrored(layers, best)
    least, best = min((least, best), (_score(layers), [list(row) for row in layers.rows]))
    layers.rows[:] = best
    return _exchange_siblings(layers, least), [list(row) for row in layers.rows]


def _score(layers: Layers) -> Score:
    """Crossings, then how many pairs of neighbours stand against the order they were given in."""
    positions = layers.positions()
    disorder = sum(
        _count_inversions([positions[u] for u in neighbours])
        for beside in (layers.above, layers.below)
        for neighbours in beside
        if len(neighbours) > 1
    )
    return count_crossings(layers), disorder


def _mirrored(layers: Layers, rows: list[list[int]]) -> list[list[int]]:
    """A mirrored drawing crosses as little, and may keep more inputs in their given order."""
    backwards = [list(reversed(row)) for row in rows]
    return [sorted(row, key=layers.lanes.__getitem__) for row in backwards]


def _exchange_siblings(layers: Layers, score: Score) -> Score:
    """Exchange two inputs in the wrong order, long arrows and all, where that makes it better."""
    strands = _strands(layers)
    for left, right in _misplaced_inputs(layers)[:MAX_EXCHANGES]:
        _exchange(layers, strands[left], strands[right])
        now = _score(layers)
        if now < score:
            score = now
        else:
            _exchange(layers, strands[left], strands[right])
    return score


def _strands(layers: Layers) -> list[list[int]]:
    """Each real vertex with the dummies of the long edges that leave it."""
    strands = [[v] for v in range(layers.n_real)]
    owner = list(range(layers.n_real))
    for dummy in range(layers.n_real, len(layers.ranks)):
        # A dummy comes after the one above it, so its owner is known.
        owner.append(owner[layers.above[dummy][0]])
        strands[owner[dummy]].append(dummy)
    return strands


def _misplaced_inputs(layers: Layers) -> list[tuple[int, int]]:
    """Pairs of real inputs of one vertex, neighbours in the given order but not in the row."""
    positions = layers.positions()
    pairs = {
        (a, b)
        for above in layers.above
        for a, b in pairwise([u for u in above if not layers.is_dummy(u)])
        if positions[a] > positions[b]
    }
    return sorted(pairs)


def _exchange(layers: Layers, ones: list[int], others: list[int]) -> None:
    places = {v: place for row in layers.rows for place, v in enumerate(row)}
    shape = [(layers.ranks[v], layers.lanes[v]) for v in ones]
    if shape != [(layers.ranks[v], layers.lanes[v]) for v in others]:
        return
    for one, other in zip(ones, others, strict=True):
        row = layers.rows[layers.ranks[one]]
        row[places[one]], row[places[other]] = other, one


def _depth_first_places(layers: Layers) -> list[int]:
    """From the sinks up, inputs left to right: a tree comes out without crossings at once."""
    places = [-1] * len(layers.ranks)
    stack = [v for v in range(layers.n_real) if not layers.below[v]][::-1]
    n_visited = 0
    while stack:
        vertex = stack.pop()
        if places[vertex] < 0:
            places[vertex] = n_visited
            n_visited += 1
            stack.extend(reversed(layers.above[vertex]))
    return places


def _sweep(layers: Layers, downwards: bool, rightmost: bool) -> None:
    rows = layers.rows if downwards else layers.rows[::-1]
    beside = layers.above if downwards else layers.below
    positions = layers.positions()
    for row in rows[1:]:
        _sort_row(layers, row, beside, positions, rightmost)
        for place, vertex in enumerate(row):
            positions[vertex] = place


def _sort_row(
    layers: Layers, row: list[int], beside: list[list[int]], positions: list[int], rightmost: bool
) -> None:
    """Sort by lane and barycenter; vertices without a neighbour keep their places."""
    keys = {
        v: (layers.lanes[v], sum(positions[u] for u in beside[v]) / len(beside[v]))
        for v in row
        if beside[v]
    }
    movable = [v for v in row if v in keys]
    if rightmost:
        movable.reverse()
    movable.sort(key=keys.__getitem__)
    following = iter(movable)
    merged = [next(following) if v in keys else v for v in row]
    row[:] = sorted(merged, key=layers.lanes.__getitem__)


def _swap_neighbours(layers: Layers) -> None:
    """Swap adjacent vertices wherever that removes crossings, one pass over every row."""
    positions = layers.positions()
    for row in layers.rows:
        for place in range(len(row) - 1):
            left, right = row[place], row[place + 1]
            if layers.lanes[left] == layers.lanes[right] and _gain(layers, left, right, positions):
                row[place], row[place + 1] = right, left
                positions[left], positions[right] = place + 1, place


def _gain(layers: Layers, left: int, right: int, positions: list[int]) -> bool:
    gain = 0
    for beside in (layers.above, layers.below):
        lefts = [positions[u] for u in beside[left]]
        rights = [positions[u] for u in beside[right]]
        gain += sum((a > b) - (a < b) for a in lefts for b in rights)
    return gain > 0


def count_crossings(layers: Layers) -> int:
    """How many pairs of links cross."""
    positions = layers.positions()
    return sum(
        _count_inversions(
            [end for v in row for end in sorted(positions[u] for u in layers.below[v])]
        )
        for row in layers.rows[:-1]
    )


def _count_inversions(values: list[int]) -> int:
    """Pairs (i, j) with i < j and values[i] > values[j], by a Fenwick tree over the values."""
    size = max(values, default=0) + 1
    tree = [0] * (size + 1)
    inversions = 0
    for seen, value in enumerate(values):
        inversions += seen - _prefix_sum(tree, value + 1)
        place = value + 1
        while place <= size:
            tree[place] += 1
            place += place & -place
    return inversions


def _prefix_sum(tree: list[int], place: int) -> int:
    total = 0
    while place:
        total += tree[place]
        place -= place & -place
    return total
