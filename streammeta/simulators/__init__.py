"""Seeded streams of many tasks that change their concepts: for demos, tests and measurements.

>>> from streammeta.simulators import simulate
>>> for sample in simulate("shared-representation", events=2, seed=1, tasks=10):
...     record = sample.to_json()  # what a producer would send
"""

from streammeta.simulators.families import hidden_features
from streammeta.simulators.sample import LateLabel, Sample, with_late_labels
from streammeta.simulators.scenarios import SCENARIOS, Scenario, simulate
from streammeta.simulators.stream import stream
from streammeta.simulators.truth import Alarm, Detection, Drift, detection, noted, read_truth
from streammeta.simulators.world import DriftKind, StreamSettings, World

__all__ = [
    "SCENARIOS",
    "Alarm",
    "Detection",
    "Drift",
    "DriftKind",
    "LateLabel",
    "Sample",
    "Scenario",
    "StreamSettings",
    "World",
    "detection",
    "hidden_features",
    "noted",
    "read_truth",
    "simulate",
    "stream",
    "with_late_labels",
]
