"""The paired test over events: when "better" may be said."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from streammeta.errors import ConfigError
from streammeta.review.paired import compare, lines, paired, read_report, within
from streammeta.review.trace import encode_errors

Doubles = npt.NDArray[np.float64]


def clustered(n: int, random: np.random.Generator) -> Doubles:
    """Noise of mean 0 that stays high or low for some twenty events, as errors after drifts do."""
    noise = random.normal(size=n)
    for i in range(1, n):
        noise[i] += 0.9 * noise[i - 1]
    return noise


def report(errors: dict[str, Doubles], seen: str = "abc") -> dict[str, Any]:
    count = len(next(iter(errors.values())))
    learners = {name: {"errors": encode_errors(values.tolist(), "regression")} for name, values in errors.items()}
    return {"learners": learners, "labels_seen": {"count": count, "sha256": seen}}


def test_equal_learners_are_seldom_called_different_even_where_errors_cluster() -> None:
    """A test over single events would cry "better" in most of these runs; this is what the blocks are for."""
    random = np.random.default_rng(1)
    runs, wrong, naive = 200, 0, 0

    for _ in range(runs):
        difference = clustered(3000, random)
        p = paired("A", difference, "B", np.zeros(3000)).p
        assert p is not None
        wrong += p < 0.05
        naive += abs(difference.mean()) > 1.96 * difference.std() / 3000**0.5

    assert wrong / runs < 0.12
    assert naive / runs > 0.5


def test_a_real_difference_is_found_and_its_interval_holds_it() -> None:
    """By hand: B errs in 5 % more of the events."""
    random = np.random.default_rng(2)
    b = (random.random(4000) < 0.25).astype(float)
    a = np.where(random.random(4000) < 0.2, 0.0, b)

    found = paired("A", a, "B", b)

    assert found.verdict == "A is better"
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.difference < found.high < 0
    assert found.difference == pytest.approx(-0.05, abs=0.015)
    assert (found.only_a_wrong, found.only_b_wrong) == (0, int((b - a).sum()))


def test_what_one_did_not_predict_is_left_out_for_both() -> None:
    """Else whoever keeps silent on hard events would win."""
    a, b = np.array([1.0, 5.0, np.nan, 2.0]), np.array([2.0, np.nan, 1.0, 2.0])

    found = paired("A", a, "B", b)

    assert (found.events, found.error_a, found.error_b) == (2, 1.5, 2.0)
    assert found.p is None
    assert found.verdict.startswith("too few events to decide (2, wanted 150)")


def test_reports_about_other_events_are_refused() -> None:
    """Their events cannot be paired."""
    errors = {"streammeta": np.ones(10)}

    with pytest.raises(ConfigError, match="wanted two replays of one stream"):
        compare(report(errors), report(errors, seen="xyz"))
    with pytest.raises(ConfigError, match="B has no learner 'ARF'; wanted one of streammeta"):
        compare(report(errors | {"ARF": np.ones(10)}), report(errors), learner="ARF")


def test_learners_of_two_reports_and_of_one_are_paired_by_name() -> None:
    """The two questions people have: did my change help, and is it better than what I use now."""
    random = np.random.default_rng(3)
    base = random.random(600)
    one = report({"streammeta": base, "ARF": base + 0.1})
    two = report({"streammeta": base + 0.2 + 0.01 * random.normal(size=600)})

    (between,) = compare(one, two)
    (inside,) = within(one)
    (crossed,) = compare(one, two, learner="ARF", other="streammeta")

    assert between.verdict == "A: streammeta is better"
    assert inside.verdict == "streammeta is better"
    assert crossed.verdict == "A: ARF is better"
    assert "A: streammeta" in lines([between])[0]
    assert "600 events" in lines([between])[0]
    json.dumps(between.figures(), allow_nan=False)


@pytest.mark.parametrize(
    "text", ["", "[]", '{"learners": {}}', '{"learners": {"a": {}}}', '{"learners": {"a": {"errors": 3}}}']
)
def test_a_file_that_is_no_report_is_named(tmp_path: Path, text: str) -> None:
    """It may have come by mail."""
    path = tmp_path / "a.json"
    path.write_text(text)

    with pytest.raises(ConfigError, match=r"a\.json: not a report that can be compared"):
        read_report(path)
