"""What to compare on: recorded files and simulated streams; what is predicted, how many rows, how late labels come."""

import csv
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.environments import ROOT
from benchmarks.peers.prequential import Rows, read_rows
from streammeta.engine import Kind
from streammeta.simulators import Sample, simulate

__all__ = ["FILES", "GROUPS", "File", "chosen", "data_folder", "described", "laid_out"]

_MOST_CLASSES = 64
_ABRUPT: Mapping[str, Any] = {"concepts": None, "concept_events": 5000, "schedule": "fixed", "drift": "abrupt"}
_RECURRING: Mapping[str, Any] = {"concepts": 3, "concept_events": 2500, "schedule": "fixed", "drift": "abrupt"}
_TURNING: Mapping[str, Any] = {"concept_events": 5000, "drift_width": 5000}
_SWITCH: Mapping[str, Any] = {"tasks": 300, "concept_events": 100}
_RETURN: Mapping[str, Any] = {"tasks": 60, "concept_events": 100}


@dataclass(frozen=True)
class File:
    """What the benchmark must know of a file, or of a stream that it simulates."""

    kind: Kind
    rows: int | None = None  # of the published table; None: all
    delay: int = 0  # rows after which a label comes
    scenario: str | None = None  # simulated: the name, else None
    settings: Mapping[str, Any] = field(default_factory=dict)  # of the scenario, where they are not its defaults

    @property
    def description(self) -> str:
        """How the stream is made, for the table; nothing for a recorded file."""
        settings = "".join(f" --set {name}={str(value).lower()}" for name, value in self.settings.items())
        return f"streammeta simulate {self.scenario}{settings} --seed 0" if self.scenario else ""


def _generated(scenario: str, settings: Mapping[str, Any]) -> File:
    return File("classification", 20_000, scenario=scenario, settings=settings)


_RECORDED: Mapping[str, File] = {
    "elec2": File("classification", 10_000),
    "outdoor": File("classification"),
    "gas_drift": File("classification"),
    "wisdm_mixed": File("classification"),
    "wisdm_users": File("classification"),
    "school": File("regression", 10_000),
    "movielens_users": File("classification", 10_000),
    "beijing_air": File("regression", 10_000, delay=48),  # 24 hours of 12 stations, every 6 hours
}
# Single streams without tags, 20,000 events. sea to rbf: every 5,000 events a concept that was not there before (SEA's
# bounds 8, 9, 7, 9.5; Agrawal's functions 1 to 4; STAGGER's descriptions 1, 2, 3, 1; the hyperplane turns all the time
# towards the next of such concepts). *_recurring: every 2,500 events abruptly another one of three concepts.
_GENERATED: Mapping[str, File] = {
    "sea": _generated("sea", _ABRUPT),
    "agrawal": _generated("agrawal", _ABRUPT),
    "stagger": _generated("stagger", _ABRUPT),
    "hyperplane": _generated("hyperplane", _TURNING),
    "rbf": _generated("random-rbf", _ABRUPT),
    "sea_recurring": _generated("sea", _RECURRING),
    "agrawal_recurring": _generated("agrawal", _RECURRING),
    "stagger_recurring": _generated("stagger", _RECURRING),
    "hyperplane_recurring": _generated("hyperplane", _RECURRING),
    "rbf_recurring": _generated("random-rbf", _RECURRING),
}
# 300 tasks speak in random order, 200 events each on average. They share four hidden features (products of the six that
# are seen, under which no linear model sees anything); each task's label is the sign of a linear concept of its own on
# them, 2 % wrong. After 75 to 125 of its events a task gets another concept, drawn again. Learners see the task and not
# the switch. Scored: how many of a task's 11th to 20th labels after each switch were predicted rightly.
_SWITCHING: Mapping[str, File] = {
    "switch": File("classification", 60_000, scenario="shared-representation", settings=_SWITCH),
    # The same, but 60 tasks switch among four concepts that come back.
    "recurring": File("classification", 60_000, scenario="recurring-concepts", settings=_RETURN),
}
FILES: Mapping[str, File] = {**_RECORDED, **_GENERATED, **_SWITCHING}
GROUPS: Mapping[str, Sequence[str]] = {
    "recorded": list(_RECORDED),
    "generated": list(_GENERATED),
    "all": list(FILES),
}


def chosen(names: Sequence[str]) -> list[str]:
    """Names of files, with those of a group in its place."""
    return [file for name in names for file in GROUPS.get(name, [name])]


def data_folder() -> Path:
    """Where the recorded streams lie: STREAMMETA_DATA, or shared/data beside the repository."""
    return Path(os.environ.get("STREAMMETA_DATA", ROOT.parent / "shared" / "data")) / "streams"


def described(name: str) -> File:
    """A file of the tables above, or another one of the folder: few whole numbers as labels are classes."""
    if name in FILES:
        return FILES[name]
    labels = np.unique(read_rows(data_folder() / f"{name}.csv.gz").ys)
    whole = bool(np.all(labels == np.floor(labels))) and bool(np.all(labels >= 0))
    return File("classification" if whole and labels.size <= _MOST_CLASSES else "regression")


def laid_out(name: str, file: File, limit: int | None, folder: Path) -> tuple[Path, Rows]:
    """The rows, and where runners read them: a simulated stream is written into ``folder``, without its truth."""
    if file.scenario is None:
        path = data_folder() / f"{name}.csv.gz"
        return path, read_rows(path, limit)
    samples = list(simulate(file.scenario, events=limit or file.rows, seed=0, **file.settings))
    path = folder / f"{name}.csv"
    _write(samples, path)
    switches = frozenset(number for number, sample in enumerate(samples) if sample.drifted)
    return path, replace(read_rows(path), switches=switches)


def _write(samples: Sequence[Sample], path: Path) -> None:
    """As recorded files are: features, the task where there are several, the label."""
    names = list(samples[0].x)
    tagged = len({sample.task for sample in samples}) > 1
    with path.open("w", newline="") as lines:
        table = csv.writer(lines)
        table.writerow([*names, *(["task"] if tagged else []), "y"])
        for sample in samples:
            table.writerow([*sample.x.values(), *([sample.task] if tagged else []), sample.y])
