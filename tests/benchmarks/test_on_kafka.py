"""Benchmarks that start a Kafka of their own, as short as they can be."""

import json
from pathlib import Path

import pytest

from benchmarks import adoption, members
from tests.broker.running import broker

__all__ = ["broker"]

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.usefixtures("broker"), pytest.mark.timeout(300)]


def test_every_version_is_adopted_after_it_was_published(tmp_path: Path) -> None:
    """A figure below zero would be of two clocks, or of a version that was there before."""
    assert adoption.main(["--quick", "--json", str(tmp_path / "delays.json")]) == 0

    delays = json.loads((tmp_path / "delays.json").read_text())
    assert len(delays) == 4
    assert min(delays) >= 0


def test_errors_are_of_every_event_by_any_number_of_members(tmp_path: Path) -> None:
    """Rare as these are, a share of wrong predictions above one half would be of other rows than it says."""
    assert members.main(["--quick", "--json", str(tmp_path / "errors.json")]) == 0

    figures = json.loads((tmp_path / "errors.json").read_text())
    assert figures.keys() == {"1", "2"}
    for count, one in figures.items():
        assert len(one["partitions"]) == 8
        assert max(one["partitions"]) < 0.5
        assert one["engines"] == [1 + failed for failed in one["failed"]]  # a rebalance alone makes none
        assert len(one["engines"]) == int(count)
