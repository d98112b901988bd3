"""An engine's memory for its readers: counts, tasks, what the learner reports."""

from collections.abc import Mapping

import numpy as np

from streammeta.engine.buffer import as_encoded, window
from streammeta.engine.memory import Memory
from streammeta.engine.outcome import WEIGHT_OF, EngineStats, TaskSummary
from streammeta.engine.taskrow import SUMMARY_COLUMNS, summarize
from streammeta.meta.base import Floats
from streammeta.meta.plasticity import norm, saturated_share

__all__ = ["describe", "expert_weights", "stats", "tasks"]

_LOOK_TASKS = 256  # how many tasks speak for all
_LOOK_AT_TASKS, _LOOK_AT_EVENTS = 8, 32  # of each, to see how units answer


def stats(memory: Memory) -> EngineStats:
    """Counts since the engine began."""
    counts = memory.counts
    return EngineStats(
        events=counts.events,
        labelled=counts.labelled,
        tasks=len(memory.tasks) - memory.exchange.tasks_elsewhere,
        tasks_in_memory=memory.tasks.in_memory,
        drifts=counts.drifts,
        meta_updates=memory.shared.state.updates,
        theta_version=memory.shared.version,
        pending_labels=len(memory.waiting),
        expired=memory.waiting.expired,
        replaced=memory.waiting.replaced,
        refused=counts.refused,
        corrected=counts.corrected,
        resets=counts.resets,
        classes=len(memory.labels.classes),
        features=len(memory.features),
        features_ignored=memory.features.ignored,
        values_shared=memory.features.shared,
        classes_refused=memory.labels.refused,
        tasks_spilled=memory.tasks.spilled,
        forgotten_by_age=memory.presence.forgotten["age"],
        forgotten_by_limit=memory.presence.forgotten["limit"],
        forgotten_as_asked=memory.presence.forgotten["asked"],
        waiting_forgotten=memory.waiting.forgotten,
        theta_norm=norm(memory.shared.state.theta),
        saturated=saturated_share(memory.shared.state.theta, _some_events(memory)),
    )


def _some_events(memory: Memory) -> Floats:
    """Some of the last labelled events [N, D], normalized."""
    frame, rows = memory.shared.frame, memory.recent.rows()[-_LOOK_AT_TASKS:]
    seen = [window(memory.tasks.columns, row, frame, _LOOK_AT_EVENTS)[0] for row in rows]
    return as_encoded(np.concatenate([np.zeros((0, frame.inputs), np.float32), *seen]))


def describe(memory: Memory) -> Mapping[str, list[float]]:
    """What the learner reports of itself, over the tasks that learned a label lately: for reports, by name."""
    rows = memory.recent.rows()[-_LOOK_TASKS:]
    weights = {f"{WEIGHT_OF}{part}": [weight] for part, weight in expert_weights(memory).items()}
    return {**memory.method.describe(memory.shared.weights, memory.tasks.columns, rows), **weights}


def expert_weights(memory: Memory) -> Mapping[str, float]:
    """Who decides, over the tasks that learned a label lately: the weight of each part of the mixture, 1 in all."""
    if memory.mixture is None:
        return {}
    rows = memory.recent.rows()[-_LOOK_TASKS:]
    return memory.mixture.weights(memory.tasks.columns, rows, memory.labels.outputs)


def tasks(memory: Memory) -> list[TaskSummary]:
    """Every task, those in the spill included."""
    columns = memory.tasks.columns
    here = [(key, {name: columns[name][row] for name in SUMMARY_COLUMNS}) for key, row in memory.tasks.rows()]
    known = [*memory.tasks.stored(), *here]
    ours = [one for one in known if one[0][0] >= 0 and one[0] not in memory.tasks.leaving]
    if memory.extractor and memory.settings.decide is not None:  # none that only has a past for others
        ours = [one for one in ours if memory.past_of(one[0]) != one[0] or memory.settings.decide.heads == "shared"]
    return [summarize(key, values) for key, values in ours]
