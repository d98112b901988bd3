"""Reasons of records that were set aside."""

from streammeta.formats.refusal import Refusals


def test_reasons_of_one_kind_are_counted_together_and_the_commonest_comes_first() -> None:
    """Ten thousand reasons that differ in a row number tell a reader nothing."""
    refusals = Refusals()
    for row in range(7):
        refusals.add(f"a.csv/0/{row}: {row} cells, wanted 3 as in the header")
    refusals.add("a.csv/0/9: `y` is 'x', wanted a finite number")

    assert refusals.count == 8
    assert refusals.figures() == [
        {"count": 7, "reason": "a.csv/0/0: 0 cells, wanted 3 as in the header"},
        {"count": 1, "reason": "a.csv/0/9: `y` is 'x', wanted a finite number"},
    ]


def test_endless_kinds_of_reasons_take_bounded_memory() -> None:
    """A producer's garbage must not grow a service."""
    refusals = Refusals()
    for row in range(500):
        refusals.add(f"a/0/{row}: {'x' * row} is wrong")

    assert refusals.count == 500
    assert len(refusals.figures()) == 101
    assert refusals.figures()[-1] == {"count": 400, "reason": "other reasons"}
    assert list(refusals.lines())[-1] == "and 96 other kinds of reasons"
