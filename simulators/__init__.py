"""The front of `streammeta.simulators`, for work in this repository: `from simulators import simulate`.

The package lives under `streammeta`, and an installed streammeta brings no module of this name: your own
`simulators.py` is safe. `README.md` beside this file has recipes, and `python -m simulators` is `streammeta simulate`.
"""

from streammeta.simulators import (
    SCENARIOS,
    Alarm,
    Detection,
    Drift,
    DriftKind,
    LateLabel,
    Sample,
    Scenario,
    StreamSettings,
    World,
    detection,
    hidden_features,
    noted,
    read_truth,
    simulate,
    stream,
    with_late_labels,
)

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
