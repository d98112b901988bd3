"""benchmarks.detection: detectors in the engine, on streams whose drifts are known."""

import json

from benchmarks.detection import main, scored, table
from streammeta.engine.outcome import Outcome, Signal
from streammeta.event import Event, Origin
from streammeta.simulators import Sample


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
    assert (row["found"], row["missed"], row["delays"], row["false_in_1000"]) == (1, 1, [7], 30.0)


def test_seeds_are_put_together():
    """Found, missed and delays over all of them; what is a rate is a mean."""
    one = scored(*story({20}, {25}, {0}), within=None)
    other = scored(*story({20, 50}, {59, 99}, {}), within=30)

    *_, line = table({"adwin": [one, other]})

    assert line == "| adwin | 2 | 1 | 7 | 5.00 | 99.50% | 100.0% |"


def test_every_detector_asked_for_has_its_line(tmp_path, capsys):
    """A detector that cannot run must not vanish from the table."""
    out = tmp_path / "table.md"
    asked = ["stagger", "--events", "400", "--seeds", "1", "2", "--set", "concept_events=100", "--response", "reset"]

    assert main([*asked, "--detectors", "none", "page-hinkley", "--markdown", str(out)]) == 0

    title, _, _, _, *lines = out.read_text().splitlines()
    assert title == "stagger: 400 events, seeds 1, 2"
    assert [line.split(" | ")[0] for line in lines] == ["| none", "| page-hinkley"]
    assert lines[0].split(" | ")[1:5] == ["0", "6", "-", "0.00"]
    assert out.read_text().strip() == capsys.readouterr().out.strip()


def test_a_run_is_written_down_and_not_repeated(tmp_path, capsys):
    """A table of an hour that is cut off goes on where it was."""
    out = tmp_path / "figures.json"
    out.write_text(json.dumps({"sea none mix 6000 seed=0": scored(*story({20}, {25}, {}), within=None)}))

    assert main(["sea", "--detectors", "none", "--quick", "--json", str(out)]) == 0

    assert "| none | 1 | 0 | 5 | 0.00 | 100.00% | 100.0% |" in capsys.readouterr().out
