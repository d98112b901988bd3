"""Seeded streams of many tasks that change their laws: for demos, tests and measurements.

>>> from simulators import simulate
>>> for sample in simulate("shared-representation", events=2, seed=1, tasks=10):
...     record = sample.to_json()  # what a producer would send
"""

from simulators.sample import Sample
from simulators.scenarios import SCENARIOS, Scenario, hidden_features, simulate
from simulators.stream import DriftKind, StreamSettings, World, stream

__all__ = [
    "SCENARIOS",
    "DriftKind",
    "Sample",
    "Scenario",
    "StreamSettings",
    "World",
    "hidden_features",
    "simulate",
    "stream",
]
