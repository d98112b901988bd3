"""The engine as a plain object: it predicts, learns a label that comes late, notices a drift, is saved and restored.

No I/O, no clock, no threads: what it says depends on the events alone.
"""

import random

from streammeta import Engine, EngineSettings, Event, Label, Origin, Signal


def main() -> None:
    """One task whose concept turns round after 300 events."""
    draw = random.Random(1)
    engine = Engine(EngineSettings(kind="classification", seed=1))
    errors = {"before": [], "after": []}
    for i in range(600):
        x = {"a": draw.uniform(-1, 1), "b": draw.uniform(-1, 1)}
        y = int((x["a"] + x["b"] > 0) == (i < 300))
        origin = Origin("example", 0, i)

        (predicted,) = engine.step([Event(x, "device-1", origin, id=str(i))])  # known later: y
        (learned,) = engine.step([Label(str(i), y, "device-1", origin)])

        errors["before" if i < 300 else "after"].append(predicted.prediction != y)
        if learned.signal is Signal.DRIFT:
            print(f"event {i}: the concept has changed")
    for when, found in errors.items():
        print(f"error {when} the change: {sum(found) / len(found):.3f}")

    again = Engine.restore(engine.settings, engine.snapshot())
    probe = Event({"a": 0.4, "b": 0.3}, "device-1", Origin("example", 0, 600))
    (one,), (other,) = engine.predict([probe]), again.predict([probe])
    print("a restored engine says the same:", one.probabilities == other.probabilities)


if __name__ == "__main__":
    main()
