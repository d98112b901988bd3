"""Contributions in prediction records: of what was known before the event, and without any effect on what follows."""

import json
import math
import threading
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from streammeta.engine import Engine, EngineSettings, MetaSettings
from streammeta.event import Decoder, Event, Origin, Record
from streammeta.meta.settings import LearnerSettings
from streammeta.service.contributions import contributions, shapley
from streammeta.service.http import Health
from streammeta.service.loop import Options, Service
from streammeta.service.metrics import Metrics
from streammeta.transport.memory import MemorySink, MemorySource


def settings(kind: str) -> EngineSettings:
    return EngineSettings(
        kind=kind, learner=LearnerSettings(hidden=8, encoded=4, memories=(20.0,)), meta=MetaSettings(every_events=16)
    )


def records(count: int, kind: str) -> list[bytes]:
    """Events of seven features, of which "f0" decides; each third one has its label in a record of its own; one is broken."""
    found = []
    for i in range(count):
        x = {f"f{j}": math.sin(i * (j + 1)) for j in range(7)}
        y = 2.0 * x["f0"] if kind == "regression" else int(x["f0"] > 0)
        event = {"id": str(i), "task": f"t{i % 2}", "x": x, "y": y}
        late = {"id": str(i), "task": f"t{i % 2}", "y": event.pop("y")} if i % 3 == 0 else None
        found.append(json.dumps(event).encode())
        found += [] if late is None else [json.dumps(late).encode()]
    return [*found[:20], b"{", *found[20:]]


def predicted(kind: str, values: list[bytes], **options: Any) -> list[dict[str, Any]]:
    """The prediction records of a run."""
    sink = MemorySink()
    service = Service(
        Engine(settings(kind)),
        sink,
        decoder=Decoder(),
        options=Options(poll_records=50, poll_seconds=0.0, **options),
        metrics=Metrics(CollectorRegistry()),
        health=Health(lambda: 0.0),
    )
    service.run(MemorySource(values, topic="in"), threading.Event())
    return [json.loads(message.value) for message in sink["predictions"]]


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_each_prediction_says_what_its_features_contributed_and_is_what_it_was(kind: str) -> None:
    """They add up to the prediction that stands beside them; and to explain must not change what is predicted or learned."""
    values = records(90, kind)

    plain, explained = predicted(kind, values), predicted(kind, values, explain_orders=4)

    why = [one.pop("explanation") for one in explained]
    assert explained == plain
    assert len(why) == 90
    known = [(one, said) for one, said in zip(why, plain, strict=True) if said["prediction"] is not None]
    assert [one is None for one in why] == [said["prediction"] is None for said in plain]  # nothing was learned yet
    assert len(known) > 80
    for one, said in known:
        whole = said["mean"] if kind == "regression" else said["probabilities"][str(said["prediction"])]
        total = one["without_features"] + sum(one["contributions"].values())
        assert one["of"] == ("mean" if kind == "regression" else "probability")
        assert total == pytest.approx(whole, abs=1e-6)
        assert set(one["contributions"]) == {f"f{j}" for j in range(7)}
    late = [one["contributions"] for one, _ in known[-20:]]
    mean = {name: sum(abs(one[name]) for one in late) for name in late[0]}
    assert max(mean, key=lambda name: mean[name]) == "f0"


def test_it_is_what_the_command_says_of_the_state_before_the_event() -> None:
    """One code for both: an operator who asks again gets the answer of the record."""
    values, engine = records(40, "regression"), Engine(settings("regression"))
    decoder = Decoder()
    last = Event({f"f{j}": 0.1 * j for j in range(7)}, "t0", Origin("in", 0, 999), id="last")
    for i, value in enumerate(values):
        if value != b"{":
            engine.step([decoder.decode(Record(value, Origin("in", 0, i)))])

    found = contributions(engine, last, orders=4)
    written = predicted(
        "regression", [*values, json.dumps({"task": "t0", "x": dict(last.x)}).encode()], explain_orders=4
    )

    assert found is not None
    assert written[-1]["explanation"]["contributions"] == pytest.approx(
        {one.feature: one.contribution for one in found.features}, abs=1e-6
    )
    engine.close()


def test_one_pair_of_orders_is_exact_for_sums_and_for_pairs_of_features() -> None:
    """Which is why few orders will do: only interactions of three and more are drawn."""
    names = [f"f{j}" for j in range(8)]

    def value(known: frozenset[str]) -> float:
        linear = sum(j * (name in known) for j, name in enumerate(names))
        return linear + 6.0 * ({"f1", "f5"} <= known)

    found, _ = shapley(names, value, orders=2)

    assert found == pytest.approx({name: j + 3.0 * (name in ("f1", "f5")) for j, name in enumerate(names)})


def test_the_time_since_the_event_before_contributes_as_any_feature_does() -> None:
    """It is no field of the record: where it stayed in each part, it decided and no explanation named it."""
    small = settings("regression")
    learner = small.learner.model_copy(update={"experts": ()})  # experts have their say without it, too
    timed = EngineSettings(kind="regression", learner=learner, meta=small.meta, elapsed="ts.elapsed")
    engine, ts = Engine(timed), 0.0
    for i in range(120):
        gap = 1.0 + i % 5
        ts += gap
        engine.step([Event({"a": math.sin(i)}, "t", Origin("in", 0, i), y=3.0 * gap, ts=ts)])
    event = Event({"a": 0.5}, "t", Origin("in", 0, 200), ts=ts + 5.0)

    found = contributions(engine, event)
    (said,) = engine.predict([event])

    assert found is not None
    first = found.features[0]
    assert (first.feature, first.value) == ("ts.elapsed", 5.0)
    assert first.contribution > 0.5
    assert found.predicted == said.prediction
    assert found.without_features + sum(one.contribution for one in found.features) == pytest.approx(found.predicted)
    engine.close()
