"""benchmarks.event_way: how far a reader has to follow an event."""

from benchmarks.event_way import way

MOST_FILES, MOST_FUNCTIONS = 29, 85  # since Gaussian processes are mixed in by default


def test_the_way_of_an_event_gets_no_longer() -> None:
    """It grows by a function at a time, each with a good reason, until nobody can follow it. Lower these when it shrinks."""
    found = way()

    assert "Engine.step" in found["engine/engine.py"]
    assert len(found) <= MOST_FILES
    assert sum(map(len, found.values())) <= MOST_FUNCTIONS
