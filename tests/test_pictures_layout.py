"""Pictures: what must hold for every drawing, and the exact text of one small picture."""

import xml.etree.ElementTree as ElementTree
from itertools import combinations, pairwise, product

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from raysym.pictures import LOOKS, Arrow, Diagram, Mark, layout, svg
from raysym.pictures.drawing import Box, Drawing, PlacedArrow
from raysym.pictures.grouping import stack_groups
from raysym.pictures.layers import split_edges
from raysym.pictures.order import count_crossings, order_rows
from raysym.pictures.ranks import Edge, rank_vertices
from raysym.pictures.text import text_width

SVG = "{http://www.w3.org/2000/svg}"


def for_every(*strategies):
    """`given` without a deadline: how long a drawing takes depends on who shares the machine."""
    return lambda test: settings(deadline=None)(given(*strategies)(test))


@st.composite
def diagrams(draw, directions=("down", "right")):
    n_marks = draw(st.integers(1, 12))
    groups = st.sampled_from(
        draw(st.sampled_from([("",), ("", "cpu:0"), ("a", "a rather long <name>")]))
    )
    words = st.text(max_size=14)
    marks = [
        Mark(str(i), draw(words), draw(words), kind=draw(st.sampled_from(list(LOOKS))), group=group)
        for i, group in enumerate(draw(st.lists(groups, min_size=n_marks, max_size=n_marks)))
    ]
    ends = st.tuples(st.integers(0, n_marks - 1), st.integers(0, n_marks - 1))
    pairs = draw(st.lists(ends.filter(lambda pair: pair[0] != pair[1]), max_size=24))
    arrow_label = st.sampled_from(["", "", "f32[32,64]"])
    arrows = [Arrow(str(min(pair)), str(max(pair)), draw(arrow_label)) for pair in pairs]
    return Diagram(marks, arrows, draw(words), draw(st.sampled_from(directions)))


def overlap(a: Box, b: Box, least_gap: float = 0.0) -> bool:
    across = abs(a.x - b.x) < (a.width + b.width) / 2 + least_gap - 1e-6
    return across and abs(a.y - b.y) < (a.height + b.height) / 2 + least_gap - 1e-6


def inside(inner: Box, outer: Box) -> bool:
    across = outer.left - 1e-6 <= inner.left and inner.right <= outer.right + 1e-6
    return across and outer.top - 1e-6 <= inner.top and inner.bottom <= outer.bottom + 1e-6


def boxes_of(drawing: Drawing) -> dict[str, Box]:
    return {placed.mark.id: placed.box for placed in drawing.marks}


def points_along(placed: PlacedArrow, sideways: bool):
    """Points on the curve that the SVG draws: cubics with both handles half way along."""
    for (x0, y0), (x1, y1) in pairwise(placed.stops):
        for step in range(13):
            t = step / 12
            eased, linear = 3 * t**2 - 2 * t**3, 1.5 * t * (1 - t) + t**3
            if sideways:
                yield x0 + (x1 - x0) * linear, y0 + (y1 - y0) * eased
            else:
                yield x0 + (x1 - x0) * eased, y0 + (y1 - y0) * linear


@for_every(diagrams())
def test_marks_and_arrow_labels_keep_clear_of_each_other(diagram):
    drawing = layout(diagram)
    boxes = [placed.box for placed in drawing.marks]
    labels = [placed.label for placed in drawing.arrows if placed.label]
    assert not any(overlap(a, b, least_gap=20) for a, b in combinations(boxes, 2))
    assert not any(overlap(a, b) for a, b in combinations(boxes + labels, 2))


@for_every(diagrams())
def test_everything_lies_on_the_sheet(diagram):
    drawing = layout(diagram)
    sheet = Box(drawing.width / 2, drawing.height / 2, drawing.width, drawing.height)
    assert all(inside(placed.box, sheet) for placed in drawing.marks)
    assert all(inside(lane.box, sheet) for lane in drawing.lanes)
    for placed in drawing.arrows:
        assert all(inside(Box(x, y, 0, 0), sheet) for x, y in placed.stops)
        assert placed.label is None or inside(placed.label, sheet)


@for_every(diagrams(directions=("down",)))
def test_arrows_go_down(diagram):
    drawing = layout(diagram)
    ranks = {placed.mark.id: placed.rank for placed in drawing.marks}
    boxes = boxes_of(drawing)
    for placed in drawing.arrows:
        src, dst = placed.arrow.src, placed.arrow.dst
        assert ranks[src] < ranks[dst]
        assert boxes[src].bottom < boxes[dst].top
        # Half a height added to a middle may miss the bottom it stands for by a rounding error.
        assert all(y1 - y0 > -1e-6 for (_, y0), (_, y1) in pairwise(placed.stops))


@for_every(diagrams(directions=("right",)))
def test_arrows_go_right(diagram):
    drawing = layout(diagram)
    boxes = boxes_of(drawing)
    for placed in drawing.arrows:
        assert boxes[placed.arrow.src].right < boxes[placed.arrow.dst].left


# More arrows than fit on a narrow source, to a wide target.
NARROW = Diagram(
    (Mark("a", "", kind="arg_array"), Mark("b", "", "000000000", kind="argument")),
    tuple(Arrow("a", "b") for _ in range(5)),
)


@example(NARROW)
@for_every(diagrams())
def test_arrows_run_from_border_to_border(diagram):
    drawing = layout(diagram)
    marks = {placed.mark.id: placed for placed in drawing.marks}
    for placed in drawing.arrows:
        for end, (x, y) in (
            (placed.arrow.src, placed.stops[0]),
            (placed.arrow.dst, placed.stops[-1]),
        ):
            box = marks[end].box
            across, down = (x - box.x) / (box.width / 2), (y - box.y) / (box.height / 2)
            if LOOKS[marks[end].mark.kind].shape == "square":
                assert max(abs(across), abs(down)) == pytest.approx(1)
            else:
                assert across**2 + down**2 == pytest.approx(1)


@for_every(diagrams())
def test_arrows_run_over_no_other_mark(diagram):
    drawing = layout(diagram)
    for placed in drawing.arrows:
        ends = (placed.arrow.src, placed.arrow.dst)
        others = [box for name, box in boxes_of(drawing).items() if name not in ends]
        for x, y in points_along(placed, drawing.sideways):
            assert not any(overlap(Box(x, y, 0, 0), box) for box in others)


@for_every(diagrams())
def test_backdrops_hold_their_marks_and_no_others(diagram):
    drawing = layout(diagram)
    assert {lane.group for lane in drawing.lanes} == {m.group for m in diagram.marks} - {""}
    assert not any(overlap(a.box, b.box) for a, b in combinations(drawing.lanes, 2))
    for lane, placed in product(drawing.lanes, drawing.marks):
        if placed.mark.group == lane.group:
            assert inside(placed.box, lane.box)
        else:
            assert not overlap(placed.box, lane.box)


@for_every(diagrams())
def test_arrows_do_not_cross_the_labels_of_groups(diagram):
    drawing = layout(diagram)
    for lane, placed in product(drawing.lanes, drawing.arrows):
        width = 1.15 * text_width(lane.group, 12)
        label = Box(lane.box.left + 16 + width / 2, lane.box.top + 15, width, 12)
        points = points_along(placed, drawing.sideways)
        assert not any(overlap(Box(x, y, 0, 0), label) for x, y in points)


@for_every(diagrams())
def test_svg_is_xml_with_every_label(diagram):
    root = ElementTree.fromstring(svg(diagram))
    texts = {"".join(element.itertext()) for element in root.iter(f"{SVG}text")}
    wanted = {mark.label for mark in diagram.marks} | {arrow.label for arrow in diagram.arrows}
    # XML readers turn a carriage return into a newline, and some characters XML cannot hold.
    storable = {w for w in wanted - {""} if all(" " <= char <= "\ud7ff" for char in w)}
    assert storable <= texts
    assert root.find(f"{SVG}title").text


@for_every(diagrams())
def test_svg_is_the_same_every_time(diagram):
    again = Diagram(tuple(diagram.marks), list(diagram.arrows), diagram.title, diagram.ranks)
    assert svg(diagram) == svg(again)


@for_every(st.text(max_size=30), st.text(max_size=30), st.sampled_from(list(LOOKS)))
def test_marks_grow_with_their_text(label, sublabel, kind):
    (placed,) = layout(Diagram([Mark("m", label, sublabel, kind=kind)])).marks
    widest = max(text_width(label, 13), *(text_width(s, 10.5) for s in sublabel.split("\n")))
    assert placed.box.width > widest + 8


@for_every(st.integers(2, 4), st.data())
def test_ranks_are_the_shortest_there_are(n_vertices, data):
    pairs = [(a, b) for a in range(n_vertices) for b in range(a + 1, n_vertices)]
    chosen = data.draw(st.lists(st.sampled_from(pairs), min_size=1, max_size=7))
    edges = [Edge(a, b, data.draw(st.integers(1, 2))) for a, b in chosen]

    def length(ranks):
        return sum(ranks[e.head] - ranks[e.tail] for e in edges)

    def is_legal(ranks):
        return all(ranks[e.head] - ranks[e.tail] >= e.least for e in edges)

    everything = product(range(2 * n_vertices - 1), repeat=n_vertices)
    ranks = rank_vertices(n_vertices, edges)
    assert is_legal(ranks)
    assert length(ranks) == min(length(some) for some in everything if is_legal(some))


def test_ranks_let_a_leaf_stand_next_to_its_reader():
    chain = [Edge(0, 1), Edge(1, 2), Edge(2, 3), Edge(4, 3)]
    assert rank_vertices(5, chain) == [0, 1, 2, 3, 2]


def test_ranks_keep_a_side_chain_with_its_source():
    """0-1-2-3-4 is the trunk; 5-6 hangs off 1 and must not sink to the bottom."""
    edges = [Edge(0, 1), Edge(1, 2), Edge(2, 3), Edge(3, 4), Edge(1, 5), Edge(5, 6)]
    assert rank_vertices(7, edges) == [0, 1, 2, 3, 4, 2, 3]


@for_every(diagrams())
def test_crossings_are_counted_as_by_hand(diagram):
    number = {mark.id: i for i, mark in enumerate(diagram.marks)}
    edges = [Edge(number[a.src], number[a.dst]) for a in diagram.arrows]
    layers, _ = split_edges(rank_vertices(len(number), edges), [0] * len(number), edges)
    order_rows(layers)
    places = layers.positions()
    by_hand = 0
    for row in layers.rows:
        links = [(places[v], places[u]) for v in row for u in layers.below[v]]
        by_hand += sum((a - c) * (b - d) < 0 for (a, b), (c, d) in combinations(links, 2))
    assert count_crossings(layers) == by_hand


def test_order_of_a_tree_has_no_crossing_and_keeps_the_inputs_in_order():
    edges = [Edge(0, 4), Edge(1, 4), Edge(2, 5), Edge(3, 5), Edge(4, 6), Edge(5, 6)]
    layers, _ = split_edges(rank_vertices(7, edges), [0] * 7, edges)
    order_rows(layers)
    assert count_crossings(layers) == 0
    assert layers.rows == [[0, 1, 2, 3], [4, 5], [6]]


def test_layout_draws_the_spine_straight():
    """A chain of operators with leaves at its side, and a shortcut: one vertical line."""
    ops = [Mark(f"op{i}", f"op{i}", kind="op") for i in range(6)]
    leaves = [Mark(f"w{i}", f"op{i}_weight", kind="argument") for i in range(6)]
    data = Mark("data", "data", kind="argument")
    chain = [Arrow("data", "op0"), *(Arrow(f"op{i}", f"op{i + 1}") for i in range(5))]
    weights = [Arrow(f"w{i}", f"op{i}") for i in range(6)]
    drawing = layout(Diagram([data, *ops, *leaves], [*chain, *weights, Arrow("op1", "op4")]))
    boxes = boxes_of(drawing)
    assert len({round(boxes[f"op{i}"].x, 6) for i in range(6)}) == 1


def test_groups_that_hand_on_are_stacked_and_others_stand_side_by_side():
    marks = [Mark(c, c, kind="op", group=g) for c, g in (("a", "w0"), ("b", "w1"), ("c", "w0"))]
    stacked = Diagram(marks[:2], [Arrow("a", "b")])
    cyclic = Diagram(marks, [Arrow("a", "b"), Arrow("b", "c")])
    assert stack_groups(stacked) == ["w0", "w1"]
    assert stack_groups(cyclic) == []
    first, second = layout(stacked).lanes
    assert first.box.bottom < second.box.top
    left, right = layout(cyclic).lanes
    assert left.box.right < right.box.left
    assert [placed.changes_group for placed in layout(cyclic).arrows] == [True, True]


def test_equal_arrows_are_drawn_side_by_side():
    marks = [Mark("a", "a", kind="argument"), Mark("sq", "a * a", kind="op")]
    one, other = layout(Diagram(marks, [Arrow("a", "sq"), Arrow("a", "sq")])).arrows
    assert abs(one.stops[-1][0] - other.stops[-1][0]) >= 10


def test_a_long_chain_needs_no_recursion():
    marks = [Mark(str(i), str(i), kind="op") for i in range(3000)]
    drawing = layout(Diagram(marks, [Arrow(str(i), str(i + 1)) for i in range(2999)]))
    assert [placed.rank for placed in drawing.marks] == list(range(3000))


def test_legend_lists_only_the_kinds_present():
    diagram = Diagram([Mark("a", "A", kind="arg_array"), Mark("b", "B", kind="head_grad")])
    assert "argument array" in svg(diagram)
    legend = svg(diagram).split('class="legend"')[1]
    assert [kind for kind, look in LOOKS.items() if f">{look.legend}<" in legend] == [
        "arg_array",
        "head_grad",
    ]
    assert 'class="legend"' not in svg(diagram, legend=False)


@pytest.mark.parametrize("kind", LOOKS)
def test_labels_are_readable_on_their_fill(kind):
    """The contrast that WCAG 2.1 asks of text, level AA: 4.5 to 1."""

    def luminance(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(LOOKS[kind].fill), luminance(LOOKS[kind].ink)))
    assert (high + 0.05) / (low + 0.05) >= 4.5


def test_text_is_escaped():
    diagram = Diagram([Mark("a", '<b> & "c" \x00', kind="op")], title="x < y")
    text = svg(diagram)
    assert "&lt;b&gt; &amp; &quot;c&quot; \ufffd" in text
    assert "<title>x &lt; y</title>" in text


A, B = Mark("a", "a", kind="op"), Mark("b", "b", kind="op")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([],), "Diagram '': nothing to draw: got 0 marks, expected at least 1"),
        (([A, A],), "Diagram '': repeated mark id: got 'a' twice, expected every id once"),
        (
            ([A, B], [Arrow("a", "c")], "net"),
            "Diagram 'net': arrow 'a' -> 'c' has no mark at one end: got 'c', "
            "expected the id of a mark.",
        ),
        (
            ([A, B], [Arrow("a", "b"), Arrow("b", "a")]),
            "Diagram '': arrows run in a circle: got a -> b -> a, expected no cycle",
        ),
        (
            ([A], [Arrow("a", "a")]),
            "Diagram '': arrows run in a circle: got a -> a, expected no cycle",
        ),
        (([A], [], "", "up"), "Diagram '': unknown ranks: got 'up', expected 'down' or 'right'"),
    ],
)
def test_diagram_refuses(arguments, message):
    with pytest.raises(ValueError) as refused:  # noqa: PT011 - compared in full below
        Diagram(*arguments)
    assert str(refused.value) == message


def test_mark_refuses_an_unknown_kind():
    with pytest.raises(
        ValueError,
        match=r"Mark 'a': unknown kind: got 'arg_aray', expected one of "
        r"argument, .*\. Did you mean 'arg_array'\?",
    ):
        Mark("a", "a", kind="arg_aray")


def test_svg_of_a_tiny_diagram():
    a, b = Mark("a", "A", kind="argument"), Mark("b", "A + 1", "_plus_scalar", kind="op")
    assert svg(Diagram([a, b], [Arrow("a", "b")], "Tiny")) == GOLDEN


GOLDEN = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 278.4 231"
  width="278.4" height="231" role="img"
  font-family="Inter, Helvetica Neue, Helvetica, Arial, Liberation Sans, DejaVu Sans, sans-serif">
<title>Tiny</title>
<desc>Marks: 2. Arrows: 1.</desc>
<rect width="278.4" height="231" fill="#fdfdfc"/>
<text x="28" y="42.5" font-size="17" fill="#1f2933" font-weight="600">Tiny</text>
<g class="drawing" transform="translate(28 72)">
<g class="arrows" fill="none" stroke-width="1.4">
<path d="M45.1 40L45.1 71" stroke="#8592a0"/><path d="M45.1 78l-3.5-8h7z" fill="#8592a0"/>
</g>
<g class="mark argument" text-anchor="middle">
<title>argument: A</title>
<ellipse cx="45.1" cy="20" rx="29" ry="20" fill="#fbbf77" stroke="#c2751a"/>
<text x="45.1" y="24.6" font-size="13" fill="#1f2933" font-weight="500">A</text>
</g>
<g class="mark op" text-anchor="middle">
<title>operator: A + 1 _plus_scalar</title>
<ellipse cx="45.1" cy="104.5" rx="45.1" ry="26.5" fill="#ffffff" stroke="#52606d"/>
<text x="45.1" y="102.5" font-size="13" fill="#1f2933" font-weight="500">A + 1</text>
<text x="45.1" y="116.2" font-size="10.5" fill="#1f2933">_plus_scalar</text>
</g>
</g>
<g class="legend" transform="translate(162.2 72)">
<ellipse cx="12" cy="12.5" rx="12" ry="7.5" fill="#fbbf77" stroke="#c2751a"/>
<text x="32" y="16.5" font-size="11.5" fill="#3e4c59">argument</text>
<ellipse cx="12" cy="37.5" rx="12" ry="7.5" fill="#ffffff" stroke="#52606d"/>
<text x="32" y="41.5" font-size="11.5" fill="#3e4c59">operator</text>
</g>
</svg>
"""
