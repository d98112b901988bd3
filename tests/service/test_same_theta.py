"""A trainer makes the θ that a replay makes in mode "sync" of the same labelled events, to the bit.

Both begin with the same seed and the same normalization, which a trainer has of the members' sums. Of what a trainer
does beside learning (judging, publishing, reading by turns) nothing may show in θ.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import pytest

from streammeta.app.replay import Begun, replay
from streammeta.config import Settings
from streammeta.engine import Engine
from streammeta.engine.episodes import decode_segment
from streammeta.engine.weights import Weights
from streammeta.report import Tally
from streammeta.service.published import SUMS
from streammeta.transport.memory import MemorySource
from streammeta.transport.memory_log import MemoryLog
from tests.service.test_members import PARTITIONS, fill
from tests.service.test_trainer import Training, backlog, members, serve, versions


class Read(NamedTuple):
    """A segment, as a trainer reads it."""

    partition: int
    key: bytes
    value: bytes


def replayed(settings: Settings, segments: Sequence[Read], sums: Mapping[int, bytes]) -> Weights:
    """θ after a replay of the events in these segments, under the normalization that these sums say."""
    counting, engine = Engine(settings.engine()), Engine(settings.engine())
    for number in sorted(sums):
        counting.add_sums(number, sums[number], "here")
    counting.memory.shared.rescale(counting.memory.features.categories)
    engine.adopt(counting.shared_weights(), train=True, fixed=True)
    replay(settings, MemorySource(records(segments)), None, Tally(settings.engine().kind), begun=Begun(engine, {}))
    return engine.shared_weights()


def records(segments: Sequence[Read]) -> list[bytes]:
    """Their events as JSON, each once: a young task's first segment is written again when it is full."""
    found, known = [], dict[tuple[int, str], int]()
    for one in segments:
        tag, segment = decode_segment(one.key, one.value, "here")
        first = known.get((one.partition, tag), 0)
        for number, (x, y) in enumerate(zip(segment.xs(), segment.y, strict=True), segment.begin):
            if number >= first:
                found.append(json.dumps({"task": f"{one.partition} {tag}", "x": x, "y": y}).encode())
        known[one.partition, tag] = segment.begin + len(segment.y)
    return found


def assert_same_theta(found: Weights, wanted: Weights) -> None:
    """θ, what the optimizer remembers, and the draws to come, to the bit."""
    assert found.version == wanted.version
    names = [name for name in found.arrays if name.startswith(("theta.", "outer."))]
    assert len(names) > 4
    different = [name for name in names if found.arrays[name].tobytes() != wanted.arrays[name].tobytes()]
    assert different == []
    assert found.random == wanted.random
    assert found.counts == wanted.counts


def recorded(engine: Engine) -> list[Read]:
    """The segments that an engine learns from now on, in their order; the list grows."""
    found: list[Read] = []
    learn = engine.observe_episode

    def noting(partition: int, key: bytes, value: bytes, at: str) -> Any:
        found.append(Read(partition, key, value))
        return learn(partition, key, value, at)

    engine.observe_episode = noting  # type: ignore[method-assign]
    return found


@pytest.mark.parametrize("publish_every_seconds", [0.0, 1.0])
def test_a_trainer_makes_the_theta_of_a_replay_to_the_bit(publish_every_seconds: float) -> None:
    """Two ways to learn the same θ that differ by a bit are two algorithms, of which only one was measured."""
    log = MemoryLog("in", PARTITIONS)
    fill(log, 2_000)
    group = members(log, 2)
    while backlog(group):
        serve(log, group, None, 1)
    for one in group:
        one.service._commit()
    trainer = Training(log)
    trainer.trainer._options = replace(trainer.trainer._options, publish_every_seconds=publish_every_seconds)
    segments = recorded(trainer.trainer.engine)

    trainer.rounds(400)

    found = versions(log)[-1]
    assert found.version > 10
    sums = {int(e.key.removeprefix(SUMS)): e.value for _, e in log.read("weights", 0) if e.key.startswith(SUMS)}
    settings = Settings.model_validate({"meta": {"mode": "sync"}})
    assert_same_theta(found, replayed(settings, segments[: found.about.segments], sums))
