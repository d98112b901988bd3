"""Has a task's concept changed? River's detectors by name, and a change-point belief."""

from streammeta.engine.drift.detectors import Detectors, settings_like
from streammeta.engine.drift.settings import DetectorName, DriftResponseName, DriftSettings

__all__ = ["DetectorName", "Detectors", "DriftResponseName", "DriftSettings", "settings_like"]
