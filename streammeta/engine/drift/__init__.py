"""Has a task's law changed? River's detectors by name, and a change-point belief."""

from streammeta.engine.drift.detectors import DetectorName, Detectors, DriftResponse, DriftSettings, settings_like

__all__ = ["DetectorName", "Detectors", "DriftResponse", "DriftSettings", "settings_like"]
