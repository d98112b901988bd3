"""benchmarks.digest: what five replays answer, held to the bit."""

import pytest

from benchmarks.digest import main


def test_five_replays_answer_what_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    """A refactoring that changes a prediction would pass every other test, as one that is a little worse does.

    Whoever means to change predictions runs ``python -m benchmarks.digest --write``, and says so in the commit.
    """
    status = main([])

    answer = capsys.readouterr().out
    assert status == 0, answer
    assert answer.count("same") == 5
