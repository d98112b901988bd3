"""A policy judged on decisions that another one made: what it would have earned, from their log.

Each logged decision is first asked about, then learned, in order. So the policy at a decision knows the rewards before
it and not its own, and so does the model of the doubly robust estimate.
"""

from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
import numpy as np

from streammeta.decisions.choice import named_action
from streammeta.decisions.engine import DecisionEngine
from streammeta.decisions.evaluation import (
    Estimate,
    LoggedDecisions,
    doubly_robust,
    inverse_propensity,
    self_normalized,
)
from streammeta.engine import EngineSettings
from streammeta.engine.settings import DecideSettings
from streammeta.errors import ConfigError, EventError
from streammeta.event import Decoder, Event, Record
from streammeta.formats.refusal import Refusals

__all__ = ["ALWAYS", "UNIFORM", "Judged", "judge_policy"]

ALWAYS, UNIFORM = "always:", "uniform"  # policies that learn nothing


class _Propensity(msgspec.Struct):
    """The one field of a logged decision that an event does not have."""

    propensity: Any = None


class _Logged(NamedTuple):
    """A decision as its record has it."""

    event: Event
    action: str
    propensity: float
    reward: float


class _Row(NamedTuple):
    """A logged decision, and the policy in question in its place."""

    taken: int  # of the K actions
    propensity: float
    reward: float
    chances: list[float]  # [K] of the policy
    scores: list[float]  # [K] expected rewards


_READ = msgspec.json.Decoder(_Propensity)


@dataclass(frozen=True, slots=True)
class Judged:
    """What a policy would have earned a decision, and what the log's own did."""

    policy: str
    logged: Estimate  # mean of the rewards in the log
    estimates: dict[str, Estimate]  # by inverse propensity, self-normalized, doubly robust
    refusals: Refusals  # of records that could not be used

    def figures(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "policy": self.policy,
            "logged": _figures(self.logged),
            **{name: _figures(one) for name, one in self.estimates.items()},
            "rejected": self.refusals.count,
            "rejected_reasons": self.refusals.figures(),
        }

    def lines(self) -> list[str]:
        """For people."""
        said = [f"the log's own policy: {self.logged}"]
        said += [f"{self.policy}, {name.replace('_', ' ')}: {one}" for name, one in self.estimates.items()]
        return said + [f"set aside: {line}" for line in self.refusals.lines()]


def judge_policy(records: Iterable[Record], settings: EngineSettings, policy: str, decoder: Decoder) -> Judged:
    """Judge a policy on logged decisions.

    Args:
        records: JSON objects with `x`, `action`, its `propensity` and the reward `y`; `task` and `actions` as ever.
        settings: of the engine that learns; ``decide`` names the actions, or the log does.
        policy: an exploration of ``DecideSettings``, "uniform", or "always:ACTION".
        decoder: reads records.

    Raises:
        ConfigError: there is no such policy, or the settings cannot decide.
        EventError: no record can be used; the message has the commonest reason.
    """
    refusals, logged = Refusals(), list[_Logged]()
    for record in records:
        try:
            logged.append(_decision(record, decoder))
        except EventError as err:
            refusals.add(str(err))
    how = settings.decide or DecideSettings()
    if not how.actions:
        names = tuple(sorted({one.action for one in logged}))
        how = _checked(how, {"actions": names} if len(names) > 1 else {})
    how = _checked(how, {} if policy == UNIFORM or policy.startswith(ALWAYS) else {"exploration": policy})
    rows = list[_Row]()
    with closing(DecisionEngine(settings.model_copy(update={"decide": how}))) as engine:
        for one in logged:
            try:
                rows.append(_asked(one, engine, policy))
            except EventError as err:
                refusals.add(str(err))
    if not rows:
        raise EventError("--decide: no logged decision can be used:\n" + "\n".join(refusals.lines(3)))
    return Judged(policy, *_estimates(rows), refusals)


def _asked(one: _Logged, engine: DecisionEngine, policy: str) -> _Row:
    """What the policy would do in place of a logged decision, which is learned then; raises EventError."""
    found, scores = engine.propensities(one.event)
    (outcome,) = engine.step([one.event])
    if outcome.rejected is not None:
        raise EventError(outcome.rejected)
    names = list(found)
    chances = _chances(policy, names, list(found.values()))
    return _Row(names.index(one.action), one.propensity, one.reward, chances, list(scores.values()))


def _estimates(rows: Sequence[_Row]) -> tuple[Estimate, dict[str, Estimate]]:
    """Of the log's own policy, and of the one in question."""
    width = max(len(row.chances) for row in rows)  # actions beyond those of an event have probability 0
    chances, scores = np.zeros((len(rows), width)), np.zeros((len(rows), width))
    for i, row in enumerate(rows):
        chances[i, : len(row.chances)], scores[i, : len(row.scores)] = row.chances, row.scores
    taken, rewards = np.array([row.taken for row in rows], np.int64), np.array([row.reward for row in rows])
    log = LoggedDecisions(taken, rewards, np.array([row.propensity for row in rows]), chances)
    one = np.ones(len(rows))
    itself = LoggedDecisions(np.zeros(len(rows), np.int64), rewards, one, one[:, None])
    return inverse_propensity(itself), {
        "inverse_propensity": inverse_propensity(log),
        "self_normalized": self_normalized(log),
        "doubly_robust": doubly_robust(log, scores),
    }


def _checked(how: DecideSettings, changes: dict[str, Any]) -> DecideSettings:
    try:
        return DecideSettings.model_validate(how.model_dump() | changes)
    except ValueError as err:
        wanted = "inverse_gap, thompson, upper_confidence, epsilon_greedy, greedy, uniform or always:ACTION"
        got = " ".join(map(repr, changes.values()))
        raise ConfigError(f"--decide: got {got}; wanted {wanted}") from err


def _decision(record: Record, decoder: Decoder) -> _Logged:
    """An event with its action, the propensity and the reward."""
    event, at = decoder.decode(record), record.origin
    if not isinstance(event, Event) or event.action is None or event.y is None or isinstance(event.y, str):
        raise EventError(f"{at}: no logged decision; wanted `x`, `action`, `propensity` and a number `y`, its reward")
    try:
        propensity = _READ.decode(record.value or b"{}").propensity
    except msgspec.DecodeError as err:
        raise EventError(f"{at}: no JSON object ({err}); wanted one with `propensity`") from err
    if isinstance(propensity, bool) or not isinstance(propensity, int | float) or not 0 < propensity <= 1:
        raise EventError(
            f"{at}: `propensity` is {propensity!r:.100}; wanted the probability with which `action` was drawn, more "
            "than 0 and at most 1"
        )
    return _Logged(event, named_action(event.action, at), float(propensity), float(event.y))


def _chances(policy: str, names: list[str], own: list[float]) -> list[float]:
    """The policy's probability of each action of a decision."""
    if policy == UNIFORM:
        return [1.0 / len(names)] * len(names)
    if policy.startswith(ALWAYS):
        wanted = policy.removeprefix(ALWAYS)
        if wanted not in names:
            raise ConfigError(f"--decide {policy}: no such action; wanted one of {', '.join(names)[:200]}")
        return [float(name == wanted) for name in names]
    return own


def _figures(estimate: Estimate) -> dict[str, Any]:
    return {
        "value": estimate.value,
        "low": estimate.low if np.isfinite(estimate.low) else None,
        "high": estimate.high if np.isfinite(estimate.high) else None,
        "decisions": estimate.events,
        "effective_decisions": estimate.effective_events,
        "conclusive": estimate.conclusive,
    }
