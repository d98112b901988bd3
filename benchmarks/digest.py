"""Does this version predict what the version before did, to the bit? For changes that are to change nothing.

    python -m benchmarks.digest [--write]

Writes five small simulated streams as files, replays each through the service's loop, and compares a digest of all that
was answered with the one that is kept in ``digest.json``. What differs is named, and the exit status is 1. Who means to
change predictions says so in the commit, and keeps the new digests with ``--write``.

Together the five pass what a change of the engine could disturb: both kinds of prediction, labels that come late or
never, missing features, units of a task's own, rows in the spill, all three responses to a drift, experts, ten classes,
a stream without tags, and meta-updates in between.
"""

import argparse
import hashlib
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import structlog

from streammeta.app.replay import replay
from streammeta.config import Settings
from streammeta.engine import Outcome
from streammeta.report import Tally
from streammeta.simulators.sample import with_late_labels
from streammeta.simulators.scenarios import SCENARIOS, simulate
from streammeta.transport.file import FileSource

__all__ = ["STREAMS", "Stream", "digest", "main"]

_KEPT = Path(__file__).with_suffix(".json")
_SAID = [field.name for field in msgspec.structs.fields(Outcome) if field.name != "event"]


@dataclass(frozen=True)
class Stream:
    """A file, and the settings it is replayed with."""

    scenario: str
    shape: Mapping[str, Any]  # the scenario's settings
    settings: Mapping[str, Any]  # ours, by section
    events: int = 1_200
    has_tags: bool = True


STREAMS = {
    "late labels, missing features, spill": Stream(
        "stagger",
        {"tasks": 6, "concept_events": 80, "missing": 0.1, "label_delay": 9, "labelled": 0.8, "scale_spread": 1.0},
        {"memory": {"max_tasks": 3}, "drift": {"detector": "change-point"}},
    ),
    "numbers in units of their own": Stream(
        "switching-sinusoids",
        {"tasks": 6, "concept_events": 100, "scale_spread": 1.0, "offset_spread": 3.0},
        {"drift": {"keep_events": 3}},
    ),
    "concepts that come back": Stream(
        "mixed",
        {"tasks": 3, "concept_events": 100},
        {"drift": {"response": "recall", "detector": "change-point"}},
    ),
    "ten classes, no tags": Stream(
        "led",
        {"tasks": 1, "concept_events": 400},
        {"drift": {"response": "reset", "detector": "page-hinkley"}},
        events=800,
        has_tags=False,
    ),
    "experts": Stream(
        "mixed",
        {"tasks": 5, "concept_events": 120, "label_delay": 4},
        {
            "memory": {"max_tasks": 3, "max_known_tasks": 4},
            "learner": {"experts": ["persistence", "neighbours", "forest"]},
            "meta": {"sampling": "loss", "escalate_events": 40},
        },
    ),
}


class _Digest:
    """Observes a run."""

    def __init__(self) -> None:
        self._sum = hashlib.sha256()

    def __call__(self, outcomes: Sequence[Outcome], rejected: int) -> None:
        """Add all that these outcomes say, floats as their shortest exact text."""
        for one in outcomes:
            said = [getattr(one, name) for name in _SAID]
            self._sum.update(f"{one.event.origin.offset} {said!r}\n".encode())
        self._sum.update(f"{rejected}\n".encode())

    @property
    def value(self) -> str:
        """Of all so far."""
        return self._sum.hexdigest()


def digest(stream: Stream, folder: Path) -> str:
    """The digest of all outcomes of a replay of this stream, whose file is written into ``folder``."""
    path = folder / "events.jsonl"
    samples = with_late_labels(simulate(stream.scenario, events=stream.events, seed=3, **stream.shape))
    lines = [json.loads(sample.to_json()) for sample in samples]
    for line in lines:
        if not stream.has_tags:
            del line["task"]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    kind = SCENARIOS[stream.scenario].kind
    settings = Settings.model_validate({"app": {"kind": kind, "seed": 1}} | stream.settings)
    found = _Digest()
    with closing(FileSource(path)) as source:
        replay(settings, source, None, Tally(kind), observers=(found,))
    return found.value


def main(arguments: list[str] | None = None) -> int:
    """Print what differs from what is kept, or keep it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="keep the digests of now")
    options = parser.parse_args(arguments)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    found = {}
    for name, stream in STREAMS.items():
        with TemporaryDirectory() as folder:
            found[name] = digest(stream, Path(folder))
    if options.write:
        _KEPT.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        return 0
    kept = json.loads(_KEPT.read_text(encoding="utf-8"))
    for name, value in found.items():
        print(f"{'same' if value == kept.get(name) else 'DIFFERS'}  {name}  {value[:16]}")
    return int(found != kept)


if __name__ == "__main__":
    sys.exit(main())
