"""How θ changes here: meta-updates on segments of recent tasks (``sampling``), in the rhythm that pays (``rhythm``).

The one owner of the random draws.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from streammeta.engine.buffer import draw_episodes
from streammeta.engine.factory import make_renewal, make_sampler
from streammeta.engine.memory import Memory
from streammeta.engine.outcome import MetaResult
from streammeta.engine.part import Part
from streammeta.engine.rhythm import Rhythm
from streammeta.engine.sampling import Alive
from streammeta.engine.shared import device
from streammeta.meta.base import Episodes, Gradient, Ints, Method, Theta
from streammeta.meta.job import MetaJob, meta_update
from streammeta.meta.plasticity import has_encoder, saturated_counts

__all__ = ["Training"]

_HOUSEKEEPING_EVENTS = 1024  # how often the spill is looked after where meta-updates do not set the rhythm


class Training:
    """Says when θ takes a step, from what, and makes it.

    Args:
        memory: θ and what it learns from.

    Attributes:
        device: where gradients are computed.
        is_ours: this engine changes θ; else another process does.
        random: what draws tasks and segments.
    """

    def __init__(self, memory: Memory) -> None:
        settings = memory.settings
        meta = settings.meta
        self._memory, self.device = memory, device(settings.learner.device)
        self._rhythm = Rhythm(meta.every_events, meta.stretch)
        self._sampler, self._renew = make_sampler(settings), make_renewal(settings)
        self.is_ours = True
        self.random = np.random.default_rng(settings.seed)

    # -- when ----------------------------------------------------------------------------------------------------------

    @property
    def interval(self) -> int:
        """Events between two meta-updates."""
        return max(self._rhythm.interval // 2, 1) if self._sampler.hurries else self._rhythm.interval

    @property
    def look_every(self) -> int:
        """Events between two looks at what tasks share."""
        return self.interval if self._memory.settings.meta.mode == "sync" else _HOUSEKEEPING_EVENTS

    @property
    def is_due(self) -> bool:
        """Whether it is time to begin a meta-update in the background."""
        counts, mode = self._memory.counts, self._memory.settings.meta.mode
        return self.is_ours and mode == "background" and counts.seen - counts.meta_begun >= self.interval

    def begin_alone(self) -> None:
        """The stream's first event has no tag: θ has one task to serve."""
        self._rhythm.begin_alone()

    def observe_outcomes(self, part: Part) -> None:
        """See how labels were predicted, in order."""
        for loss in part.losses[part.ages >= 0].tolist():
            self._rhythm.observe_label_loss(loss)
        self._sampler.observe_outcomes(part)

    def observe_meta_loss(self, loss: float) -> None:
        """A meta-update found this loss."""
        self._rhythm.observe_meta_loss(loss)

    # -- from what -----------------------------------------------------------------------------------------------------

    @property
    def drawable(self) -> int:
        """How many tasks segments can be drawn of."""
        memory, alive = self._memory, self._memory.recent.rows()
        return int((memory.tasks.columns.window_count[alive] >= memory.settings.meta.shortest).sum())

    def draw(self, places: Ints | None = None, random: np.random.Generator | None = None) -> Episodes | None:
        """Segments for a meta-update; None where too few tasks have enough labels, or all targets were the same.

        Those have no unit: θ would learn how large they are, and answer in that when they get one.

        Args:
            places: which of a member's segments are wanted [B]; None: all of them.
            random: draws them; None: our own does.
        """
        memory, random = self._memory, random or self.random
        meta, kind, members = memory.settings.meta, memory.settings.kind, memory.method.members
        columns, frame = memory.tasks.columns, memory.shared.frame
        if not frame.shared.y_known[0] and memory.sums.has_targets:
            return None
        alive = Alive(columns, memory.recent, meta.shortest, frame, kind)
        rows = self._sampler.draw(alive, members * (meta.tasks if places is None else places.size), random)
        return draw_episodes(columns, rows, frame, meta, kind, members, random, places)

    # -- a step --------------------------------------------------------------------------------------------------------

    def update(self) -> None:
        """Make a meta-update at once, where the settings want it in the engine's own step."""
        if self._memory.settings.meta.mode == "sync" and self.is_ours:
            job = self.begin()
            if job is not None:
                self.finish(job())

    def begin(self) -> Callable[[], MetaResult] | None:
        """Draw episodes, and return the work to be done, which may run in another thread; None when there is nothing.

        The work reads nothing that the engine changes. Hand its result to ``finish`` between two steps.
        """
        memory = self._memory
        memory.counts.meta_begun = memory.counts.seen
        episodes = self.draw()
        return None if episodes is None else partial(_run, self._job(episodes), memory.method, self.device)

    def update_on(self, episodes: Episodes, gradient: Gradient, saturated: npt.NDArray[np.float64] | None) -> None:
        """Make a meta-update at once, on these episodes and on those of other processes.

        Args:
            episodes: of our own; may be none.
            gradient: over all of them.
            saturated: of each hidden unit the share of events, in all of them, that saturate it; None: none are pulled.
        """
        method, job = self._memory.method._replace(gradient=gradient), self._job(episodes)
        if not episodes.x.shape[1]:  # nothing here to see by how useful units are
            job = job._replace(renew=None, start=None if saturated is None else job.start)
        self.finish(_run(job._replace(saturated=saturated), method, self.device))

    def saturated(self, theta: Theta, episodes: Episodes) -> npt.NDArray[np.float64]:
        """How many events saturate each hidden unit, and how many there are [E · H + 1]; empty where none is pulled."""
        is_pulled = self._memory.settings.meta.pull and has_encoder(theta)
        return saturated_counts(theta, episodes.x) if is_pulled else np.zeros(0)

    def _job(self, episodes: Episodes) -> MetaJob:
        memory = self._memory
        state, meta = memory.shared.state, memory.settings.meta
        kept = (meta.pull or self._renew) and has_encoder(state.theta)
        start = memory.shared.start() if kept else None
        return MetaJob(state, episodes, meta.rate, start, meta.pull, renew=self._renew)

    def finish(self, result: MetaResult) -> None:
        """Adopt the new θ, unless its numbers were not finite; φ of each task follows when it is next touched."""
        if not self.is_ours:  # since this update began, another process has become the one that changes θ
            return
        self._rhythm.observe_meta_loss(result.loss)
        if result.accepted:
            self._memory.shared.adopt(result.step.state)
        else:
            self._memory.counts.refused_updates += 1

    # -- saving --------------------------------------------------------------------------------------------------------

    def dump(self) -> dict[str, npt.NDArray[Any]]:
        """Arrays from which ``load`` makes the same; ``random`` is not in them."""
        return self._rhythm.dump() | self._sampler.dump()

    def load(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Become what ``dump`` described; raises SnapshotError when it is damaged."""
        self._rhythm.load(arrays)
        self._sampler.load(arrays)


def _run(job: MetaJob, method: Method, where: str) -> MetaResult:
    """Make a meta-update, in any thread: it reads nothing but the job."""
    return MetaResult(meta_update(job, method.gradient, device=where, pace=method.pace))
