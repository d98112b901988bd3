"""What it costs when members keep their events: shared episodes, changes of θ, and changes of θ with noise, by ε.

    python -m benchmarks.federated [--stream NAME] [--members N] [--tasks N] [--events N] [--epsilons 1 2 4 8 ...]
        [--seeds N] [--experts] [--quick] [--json OUT]

A simulated stream whose tasks are shared out among members; each is an engine, and a trainer is another, as in a
service but without Kafka. Every so many events all publish: segments, or changes of θ from the θ published before.
Printed is the share of wrong predictions over the last half of the stream, and the ε that was spent at δ = 1 / (10
tasks). Private ways have one encoder instead of five: noise is as large in each.

Streams: "shared-representation" (tasks of hundreds of events that drift) and "small-tasks" (the same world, but tasks
of 40 events, which come and go). Experts are left out unless --experts: they learn within a member, whatever is shared.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from streammeta.engine import Engine, EngineSettings
from streammeta.event import Event, Origin
from streammeta.meta.privacy import Budget, Spent, epsilon
from streammeta.simulators import simulate

_SMALL = 40  # events of a small task
_YOUNG = range(5, 20)  # a task's events, by number
Share: TypeAlias = Literal["nothing", "episodes", "updates"]


class Way(NamedTuple):
    """What is shared, and how."""

    name: str
    share: Share
    budget: float | None = None  # ε; None: no noise


class SeededNoise:
    """Noise that repeats: for a benchmark, where nobody's data is at stake."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)

    def normal(self, count: int) -> npt.NDArray[np.float64]:
        """See `streammeta.meta.federated.Noise`."""
        return self._random.standard_normal(count)

    def sampled(self, count: int, rate: float) -> npt.NDArray[np.bool_]:
        """See `streammeta.meta.federated.Noise`."""
        return self._random.random(count) < rate


@dataclass
class Figures:
    """What one way did."""

    way: str
    wrong: float
    young: float
    epsilon: float | None
    rounds: int
    seconds: float
    norms: list[float] = field(default_factory=list)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print a line for each way."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.federated", description=__doc__)
    parser.add_argument("--stream", choices=("shared-representation", "small-tasks"), default="shared-representation")
    parser.add_argument("--members", type=int, default=4)
    parser.add_argument("--tasks", type=int, default=300)
    parser.add_argument("--events", type=int, default=60_000)
    parser.add_argument("--round", type=int, default=1_000, help="events between two rounds")
    parser.add_argument("--epsilons", type=float, nargs="*", default=[8, 32, 128, 512])
    parser.add_argument("--sample-rate", type=float, default=1.0)
    parser.add_argument("--steps", type=int, default=8, help="private local steps a round")
    parser.add_argument("--ensemble", type=int, default=1, help="encoders of the private ways; each has noise")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--experts", action="store_true")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--quick", action="store_true", help="two members, 20 tasks, 1,500 events, one ε")
    options = parser.parse_args(arguments)
    if options.quick:
        options.members, options.tasks, options.events, options.epsilons, options.round = 2, 20, 2_000, [50.0], 500
    ways = [Way("nothing shared", "nothing"), Way("episodes", "episodes"), Way("updates, no noise", "updates")]
    ways += [Way(f"updates, ε ≤ {one:g}", "updates", one) for one in options.epsilons]
    found = []
    for way in ways:
        runs = [_run(way, options, seed) for seed in range(options.seeds)]
        mean = [float(np.mean([getattr(run, name) for run in runs])) for name in ("wrong", "young", "seconds")]
        spent = max((run.epsilon for run in runs if run.epsilon is not None), default=None)
        said = "" if options.stream != "small-tasks" else f", {100 * mean[1]:.2f} % of the 6th to 20th event of a task"
        said += "" if spent is None else f"; ε {spent:.2f} spent in {runs[0].rounds} rounds"
        print(f"{way.name}: {100 * mean[0]:.2f} % wrong{said} ({mean[2]:.0f} s)", flush=True)
        found.append({"way": way.name, "wrong": mean[0], "young": mean[1], "epsilon": spent})
    if options.json:
        options.json.write_text(json.dumps(found))
    return 0


class _Fleet:
    """Members and their trainer."""

    def __init__(self, way: Way, options: argparse.Namespace, settings: EngineSettings, seed: int) -> None:
        self.way, self.settings = way, settings
        self.members = [Engine(settings) for _ in range(options.members)]
        self.trainer = Engine(settings)
        self.noise = SeededNoise(seed)
        self.federations = [one.federation(self.noise) for one in self.members]
        self.leading = self.trainer.federation()
        self.budget = None if way.budget is None else Budget(way.budget, 0.1 / options.tasks)
        self.rounds = 0
        self.norms: list[float] = []
        for one in self.members:
            one.adopt(None, train=False)
            if way.share == "episodes":
                one.write_episodes()
        self.published = self.trainer.shared_weights()
        self._note()

    def round(self) -> None:
        """All publish, the trainer learns, all adopt."""
        if self.way.share == "nothing":
            return
        if self.way.share == "episodes":
            self._share_episodes()
        elif not self._share_updates():
            return
        self.published = self.trainer.shared_weights()
        self._note()
        for one in self.members:
            one.adopt(self.published, train=False, is_trusted=True)

    def _note(self) -> None:
        self.leading.published(self.published.version, self.published.shared["theta_id"])

    def _share_episodes(self) -> None:
        for number, one in enumerate(self.members):
            for partition, key, value in one.changed_episodes():
                if value is not None:
                    self.trainer.observe_episode(partition, key, value, "episodes")
            for partition, value in one.changed_sums():
                for other in (self.trainer, *(each for k, each in enumerate(self.members) if k != number)):
                    other.add_sums(partition, value, "sums")

    def _share_updates(self) -> bool:
        privacy = self.settings.meta.privacy
        if self.budget is not None:
            steps = Spent(privacy.noise_multiplier, privacy.sample_rate, self.settings.meta.local_steps)
            after = self.budget.after(steps)
            if after is None:
                return False
            self.budget = after
        updates = []
        for number, one in enumerate(self.federations):
            work = one.begin(self.published, [number])
            if work is None:
                continue
            update, done = work()
            one.finish(done)
            self.norms.append(done.norm)
            self.leading.know(update)
            if self.leading.refusal(update) is None and update.delta:
                updates.append(update)
        if updates:
            self.leading.step(updates)
        self.rounds += 1
        return True


def _run(way: Way, options: argparse.Namespace, seed: int) -> Figures:
    begun, wrong, ages = time.monotonic(), list[bool](), list[int]()
    rounds = options.events // options.round
    fleet = _Fleet(way, options, _settings(way, options, seed, rounds), seed)
    seen: dict[str, int] = {}
    waiting: list[list[Event]] = [[] for _ in fleet.members]
    for i, (event, member) in enumerate(_events(options, seed), 1):
        waiting[member].append(event)
        if i % options.round and i < options.events:
            continue
        for one, events in zip(fleet.members, waiting, strict=True):
            for outcome in one.step(events):
                task = outcome.event.task or ""
                ages.append(seen.get(task, 0))
                seen[task] = ages[-1] + 1
                wrong.append(bool(outcome.error))
            events.clear()
        fleet.round()
    errors, age = np.array(wrong), np.array(ages)
    young = np.isin(age, list(_YOUNG)) & (np.arange(len(age)) >= len(age) // 4)
    spent = None if fleet.budget is None else fleet.budget.cost
    for one in (*fleet.members, fleet.trainer):
        one.close()
    seconds = time.monotonic() - begun
    half = float(errors[len(errors) // 2 :].mean())
    return Figures(
        way.name, half, float(errors[young].mean()) if young.any() else half, spent, fleet.rounds, seconds, fleet.norms
    )


def _settings(way: Way, options: argparse.Namespace, seed: int, rounds: int) -> EngineSettings:
    meta: dict[str, Any] = {"trainer": "separate", "share": "updates" if way.share == "updates" else "episodes"}
    if way.budget is None:
        meta["privacy"] = {"noise_multiplier": 0.0}
    else:
        most = Spent(1.0, options.sample_rate, options.steps * rounds * 2 // 3)
        multiplier = _multiplier(most, way.budget, 0.1 / options.tasks)
        meta["local_steps"] = options.steps
        meta["privacy"] = {"noise_multiplier": multiplier, "sample_rate": options.sample_rate, "epsilon": way.budget}
    learner: dict[str, Any] = {} if options.experts else {"experts": ()}
    if way.budget is not None:
        learner["members"] = options.ensemble
    return EngineSettings.model_validate({"seed": seed, "meta": meta, "learner": learner})


def _multiplier(steps: Spent, budget: float, delta: float) -> float:
    """The least noise by which all these steps stay within a budget, by bisection."""
    low, high = 0.3, 1_000.0
    for _ in range(30):
        middle = float(np.sqrt(low * high))
        spent = (Spent(middle, steps.rate, max(steps.steps, 1)),)
        low, high = (middle, high) if epsilon(spent, delta) > budget else (low, middle)
    return round(high * 1.001, 4)


def _events(options: argparse.Namespace, seed: int) -> Iterator[tuple[Event, int]]:
    """The stream, each event with the member that has its task."""
    offsets, generations, members = [0] * options.members, dict[str, int](), dict[str, int]()
    for sample in simulate("shared-representation", events=options.events, seed=seed, tasks=options.tasks):
        task = sample.task
        if options.stream == "small-tasks":
            count = generations[task] = generations.get(task, -1) + 1
            task = f"{task}.{count // _SMALL}"
        member = members.setdefault(task, len(members) % options.members)
        yield Event(sample.x, task, Origin("federated", member, offsets[member]), y=sample.y), member
        offsets[member] += 1


if __name__ == "__main__":
    sys.exit(main())
