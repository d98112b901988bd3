"""Limits that were reached: each is counted in a metric, and said once in the log, with what follows and what to do."""

import structlog

from streammeta.engine import EngineStats
from streammeta.engine.outcome import Limit
from streammeta.service.metrics import Metrics

__all__ = ["LimitWatch"]

_log = structlog.get_logger(__name__)

_SAID: dict[Limit, str] = {
    "max_features": "features are ignored: all slots are taken; raise [memory] max_features, or send fewer names",
    "feature_values": "a category has so many values that further ones share slots; is it an id, or free text? Then "
    "leave it out, or raise [memory] max_features",
    "max_classes": "labels of further classes are refused; raise [memory] max_classes if they are real",
    "max_waiting": "the oldest events that wait for their label are dropped; raise [memory] max_waiting",
    "max_tasks": "the tasks seen least recently are on disk, which is slower; raise [memory] max_tasks if there is "
    "memory",
    "max_known_tasks": "the tasks of a partition seen least recently are forgotten: if their tags come again, they "
    "begin as new ones; raise [memory] max_known_tasks if there is disk",
    "max_record_bytes": "longer records are refused unread; raise [input] max_record_bytes, or send shorter ones",
}


class LimitWatch:
    """Counts and says what was reached.

    Args:
        metrics: counts it.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._known: dict[Limit, int] = {}  # counts when last seen

    def look(self, stats: EngineStats, too_long: int) -> None:
        """Compare with the last look.

        Args:
            stats: of the engine; of a new one, they begin at 0 again.
            too_long: records refused for their length since the process began.
        """
        counts: dict[Limit, int] = {**stats.limits, "max_record_bytes": too_long}
        for limit, count in counts.items():
            before = self._known.get(limit, 0)
            more = count - before if count >= before else count
            if more and not self._metrics.was_reached(limit):
                _log.warning("a limit was reached", limit=limit, count=count, consequence=_SAID[limit])
            self._metrics.limit(limit, more)
            self._known[limit] = count
