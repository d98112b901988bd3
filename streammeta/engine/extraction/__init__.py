"""Features made of others: of a task's own past, of text, of anything by an encoder of the user's own.

They are made where an event is admitted, before its features get slots, so all that predicts has the same ones: a
service, a replay, River's estimators, decisions. What the past needs is in the task's row.
"""

from streammeta.engine.extraction.extractor import Extractor
from streammeta.engine.extraction.rolling import fitted
from streammeta.engine.extraction.settings import FeatureSettings, RollingSettings

__all__ = ["Extractor", "FeatureSettings", "RollingSettings", "fitted"]
