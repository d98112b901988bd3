"""How θ changes here: meta-updates, drawn from what is remembered, in the rhythm that pays."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy.typing as npt

from streammeta.engine.curriculum import Curriculum
from streammeta.engine.memory import Memory
from streammeta.engine.outcome import MetaResult
from streammeta.meta.base import Episodes
from streammeta.meta.plasticity import has_encoder

__all__ = ["Training"]

_HOUSEKEEPING_EVENTS = 1024  # how often the spill is looked after where meta-updates do not set the rhythm


class Training:
    """Begins and finishes meta-updates.

    Args:
        memory: θ and what it learns from.

    Attributes:
        curriculum: what θ learns from, and when.
        is_ours: this engine changes θ; else another process does.
    """

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self.curriculum = Curriculum(memory.settings, memory.method)
        self.is_ours = True

    @property
    def look_every(self) -> int:
        """Events between two looks at what tasks share."""
        return self.curriculum.interval if self._memory.settings.meta.mode == "sync" else _HOUSEKEEPING_EVENTS

    def update(self) -> None:
        """Make a meta-update at once, where the settings want it in the engine's own step."""
        if self._memory.settings.meta.mode == "sync" and self.is_ours:
            job = self.begin()
            if job is not None:
                self.finish(job())

    @property
    def is_due(self) -> bool:
        """Whether it is time to begin a meta-update in the background."""
        memory = self._memory
        waited = memory.counts.seen - memory.counts.meta_begun
        return self.is_ours and memory.settings.meta.mode == "background" and waited >= self.curriculum.interval

    def begin(self) -> Callable[[], MetaResult] | None:
        """Draw episodes, and return the work to be done, which may run in another thread; None when there is nothing.

        The work reads nothing that the engine changes. Hand its result to ``finish`` between two steps.
        """
        memory = self._memory
        memory.counts.meta_begun = memory.counts.seen
        episodes = self.draw()
        if episodes is None:
            return None
        state, meta = memory.shared.state, memory.settings.meta
        start = memory.shared.start() if (meta.pull or meta.renew_every) and has_encoder(state.theta) else None
        return partial(self.curriculum.run, self.curriculum.meta_job(state, start, episodes))

    def draw(self) -> Episodes | None:
        """Segments of recent tasks; None where too few have enough labels."""
        memory = self._memory
        return self.curriculum.draw(memory.tasks.columns, memory.recent, memory.shared.frame)

    def finish(self, result: MetaResult) -> None:
        """Adopt the new θ, unless its numbers were not finite; φ of each task follows when it is next touched."""
        if not self.is_ours:  # since this update began, another process has become the one that changes θ
            return
        self.curriculum.observe_meta_update(result)
        if result.accepted:
            self._memory.shared.adopt(result.step.state)
        else:
            self._memory.counts.refused_updates += 1

    def dump(self) -> dict[str, npt.NDArray[Any]]:
        """Arrays of what tasks share beside θ and the normalization: the rhythm, and what experts know."""
        return self.curriculum.dump() | (self._memory.mixture.dump() if self._memory.mixture else {})

    def load(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Become what ``dump`` described; raises SnapshotError when it is of other settings."""
        self.curriculum.load(arrays)
        if self._memory.mixture:
            self._memory.mixture.load(arrays)
