"""The simulator's truth: written where learners do not read, and what alarms are scored by."""

import pytest

from streammeta.errors import TransportError
from streammeta.simulators import Alarm, Detection, Drift, detection, noted, read_truth, simulate

ONE_TASK = ["a"] * 100


def test_the_truth_is_told_beside_the_stream_and_read_back(tmp_path):
    """A recorded stream whose drifts nobody knows cannot score a detector."""
    kept = {"events": 3000, "seed": 3, "tasks": 4, "concept_events": 50}
    plain = list(simulate("sea", **kept))

    samples = list(noted(iter(plain), tmp_path / "new" / "truth.jsonl"))

    drifts = read_truth(tmp_path / "new" / "truth.jsonl")
    assert samples == plain
    assert [d.event for d in drifts] == [i for i, s in enumerate(plain) if s.drifted]
    assert all((plain[d.event].task, plain[d.event].concept) == (d.task, d.concept) for d in drifts)
    assert len(drifts) > 30


def test_alarms_are_found_false_or_missing_by_hand_count():
    """The three numbers trade off against each other; each must be exact for the trade to be fair."""
    drifts = [Drift(20, "a", 1), Drift(50, "a", 2), Drift(80, "a", 3)]
    alarms = [Alarm(event, "a") for event in (5, 20, 23, 49, 95)]

    assert detection(drifts, alarms, ONE_TASK) == Detection(2, 1, 3, (0, 15))
    assert detection(drifts, alarms, ONE_TASK, within=10) == Detection(1, 2, 4, (0,))
    assert detection(drifts, alarms, ONE_TASK).mean_delay == 7.5
    assert detection(drifts, [], ONE_TASK).mean_delay is None


def test_delays_are_counted_in_events_of_the_task():
    """Among a thousand tasks ten events of one are ten thousand of the stream."""
    tasks = ["a", "b", "b", "c"] * 25
    drifts = [Drift(40, "a", 1), Drift(41, "b", 1)]

    told = detection(drifts, [Alarm(60, "a"), Alarm(61, "b"), Alarm(63, "c")], tasks)

    assert told == Detection(found=2, missed=0, false_alarms=1, delays=(5, 10))


def test_a_file_that_is_not_the_truth_is_refused(tmp_path):
    """Scores by the wrong file would look like scores."""
    wrong = tmp_path / "wrong.jsonl"
    wrong.write_text('{"x": 1}\n')

    with pytest.raises(TransportError, match="wanted what simulate --truth writes"):
        read_truth(wrong)
    with pytest.raises(TransportError, match="cannot be written"):
        list(noted(simulate("sea", events=5), wrong / "below"))
