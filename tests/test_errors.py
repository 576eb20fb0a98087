"""The pieces that error messages are made of, and the exceptions themselves."""

from __future__ import annotations

import copy
import pickle

import pytest

import raysym as mx
from raysym.errors import did_you_mean, node_message, sentence, some


def test_sentence_fills_the_template() -> None:
    assert (
        sentence("axis out of range", 5, "-2 to 1") == "axis out of range: got 5, expected -2 to 1"
    )
    assert sentence("no data") == "no data"
    assert sentence("bad", got=0, fix="Use 1") == "bad: got 0. Use 1"


def test_a_message_has_at_most_three_lines_of_context() -> None:
    text = node_message("Pooling", "pool", "wrong", ["a", "b", "c", "d"])
    assert text == "Pooling 'pool': wrong\n  a\n  b\n  c"


def test_did_you_mean_offers_the_closest_word_or_nothing() -> None:
    assert did_you_mean("kernal", ["kernel", "stride"]) == "Did you mean 'kernel'?"
    assert did_you_mean("xyz", ["kernel", "stride"]) == ""


def test_some_shortens_long_lists() -> None:
    assert some(["a", "b"]) == "a, b"
    assert some([str(i) for i in range(12)]) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more"


@pytest.mark.parametrize(
    "name",
    ["MXNetError", "NotImplementedForSymbol", "PlanError", "PlacementError", "WorkerError"],
)
def test_exceptions_pickle(name: str) -> None:
    error = getattr(mx, name)("Op 'node': wrong: got 1, expected 2")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(copy.copy(error)) == str(error)
    assert isinstance(error, RuntimeError)
