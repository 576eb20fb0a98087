"""Pipeline schedules: text, closed forms of the bubbles, memory, and the search."""

import itertools

import pytest

import scheduler as s
from scheduler.pipeline import (
    GREEDY,
    NAMED,
    Action,
    Stages,
    gpipe,
    interleaved,
    one_f_one_b,
    parse_order,
    print_order,
    run,
    search,
    zero_bubble_free,
    zero_bubble_h1,
)

GRID = [(p, m * p) for p in (1, 2, 3, 4, 8) for m in (2, 3, 4)]
RATIOS = list(itertools.product((0.5, 1, 2, 3), repeat=3))


def close(found, expected):
    return found == pytest.approx(expected, rel=1e-3, abs=1e-9)


def test_orders_are_text_that_reads_back():
    text = print_order(one_f_one_b(2, 3))
    assert text == "0F0 0F1 0B0 0F2 0B1 0B2\n1F0 1B0 1F1 1B1 1F2 1B2"
    for order in (gpipe(3, 4), interleaved(2, 4), zero_bubble_h1(3, 6), zero_bubble_free(3, 6)):
        assert parse_order(print_order(order)) == order
    assert str(Action(1, "F", 0)) == "1F0"


def test_unknown_action_is_refused():
    with pytest.raises(s.ScheduleError, match="got '0X1', expected text such as 1F0 or 0B2"):
        parse_order("0F0 0X1")


@pytest.mark.parametrize(("ranks", "batches"), GRID)
def test_gpipe_and_1f1b_bubbles_equal_their_closed_form(ranks, batches):
    expected = (ranks - 1) / (batches + ranks - 1)
    for f, i, w in RATIOS:
        stages = Stages.even(ranks, f, i, w)
        assert close(run(gpipe(ranks, batches), stages).bubble, expected)
        assert close(run(one_f_one_b(ranks, batches), stages).bubble, expected)


@pytest.mark.parametrize("chunks", [2, 3])
@pytest.mark.parametrize(("ranks", "batches"), GRID)
def test_interleaved_bubble_equals_its_closed_form(ranks, batches, chunks):
    expected = (ranks - 1) / (chunks * batches + ranks - 1)
    for f, i, w in RATIOS:
        stages = Stages.even(ranks, f, i, w, chunks=chunks)
        assert close(run(interleaved(ranks, batches, chunks), stages).bubble, expected)


@pytest.mark.parametrize(("ranks", "batches"), GRID)
def test_zero_bubble_schedules_equal_their_closed_forms(ranks, batches):
    for f, i, w in RATIOS:
        stages, work = Stages.even(ranks, f, i, w), batches * (f + i + w)
        # a rank can only hide min(f, w) of weight gradient behind each wait
        idle = (ranks - 1) * (f + i - min(f, w))
        assert close(run(zero_bubble_h1(ranks, batches), stages).bubble, idle / (work + idle))
        idle = (ranks - 1) * max(0, f + i - 2 * min(f, w))
        assert close(run(zero_bubble_free(ranks, batches), stages).bubble, idle / (work + idle))


def test_zero_bubble_memory_is_what_was_promised():
    stages = Stages.even(4, 1, 1, 1)
    assert run(one_f_one_b(4, 12), stages).peak_memory == (4, 3, 2, 1)
    assert max(run(zero_bubble_h1(4, 12), stages).peak_memory) == 4
    assert max(run(zero_bubble_free(4, 12), stages).peak_memory) == 7
    for cap in range(4, 8):
        assert max(run(zero_bubble_free(4, 12, cap), stages).peak_memory) <= cap
    with pytest.raises(s.ScheduleError, match="cap 3, expected at least 4"):
        zero_bubble_free(4, 12, cap=3)


# Qi et al., Zero Bubble Pipeline Parallelism (2023): profiled seconds x 1e3 of the 1.5B model on 8
# stages (F 18.522, B 18.086, W 9.337, communication 0.601) and the measured bubble rates by
# micro-batches
PROFILE = (18.522, 18.086, 9.337, 0.601)
MEASURED = {
    24: (0.2431, 0.1585, 0.1083),
    32: (0.1985, 0.1242, 0.0837),
    64: (0.1240, 0.0674, 0.0444),
}


@pytest.mark.parametrize("batches", MEASURED)
def test_bubbles_follow_the_published_measurements(batches):
    f, i, w, transfer = PROFILE
    stages = Stages.even(8, f, i, w, transfer_s=transfer)
    orders = (one_f_one_b, zero_bubble_h1, zero_bubble_free)
    found = [run(order(8, batches), stages).bubble for order in orders]
    # measured on real machines: 5 % covers what the profile does not (largest seen: 4.3 %)
    assert found == pytest.approx(MEASURED[batches], rel=0.05)


@pytest.mark.parametrize("memory", [4, 5, 7, 100])
def test_search_is_never_worse_than_the_named_orders(memory):
    for f, i, w in ((1, 1, 1), (1, 2, 0.5), (2, 1, 1)):
        stages = Stages.even(4, f, i, w, transfer_s=0.1)
        best = search(stages, 8, memory)
        assert max(best.peak_memory) <= memory
        for name in set(NAMED) - {"interleaved"}:
            named = run(NAMED[name](4, 8), stages)
            if max(named.peak_memory) <= memory:
                assert best.span <= named.span


def test_search_works_below_the_memory_of_every_named_order():
    best = search(Stages.even(4, 1, 1, 1), 8, memory=2)
    assert max(best.peak_memory) == 2
    assert sum(map(len, best.order)) in (4 * 8 * 3, 4 * 8 * 2)


def test_search_takes_skip_edges_and_uneven_stages():
    edges = ((0, 1, 0.1), (0, 2, 0.1), (1, 3, 0.1), (2, 3, 0.1), (0, 3, 0.2))
    stages = Stages((1, 2, 1, 1), (1, 2, 1, 1), (1, 1, 1, 1), edges=edges)
    best = search(stages, 6, memory=6)
    again = run(parse_order(print_order(best.order)), stages)
    assert again.span == best.span
    for batch in range(6):
        join = best.start[Action(3, "F", batch)]
        assert join >= best.finish[Action(1, "F", batch)] + 0.1
        assert join >= best.finish[Action(2, "F", batch)] + 0.1
    assert best.span >= 6 * 5  # the work of stage 1


@pytest.mark.parametrize("name", GREEDY)
@pytest.mark.parametrize("ranks_of", [(0, 1, 0, 1), (0, 1, 0), (0, 1, 2, 1, 0), (1, 0, 0, 1)])
def test_schedules_of_one_stage_per_rank_have_a_form_for_several(name, ranks_of):
    n = len(ranks_of)
    for batches in (1, 2, 5):
        stages = Stages((1.0,) * n, (1.0,) * n, (1.0,) * n, rank_of=ranks_of)
        order = GREEDY[name](stages, batches)
        run(order, stages)  # refuses orders that wait for themselves
        kinds = "FB" if name == "1f1b" else "FIW"
        wanted = {Action(s, k, b) for s in range(n) for k in kinds for b in range(batches)}
        assert {a for row in order for a in row} == wanted
        for rank, row in enumerate(order):
            assert {ranks_of[action.stage] for action in row} == {rank}


def test_the_form_for_several_stages_is_1f1b_where_there_is_one():
    """Gradients that are not ready when a forward is are those of the warm-up."""
    for ranks, batches in ((1, 3), (2, 4), (4, 8)):
        even = Stages.even(ranks, 1.0, 0.5, 0.5)
        assert GREEDY["1f1b"](even, batches) == one_f_one_b(ranks, batches)


def test_search_refuses_when_nothing_fits():
    with pytest.raises(s.ScheduleError, match=r"one micro-batch keeps 1 on a rank, cap 0\.5"):
        search(Stages.even(2, 1, 1, 1), 4, memory=0.5)


def test_an_order_that_waits_for_itself_is_refused():
    order = parse_order("0B0 0F0\n1F0 1B0")
    with pytest.raises(s.ScheduleError, match="rank 0 waits at 0B0 for 0F0"):
        run(order, Stages.even(2, 1, 1, 1))
