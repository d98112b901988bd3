"""A day of load under the chart's own rules for scaling, in simulated time: no member more than needed, and no flapping."""

import math
from itertools import pairwise

import pytest

from deploy.check.conftest import CHART
from deploy.check.scaler import LOOK_SECONDS, Rules, Scaler, rules

PARTITIONS = 8
DAY = 86_400.0
CAPACITY = 1_000.0  # events a second that a member can do
RESTORE_SECONDS = 20.0  # without any work, after members changed


@pytest.fixture
def chart_rules(rendered, tmp_path) -> Rules:
    """Of the chart's values for a service that is monitored and scaled, with as many members as partitions allowed."""
    objects = rendered(CHART / "ci/5-monitored-and-scaled.yaml")
    (scaled,) = (one for one in objects if one["kind"] == "ScaledObject")
    return rules(scaled)._replace(least=1, most=PARTITIONS)


def day(rules: Rules, peak: float, noise: float = 0.0) -> tuple[list[int], float, float]:
    """Members at each look, the longest delay in seconds, and what is left at the end, in records."""
    scaler, lag, members, delay = Scaler(rules, 1), 0.0, [1], 0.0
    busy, away = 0.0, 0.0  # of all members, a mean over the last five minutes
    for step in range(int(DAY / LOOK_SECONDS)):
        now = step * LOOK_SECONDS
        rate = peak * (0.05 + 0.95 * math.sin(math.pi * now / DAY) ** 4) * (1 + noise * math.sin(now / 97))
        working = LOOK_SECONDS - min(away, LOOK_SECONDS)
        away = max(0.0, away - LOOK_SECONDS)
        done = min(lag + rate * LOOK_SECONDS, members[-1] * CAPACITY * working)
        lag += rate * LOOK_SECONDS - done
        busy += (done / (CAPACITY * LOOK_SECONDS) - busy) * LOOK_SECONDS / 300
        delay = max(delay, lag / max(rate, 1.0))
        waits = lag / PARTITIONS + 1  # the marker of a commit, in each
        members.append(scaler.look(now, [waits] * PARTITIONS, busy))
        if members[-1] != members[-2]:
            away = RESTORE_SECONDS
    return members, delay, lag


@pytest.mark.parametrize("noise", [0.0, 0.1], ids=["smooth", "restless"])
def test_a_day_goes_from_one_member_to_eight_and_back_without_flapping(chart_rules: Rules, noise: float) -> None:
    """Each change moves partitions: a scaler that goes up and down makes the backlog that it fears."""
    members, delay, lag = day(chart_rules, peak=5_900.0, noise=noise)

    changes = [after - before for before, after in pairwise(members) if after != before]
    turns = sum(one * other < 0 for one, other in pairwise(changes))
    assert (members[0], max(members), members[-1]) == (1, PARTITIONS, 1)
    assert turns == 1, changes
    assert max(changes) <= 2
    assert min(changes) == -1
    assert delay < 300
    assert lag < CAPACITY


def test_markers_of_commits_alone_bring_no_member(chart_rules: Rules) -> None:
    """They are a lag of one a partition for ever."""
    scaler = Scaler(chart_rules, 1)

    assert {scaler.look(60.0 * k, [1.0] * PARTITIONS, 0.05) for k in range(60)} == {1}


def test_by_hand(chart_rules: Rules) -> None:
    """12,000 records of backlog want three members at 5,000 each; they come after a minute, two at a time."""
    scaler = Scaler(chart_rules._replace(lag_threshold=5_000.0, up_window=60.0, up_pods=2, up_period=60.0), 1)

    said = [scaler.look(at, [1_500.0] * PARTITIONS, 0.5) for at in (0.0, 15.0, 60.0)]

    assert said == [1, 1, 3]


def test_one_partition_with_all_the_backlog_brings_no_more_than_one_member(chart_rules: Rules) -> None:
    """The others would be idle."""
    scaler = Scaler(chart_rules, 1)

    assert scaler.look(0.0, [1e6, *[0.0] * (PARTITIONS - 1)], 0.7) == 1
