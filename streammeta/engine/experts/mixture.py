"""The mixture: the learner, its experts, and what they say together, by recent evidence.

::

    blend = Σ_r w_r part_r        w_r ∝ favour_r · exp(prior_r + ℓ_r)    ℓ_r ← 0.95 ℓ_r + log part_r(y), in each task
    parts: p, q_1 … q_K, p·q_1 / Σ p·q_1, … p·q_K / Σ p·q_K, and of classes the pool

p is the learner's own prediction, q_k is expert k's with a little of p in it, so that no expert can rule out what then
happens; favour is that of the learner, e of the pool, else 1. Each product is a step of Bayes' rule for two witnesses
who know different things. For targets every part is a Gaussian; an expert's variance is that of its own errors in the
task.

The pool (`streammeta.engine.experts.pool`) weighs all witnesses together, as labels of the partition teach it; its
labels make the prior, too.

One rule for all files. Without any favour the neighbours cost elec2 0.35 points and movielens 0.6.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from streammeta.engine.columns import Column
from streammeta.engine.experts.base import Case, Cases, Columns, Doubles, Expert, OfRuns
from streammeta.engine.experts.pool import Pool, Pools, by_partition
from streammeta.engine.partitioned import OfPartitions, Partitions
from streammeta.meta.base import Ints, Kind
from streammeta.native import _kernels as kernels
from streammeta.native.elementary import exp

__all__ = ["POOLED", "Blend", "Mixture", "RunLabels", "own_columns"]

_LOG_FAVOUR = {"classification": math.log(2.0), "regression": math.log(5.0)}  # of the learner
_LOG_POOL = 1.0  # favour of the pool: as experts.cpp
_EVIDENCE_DECAY, _NOISE_DECAY = 0.95, 0.98
_LEAST_VARIANCE = 1e-200  # of targets in any unit
_EVIDENCE, _NOISE = "experts.evidence", "experts.noise"
_POOLED = "experts.pooled"
POOLED = {_POOLED: Column((), np.float64)}  # the log evidence of the pool, beyond the learner's


class Blend(NamedTuple):
    """A prediction of the mixture, and what was mixed."""

    mean: list[float]  # class probabilities [C], or the mean [1]
    variance: float
    parts: Doubles  # [1 + 2K, C] probabilities, or [1 + 2K, 2] means and variances


class RunLabels(NamedTuple):
    """By what the parts of a mixture are judged, for events [N]."""

    partitions: Ints
    labels: Doubles  # class indices or targets; NaN: there is none to learn
    given: npt.NDArray[np.bool_]  # a late label: its event was predicted before, by these parts
    classes: Ints  # that were known when that was
    parts: Doubles  # [N, 1 + 2K, C or 2] as of ``Blend``


class Mixture:
    """The learner's predictions blended with those of at least one expert.

    Args:
        experts: who is asked.
        kind: of the stream.
        above: experts by name that sleep, and keep nothing, while there are no more outputs than this.

    Attributes:
        partitions: what the experts, and the pool of what they say, know of partitions.
        sleeps_up_to: outputs with which no expert takes part.
    """

    def __init__(self, experts: Sequence[Expert], kind: Kind, *, above: Mapping[str, int] | None = None) -> None:
        self.experts = tuple(experts)
        self._above = [(above or {}).get(expert.name, 0) for expert in experts]
        self.sleeps_up_to = min(self._above)
        self._of_partitions = [isinstance(expert, OfPartitions) for expert in experts]
        self._of_runs = [expert if isinstance(expert, OfRuns) else None for expert in experts]
        self._classify, self._log_favour = kind == "classification", _LOG_FAVOUR[kind]
        self._pools = Pools([expert.name for expert in experts], kind)
        known = [expert for expert in experts if isinstance(expert, OfPartitions)]
        self.partitions = Partitions([self._pools, *known])
        self._doubt = np.array([expert.doubt for expert in experts])

    def layout(self, width: int, outputs: int) -> dict[str, Column]:
        """What it and its experts keep of each task, for ``features`` and ``outputs``."""
        own = own_columns(len(self.experts), "classification" if self._classify else "regression")
        if outputs <= self.sleeps_up_to:
            own = _asleep(own)
        for expert, above in zip(self.experts, self._above, strict=True):
            columns = dict(expert.layout(width, outputs))
            own |= columns if outputs > above else _asleep(columns)
        return own

    def takes_runs(self, outputs: int) -> bool:
        """Whether no expert that takes part depends on more than the events of its partition before."""
        return self._runs(outputs) is not None

    def _runs(self, outputs: int) -> list[tuple[int, OfRuns]] | None:
        """The experts that take part, with their places; None where one takes no runs."""
        runs = [(k, expert) for k, expert in enumerate(self._of_runs) if outputs > self._above[k]]
        return None if any(expert is None for _, expert in runs) else runs  # type: ignore[return-value]

    def blend(self, columns: Columns, case: Case, mean: Sequence[float], variance: float) -> Blend:
        """Mix the learner's prediction of an event, class probabilities [C] or a mean [1], with the experts'."""
        outputs = len(mean)
        said = np.full((len(self.experts), outputs), 0.0 if self._classify else math.nan)
        for k, expert in enumerate(self.experts):
            opinion = expert.predict(columns, case, outputs) if outputs > self._above[k] else None
            if opinion is not None:
                said[k] = opinion
        evidence, pool = columns[_EVIDENCE][case.row], self._pools.of(case.partition)
        if self._classify:
            parts, mixed = np.empty((evidence.size, outputs)), np.empty(outputs)
            state = evidence, float(columns[_POOLED][case.row]), pool.exponents, pool.stream
            kernels.mix_classes(np.array(mean), said, self._doubt, *state, self._log_favour, parts, mixed)
            return Blend(mixed.tolist(), variance, parts)
        noise = columns[_NOISE][case.row]
        spread = max(variance, _LEAST_VARIANCE)
        parts, mixed = np.empty((evidence.size, 2)), np.empty(2)
        known = noise, evidence, pool.stream
        kernels.mix_values(mean[0], spread, said[:, 0], *known, self._log_favour, parts, mixed)
        return Blend([float(mixed[0])], float(mixed[1]), parts)

    def ask(self, columns: Columns, cases: Cases, outputs: int) -> Doubles | None:
        """What experts say [N, K, C or 1] of events, whose labels they then learn: then ``learn`` is not called.

        None where an expert that is awake depends on more than the events before: then they are asked one by one.
        """
        runs = self._runs(outputs)
        if runs is None:
            return None
        said = np.full((len(cases.tasks), len(self.experts), outputs), 0.0 if self._classify else math.nan)
        for number, which in by_partition(cases.partitions):
            here = cases if isinstance(which, slice) else cases.at(which)
            for k, expert in runs:
                if number >= 0 or not self._of_partitions[k]:  # as in ``learn``
                    said[which, k] = expert.run(columns, here, outputs)
            cases.context[which] = here.context
        return said

    def blend_run(
        self, columns: Columns, rows: Ints, mean: Doubles, variance: Doubles, said: Doubles, known: "RunLabels"
    ) -> tuple[Doubles, Doubles]:
        """``blend`` and ``learn`` for events [N] in turn, but for what experts learn, which said this [N, K, C or 1].

        Returns the mixed means [N, C] and variances [N]; evidence and ``known.parts`` are changed.
        """
        evidence, rule = columns[_EVIDENCE], (self._log_favour, _EVIDENCE_DECAY)
        given = (known.labels, known.given)
        places, groups = np.zeros(len(rows), np.int64), by_partition(known.partitions)
        for at, (_, which) in enumerate(groups):
            places[which] = at
        pools = Pool(*map(np.stack, zip(*(self._pools.of(number) for number, _ in groups), strict=True)))
        if self._classify:
            mixed, variances = mean.copy(), variance
            state = evidence, columns[_POOLED], pools.exponents, pools.stream, rows, places
            kernels.mix_class_run(mean, said, self._doubt, *state, *given, known.classes, *rule, known.parts, mixed)
        else:
            spread = np.maximum(variance, _LEAST_VARIANCE)
            both = np.stack([mean[:, 0], spread], axis=1)
            means, opinions = np.ascontiguousarray(mean[:, 0]), np.ascontiguousarray(said[:, :, 0])
            known_of = columns[_NOISE], evidence, pools.stream, rows, places
            kernels.mix_value_run(means, spread, opinions, *known_of, *given, *rule, _NOISE_DECAY, known.parts, both)
            mixed, variances = both[:, :1], both[:, 1]
        learned = ~np.isnan(known.labels)
        of_groups = zip(groups, map(Pool, *pools), strict=True)
        self._pools.keep({number: pool for (number, which), pool in of_groups if learned[which].any()})
        return mixed, variances

    def predict_all(self, columns: Columns, cases: Cases, mean: Doubles, variance: Doubles) -> tuple[Doubles, Doubles]:
        """``blend`` of events [N] without labels, where experts take runs."""
        said = self.ask(columns, cases, mean.shape[1])
        assert said is not None  # see ``takes_runs``
        known = self.no_labels(cases.partitions, mean.shape[1])
        return self.blend_run(columns, cases.rows, mean, variance, said, known)

    def weights(self, columns: Columns, rows: Ints, outputs: int) -> dict[str, float]:
        """Who decides: the weight of each part, the mean over these tasks [R]; they add up to 1.

        The parts are the learner, each expert that is awake, the product of the learner with it, and the pool.
        """
        awake, K = [k for k, above in enumerate(self._above) if outputs > above], len(self.experts)
        if not awake or not rows.size:
            return {}
        places = np.array([0, *(1 + k for k in awake), *(1 + K + k for k in awake)])
        prior, names = self._pools.prior, [self.experts[k].name for k in awake]
        evidence = (columns[_EVIDENCE][rows] + prior[:-1])[:, places]
        parts = ["learner", *names, *(f"learner and {name}" for name in names)]
        if self._classify:
            parts.append("pool")
            evidence = np.column_stack([evidence, evidence[:, 0] + columns[_POOLED][rows] + prior[-1] + _LOG_POOL])
        evidence[:, 0] += self._log_favour
        weights = exp(evidence - evidence.max(axis=1, keepdims=True))
        mean = (weights / weights.sum(axis=1, keepdims=True)).mean(axis=0)
        return dict(zip(parts, mean.tolist(), strict=True))

    def no_labels(self, partitions: Ints, outputs: int) -> RunLabels:
        """Of events of these partitions [N] without labels."""
        count = len(partitions)
        parts = np.zeros((count, 1 + 2 * len(self.experts), outputs if self._classify else 2))
        nothing = np.full(count, math.nan), np.zeros(count, np.bool_)
        return RunLabels(partitions, *nothing, np.full(count, outputs), parts)

    def evidence(self, columns: Columns, rows: Ints) -> tuple[dict[str, npt.NDArray[Any]], dict[int, Pool]]:
        """What ``blend_run`` changes of these tasks and their partitions; ``put_back`` makes it so again."""
        names = (_EVIDENCE, _NOISE, _POOLED)
        return {name: columns[name][rows] for name in names if name in columns}, dict(self._pools.known)

    def put_back(
        self, columns: Columns, rows: Ints, evidence: tuple[Mapping[str, npt.NDArray[Any]], Mapping[int, Pool]]
    ) -> None:
        """Let this be the evidence of these tasks and their partitions again."""
        for name, values in evidence[0].items():
            columns[name][rows] = values
        self._pools.known = dict(evidence[1])

    def learn(self, columns: Columns, case: Case, parts: Doubles, y: float, outputs: int = 1) -> None:
        """Learn an event's label: who had expected it, and the experts themselves.

        Args:
            columns: of the task table.
            case: the event.
            parts: as of its prediction.
            y: a class index or a target.
            outputs: how many there are by now.
        """
        evidence, pool = columns[_EVIDENCE][case.row], Pool(*map(np.copy, self._pools.of(case.partition)))
        if self._classify:
            state = evidence, columns[_POOLED][case.row : case.row + 1], pool.exponents, pool.stream
            kernels.add_class_evidence(parts, parts.shape[1], int(y), *state, _EVIDENCE_DECAY)
        else:
            noise = columns[_NOISE][case.row]
            kernels.add_value_evidence(parts, y, evidence, pool.stream, _EVIDENCE_DECAY, noise, _NOISE_DECAY)
        self._pools.keep({case.partition: pool})
        outputs = max(outputs, parts.shape[1] if self._classify else 1)
        for expert, above, shared in zip(self.experts, self._above, self._of_partitions, strict=True):
            if outputs > above and (case.partition >= 0 or not shared):
                expert.learn(columns, case, y)  # below zero: the member that has the partition teaches its own

    def learn_unexpected(self, columns: Columns, case: Case, y: float, outputs: int) -> None:
        """As ``learn``, of a class that no part could expect, as it is the last of ``outputs`` and has come now."""
        self.learn(columns, case, np.zeros((1 + 2 * len(self.experts), outputs - 1)), y, outputs)

    def adopt(
        self, found: Mapping[str, npt.NDArray[Any]], experts: Sequence[str], outputs: int
    ) -> tuple[dict[str, npt.NDArray[Any]], set[str]]:
        """Columns [R, ...] of rows that had these experts, as rows with ours; and columns of ours that they have not.

        An expert that is new begins as well believed as the learner is; what one that sleeps here knew is left.
        """
        columns, names = dict(found), [expert.name for expert in self.experts]
        evidence, noise = columns.pop(_EVIDENCE, None), columns.pop(_NOISE, None)
        places = [(names.index(name), k) for k, name in enumerate(experts) if name in names]
        is_awake = outputs > self.sleeps_up_to
        if is_awake and evidence is not None and evidence.shape[1] == 1 + 2 * len(experts):
            ours = np.repeat(evidence[:, :1], 1 + 2 * len(names), axis=1)
            for here, there in places:
                ours[:, 1 + here] = evidence[:, 1 + there]
                ours[:, 1 + len(names) + here] = evidence[:, 1 + len(experts) + there]
            columns[_EVIDENCE] = ours
        if is_awake and noise is not None and noise.shape[1] == len(experts):
            errors = np.zeros((len(noise), len(names), 2))
            for here, there in places:
                errors[:, here] = noise[:, there]
            columns[_NOISE] = errors
        of_experts = [tuple(expert.layout(1, 1)) for expert in self.experts]
        for own, above in zip(of_experts, self._above, strict=True):
            if outputs <= above:
                columns |= {name: columns[name][:, :0] for name in own if name in columns and columns[name].ndim > 1}
        return columns, {_EVIDENCE, _NOISE, _POOLED}.union(*of_experts) - columns.keys()


def own_columns(experts: int, kind: Kind) -> dict[str, Column]:
    """What a mixture of so many experts keeps of each task, beside what those do."""
    own = {_EVIDENCE: Column((1 + 2 * experts,), np.float64)}
    return own | (POOLED if kind == "classification" else {_NOISE: Column((experts, 2), np.float64)})


def _asleep(columns: Mapping[str, Column]) -> dict[str, Column]:
    """Columns without capacity for anything."""
    return {name: kind._replace(shape=(0, *kind.shape[1:])) if kind.shape else kind for name, kind in columns.items()}
