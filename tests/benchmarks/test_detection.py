"""benchmarks.detection: detectors in the engine, on streams whose drifts are known."""

import json

from benchmarks.detection import main, scored
from simulators import Sample
from streammeta.engine.outcome import Outcome, Signal
from streammeta.event import Event, Origin


def story(drifts, alarms, errors, events=100):
    """Samples of one task with drifts at these events, and what an engine said of them."""
    samples = [Sample({"a": 0.0}, 1, "t", float(i), drifted=i in drifts) for i in range(events)]
    found = [
        Outcome(
            Event(s.x, s.task, Origin("test", 0, i), y=s.y),
            signal=Signal.DRIFT if i in alarms else Signal.STEADY,
            error=float(i in errors),
        )
        for i, s in enumerate(samples)
    ]
    return samples, found


def test_signals_and_the_events_after_a_switch_are_counted():
    """The README's table rests on it: the 11th to 20th event, late signals false, delays from the drift's first event."""
    samples, found = story(drifts={20, 60}, alarms={5, 27, 28, 95}, errors={30, 31, 39, 40, 29})

    row = scored(samples, found, within=30)

    assert row["accuracy"] == 0.95
    assert row["accuracy_soon"] == 1 - 3 / 20
    assert (row["found"], row["missed"], row["median_delay"], row["false_in_1000"]) == (1, 1, 7, 30.0)


def test_a_run_is_written_down_and_not_repeated(tmp_path, capsys):
    """A table of an hour that is cut off goes on where it was."""
    out = tmp_path / "figures.json"
    out.write_text(json.dumps({"sea none 6000": scored(*story({20}, {25}, {}), within=None)}))

    assert main(["sea", "--detectors", "none", "--quick", "--json", str(out)]) == 0

    assert "1/1        5   0.00  100.00  100.0" in capsys.readouterr().out
