"""The arithmetic of the scaler in a cluster: KEDA's figures of a ScaledObject, and the HorizontalPodAutoscaler that it makes.

Source: kubernetes/pkg/controller/podautoscaler (``GetExternalPerPodMetricReplicas``, ``normalizeDesiredReplicasWithBehaviors``);
KEDA's apache_kafka_scaler (``getTotalLag``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, NamedTuple

__all__ = ["LOOK_SECONDS", "Rules", "Scaler", "rules"]

LOOK_SECONDS = 15.0  # between two looks of the HorizontalPodAutoscaler
_TOLERANCE = 0.1  # of the ratio to the target, in which nothing changes


class Rules(NamedTuple):
    """What a ScaledObject says; times in seconds."""

    least: int
    most: int
    lag_threshold: float  # records a member
    busy_threshold: float  # share of time at work, a member
    up_window: float
    up_pods: int
    up_period: float
    down_window: float
    down_pods: int
    down_period: float

    def faster(self, times: float) -> "Rules":
        """The same for a clock that runs so many times as fast."""
        names = ("up_window", "up_period", "down_window", "down_period")
        return self._replace(**{name: getattr(self, name) / times for name in names})


def rules(scaled: Mapping[str, Any]) -> Rules:
    """Of a rendered ScaledObject with one trigger of Kafka and one of Prometheus."""
    spec = scaled["spec"]
    behaviour = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    kafka, prometheus = (one["metadata"] for one in spec["triggers"])
    found: list[float] = []
    for side in ("scaleUp", "scaleDown"):
        (policy,) = behaviour[side]["policies"]
        found += [behaviour[side]["stabilizationWindowSeconds"], policy["value"], policy["periodSeconds"]]
    up_window, up_pods, up_period, down_window, down_pods, down_period = found
    return Rules(
        spec["minReplicaCount"],
        spec["maxReplicaCount"],
        float(kafka["lagThreshold"]),
        float(prometheus["threshold"]),
        up_window,
        int(up_pods),
        up_period,
        down_window,
        int(down_pods),
        down_period,
    )


@dataclass
class Scaler:
    """Says how many members there should be; remembers what it said."""

    rules: Rules
    members: int

    def __post_init__(self) -> None:
        self._said: list[tuple[float, int]] = []
        self._changes: list[tuple[float, int]] = []

    def look(self, now: float, lags: Sequence[float], busy: float) -> int:
        """How many from now on.

        Args:
            now: seconds of any clock.
            lags: records that wait, of each partition.
            busy: shares of time at work of all members together.
        """
        r = self.rules
        self._said = self._said or [(now, self.members)]  # those that were there before anybody asked
        with_lag = sum(lag > 0 for lag in lags)
        total = min(sum(lags), r.lag_threshold * with_lag)  # limitToPartitionsWithLag; no idle consumers
        wanted = max(self._wanted(total, r.lag_threshold), self._wanted(busy, r.busy_threshold))
        wanted = min(max(wanted, r.least), r.most)
        self._said = [one for one in self._said if one[0] > now - max(r.up_window, r.down_window)] + [(now, wanted)]
        lowest = min(count for at, count in self._said if at > now - r.up_window)
        highest = max(count for at, count in self._said if at > now - r.down_window)
        steady = max(min(self.members, highest), lowest)
        chosen = min(steady, self._limit(now, r.up_period, r.up_pods))
        chosen = max(chosen, self._limit(now, r.down_period, -r.down_pods))
        if chosen != self.members:
            self._changes.append((now, chosen - self.members))
            self.members = chosen
        return chosen

    def _wanted(self, total: float, threshold: float) -> int:
        ratio = total / (threshold * self.members)
        return self.members if abs(1 - ratio) <= _TOLERANCE else ceil(total / threshold)

    def _limit(self, now: float, period: float, pods: int) -> int:
        """Members at the beginning of this period, and so many more, or fewer."""
        return self.members - sum(change for at, change in self._changes if at > now - period) + pods
