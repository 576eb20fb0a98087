"""Fusion: which steps share a loop, as text, and that no order that matters is changed."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from raysym.passes.fuse import Item, fuse


def groups(text: str) -> str:
    """Groups of a program of lines ``result <- operands``.

    Before a line may stand ``call``, ``lead``, ``end``, ``view``, or a shape to walk over.
    """
    items = []
    for line in text.strip().splitlines():
        left, _, right = line.strip().partition("<-")
        call, _, name = left.strip().rpartition(" ")
        kind = None if call in ("call", "view") else "4"
        shape = call if call.isdigit() else None
        reads = tuple(right.split())
        flags = call == "lead", shape, call == "view", call == "end"
        items.append(Item(reads, (name,), kind, *flags))
    names = [item.writes[0] for item in items]
    return " | ".join("+".join(names[i] for i in members) for members in fuse(items))


def test_a_chain_becomes_one_loop() -> None:
    assert groups("a <- x\n b <- a y\n c <- b a") == "a+b+c"


def test_what_others_read_first_ends_a_group() -> None:
    assert groups("a <- x\n call m <- a\n b <- a m\n c <- b") == "a | m | b+c"


def test_two_chains_meet() -> None:
    assert groups("a <- x\n b <- y\n c <- a b") == "a+b+c"


def test_a_stranger_in_between_does_not_part_a_chain() -> None:
    assert groups("a <- x\n call m <- x\n b <- a") == "m | a+b"


def test_overwriting_what_a_group_reads_ends_it() -> None:
    assert groups("a <- w\n call w <- x\n b <- a") == "a | w | b"


def test_an_update_in_place_stays_in_its_group() -> None:
    assert groups("a <- w\n b <- a g\n w <- b") == "a+b+w"


def test_other_kinds_do_not_join() -> None:
    items = [Item(("x",), ("a",), "4"), Item(("a",), ("b",), "5")]
    assert fuse(items) == [(0,), (1,)]


def test_steps_join_the_leader_that_makes_their_operand() -> None:
    assert groups("lead a <- x\n b <- a y\n c <- b") == "a+b+c"


def test_a_leader_joins_nobody() -> None:
    assert groups("a <- x\n lead b <- a\n lead c <- b") == "a | b | c"


def test_of_two_leaders_steps_join_the_later() -> None:
    assert groups("lead a <- x\n lead b <- y\n c <- a b\n d <- c") == "a | b+c+d"


def test_a_leader_waits_for_no_stranger() -> None:
    assert groups("lead a <- x\n call m <- a\n b <- a m") == "a | m | b"


def test_what_ends_a_group_joins_the_chain_that_makes_its_operand() -> None:
    assert groups("a <- x\n b <- a y\n end s <- b\n c <- s") == "a+b+s | c"
    assert groups("22 a <- x\n end s <- a\n b <- a") == "a+s | b"
    assert groups("end s <- x\n end t <- s") == "s | t"


def test_what_ends_a_group_joins_no_leader() -> None:
    assert groups("lead a <- x\n b <- a\n end s <- b") == "a+b | s"


def test_a_view_joins_what_it_is_a_view_of() -> None:
    assert groups("lead a <- x\n view v <- a\n b <- v") == "a+v+b"
    assert groups("call a <- x\n view v <- a\n b <- v") == "a | v | b"


def test_a_view_that_others_read_ends_a_group() -> None:
    assert groups("lead a <- x\n view v <- a\n call m <- v\n b <- v m") == "a+v | m | b"


def test_loops_of_different_walks_do_not_join() -> None:
    assert groups("22 a <- x\n b <- a\n 22 c <- b") == "a+b+c"
    assert groups("22 a <- x\n b <- a\n 41 c <- b") == "a+b | c"
    assert groups("22 a <- x\n 41 b <- y\n c <- a b") == "a | b+c"


def test_groups_stay_small() -> None:
    chain = [Item((f"v{i}",), (f"v{i + 1}",), "4") for i in range(100)]
    assert max(map(len, fuse(chain))) == 32


PROGRAMS = st.lists(
    st.tuples(
        st.lists(st.integers(0, 8), max_size=3),
        st.integers(0, 8),
        st.sampled_from([None, "4", "5"]),
        st.sampled_from(["", "lead", "end"]),
        st.sampled_from([None, "22", "41"]),
    ),
    max_size=25,
)


@settings(deadline=None)
@given(PROGRAMS)
def test_every_read_sees_the_value_of_the_given_order(program: list[tuple]) -> None:
    items = [_item(*line) for line in program]
    # A leader runs before all others of its group.
    order = [i for group in fuse(items) for i in sorted(group, key=lambda i: not items[i].leads)]
    assert sorted(order) == list(range(len(items)))
    assert _seen(items, order) == _seen(items, range(len(items)))


def _item(reads: list[int], writes: int, kind: str | None, role: str, walk: str | None) -> Item:
    is_view = len(reads) == 1 and kind is None and not role
    flags = role == "lead", walk, is_view, role == "end" and kind is not None
    return Item(tuple(f"v{r}" for r in reads), (f"v{writes}",), kind, *flags)


def _seen(items: list[Item], order: object) -> tuple[dict, dict]:
    """For each position the writers of what it reads, and who wrote each name last."""
    last: dict[str, int] = {}
    seen: dict[int, list[int]] = {}
    for position in order:  # type: ignore[attr-defined]
        seen[position] = [last.get(name, -1) for name in items[position].reads]
        last.update(dict.fromkeys(items[position].writes, position))
    return seen, last
