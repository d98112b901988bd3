"""Flights whose labels come when they have landed."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.flights import main, table
from benchmarks.peers.prequential import Prediction, Row, Rows, prequential, read_rows
from benchmarks.suite.table import write

_COMMON = {"year": "2013", "month": "1", "day": "1", "origin": "JFK", "tailnum": "N1", "distance": "500"}


def flight(sched: str, delay: str, air: str, arrived: str, carrier: str = "UA", dest: str = "BOS") -> dict[str, str]:
    times = {"sched_dep_time": sched, "sched_arr_time": "30", "dep_delay": delay, "air_time": air, "arr_delay": arrived}
    return _COMMON | times | {"carrier": carrier, "dest": dest}


FLIGHTS = [
    flight("600", "0", "60", "0"),  # lands at 7:00
    flight("2300", "0", "60", "0", dest="ORD"),  # after the last
    flight("615", "10", "NA", "NA"),  # diverted
    flight("610", "-5", "20", "15", carrier="AA"),  # lands at 6:25, not late: fifteen minutes are not more
    flight("625", "30", "90", "16"),  # lands at 8:25, late
    flight("700", "0", "10", "-3", dest="ORD"),
]


class Listener:
    """What comes, in its order."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def event(self, row: Row, *, labelled: bool) -> Prediction:
        assert not labelled
        self.heard.append(f"event {row.number}")
        return 0.0

    def label(self, row: Row) -> None:
        self.heard.append(f"label {row.number}")


def test_a_label_comes_before_the_first_flight_that_leaves_after_the_landing(tmp_path: Path) -> None:
    found, path = table(FLIGHTS, "destination", 100), tmp_path / "flights.csv"
    write(found, path)
    rows, listener = read_rows(path), Listener()

    prequential(listener, rows)

    wanted = "event 0, event 1, label 1, event 2, label 0, event 3, label 2, label 3, event 4, label 4"
    assert ", ".join(listener.heard) == wanted
    assert rows.tasks == ["BOS", "BOS", "BOS", "ORD", "ORD"]
    assert rows.ys.tolist() == [0, 0, 1, 0, 0]
    assert rows.categories == (5, 6, 7)
    np.testing.assert_array_equal(rows.xs[:, 2], [360, 370, 385, 420, 1380])  # minutes of the day
    np.testing.assert_array_equal(rows.xs[:, 4], [1110, 1100, 1085, 1050, 90])  # to half past midnight


@pytest.mark.parametrize("delay", [0, 2])
def test_a_constant_delay_is_one_of_rows(delay: int) -> None:
    """As before: the label of row i − delay comes after the event of row i."""
    heard: list[str] = []

    class Both(Listener):
        def event(self, row: Row, *, labelled: bool) -> Prediction:
            heard.append(f"event {row.number}{' labelled' * labelled}")
            return 0.0

        def label(self, row: Row) -> None:
            heard.append(f"label {row.number}")

    rows = Rows(["x"], np.zeros((4, 1)), [""] * 4, np.zeros(4))
    prequential(Both(), rows, delay=delay)

    late = ["event 0", "event 1", "event 2", "label 0", "event 3", "label 1"]
    assert heard == (late if delay else [f"event {i} labelled" for i in range(4)])


def test_without_the_package_it_says_how_to_fetch_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.flights._packed", lambda: None)

    assert main([]) == 1
    assert "fetch it with --setup" in capsys.readouterr().out
