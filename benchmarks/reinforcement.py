"""Policies that learn a task from its rewards, beside the rules made for it and the figures of the papers.

    python -m benchmarks.reinforcement [--only bandit-100-5 mdp-10 ...] [--out FOLDER] [--json OUT] [--quick]

RL² on Bernoulli bandits (bandit-PULLS-ARMS) and on tabular MDPs of 10 states, 5 actions and 10 steps (mdp-EPISODES):
the mean total reward of a trial in fresh tasks with its 95 % interval, all on the same tasks. Trained on one core, on
short trials first; on regret, which the simulated tasks know (`streammeta.meta.rl.rl2`). What UCB1 and the exploration
bonus are tuned by are other tasks. Each θ is kept in FOLDER while it is trained: after a stop the same command goes on.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from streammeta.meta.learner import OuterState
from streammeta.meta.objective import Outer
from streammeta.meta.optimizer import adam, linear
from streammeta.meta.rl import (
    Agent,
    Environment,
    PolicyLearner,
    Returns,
    Rl2Settings,
    Trial,
    TrialSchedule,
    bandits,
    bootstrapped,
    epsilon_greedy,
    evaluate,
    gittins,
    greedy_model,
    posterior_sampling,
    random_actions,
    random_arms,
    rl2,
    tabular,
    thompson,
    train,
    ucb1,
)
from streammeta.offline.store import Trained, load, store

__all__ = ["SETUPS", "Setup", "Stage", "main", "trained"]

_KEEP_EVERY = 20.0  # seconds between two writes of θ


@dataclass(frozen=True)
class Stage:
    """Training on trials of one length."""

    episodes: int
    tasks: int  # a batch of trials
    updates: int
    rate: float  # of Adam at first; it falls to a twentieth
    entropy: float  # its weight at first; it falls to nothing
    batches: int = 2


@dataclass(frozen=True)
class Setup:
    """A row of the table."""

    environment: Environment
    episodes: int
    width: int  # of the hidden state
    stages: tuple[Stage, ...]
    published: dict[str, float]
    begins_from: str | None = None  # the row whose θ is trained further


_ARMS = ("random", "Gittins", "Thompson", "optimistic Thompson", "UCB1", "greedy", "RL²")
_MODELS = ("random", "PSRL", "optimistic PSRL", "bonus", "greedy", "RL²")


def _bandit(
    pulls: int,
    arms: int,
    width: int,
    stages: Sequence[Stage],
    published: Sequence[float],
    begins_from: str | None = None,
) -> Setup:
    return Setup(bandits(arms), pulls, width, tuple(stages), dict(zip(_ARMS, published, strict=True)), begins_from)


def _mdp(episodes: int, stages: Sequence[Stage], published: Sequence[float], begins_from: str | None = None) -> Setup:
    return Setup(tabular(), episodes, 96, tuple(stages), dict(zip(_MODELS, published, strict=True)), begins_from)


SETUPS = {  # published: Duan et al. (2016), tables 1 and 2
    "bandit-10-5": _bandit(10, 5, 32, [Stage(10, 500, 4800, 0.008, 0.01)], (5.0, 6.6, 5.7, 6.5, 6.7, 6.6, 6.7)),
    "bandit-10-10": _bandit(10, 10, 48, [Stage(10, 500, 4800, 0.008, 0.01)], (5.0, 6.6, 5.5, 6.2, 6.7, 6.6, 6.7)),
    "bandit-100-5": _bandit(
        100,
        5,
        32,
        [Stage(30, 256, 4000, 0.01, 0.02), Stage(100, 400, 3600, 0.008, 0.003, batches=4)],
        (49.9, 78.3, 74.7, 77.9, 78.0, 74.8, 78.7),
    ),
    "bandit-100-10": _bandit(
        100,
        10,
        48,
        [Stage(30, 256, 3200, 0.01, 0.02), Stage(100, 400, 1600, 0.008, 0.005, batches=4)],
        (49.9, 82.8, 76.7, 81.4, 82.4, 77.1, 83.5),
    ),
    "bandit-500-5": _bandit(
        500,
        5,
        32,
        [Stage(500, 100, 400, 0.004, 0.001)],
        (249.8, 405.8, 402.0, 406.7, 405.8, 380.6, 401.6),
        begins_from="bandit-100-5",
    ),
    "mdp-10": _mdp(
        10,
        [Stage(3, 256, 3200, 0.004, 0.02), Stage(10, 400, 3200, 0.003, 0.003, batches=4)],
        (100.1, 138.1, 144.1, 150.2, 134.8, 156.2),
    ),
    "mdp-25": _mdp(
        25, [Stage(25, 200, 800, 0.002, 0.002)], (250.2, 408.8, 425.2, 427.8, 368.8, 445.7), begins_from="mdp-10"
    ),
}


def learner(setup: Setup, stage: Stage) -> PolicyLearner[OuterState, Trial]:
    """RL² as a stage trains it."""
    outer = Outer(adam(linear(stage.rate, stage.rate / 20, stage.updates)), largest_norm=0.5)
    settings = Rl2Settings(
        setup.width,
        discount=1.0,
        trace=0.95,
        batches=stage.batches,
        entropy=linear(stage.entropy, 0.0, stage.updates),
        learns_from="regret",
        outer=outer,
    )
    return rl2(setup.environment, settings)


def trained(name: str, folder: Path, share: float = 1.0, tasks: float = 1.0) -> tuple[OuterState, float]:
    """The θ of a row and the processor's seconds that its training took, in all; from its file where that is.

    Args:
        name: of the row.
        folder: of the files.
        share: of each stage's updates.
        tasks: share of each batch of trials.
    """
    setup, path = SETUPS[name], folder / f"{name}.safetensors"
    known = load(path) if path.exists() else None
    at, seconds = (int(known.about["stage"]), float(known.about["seconds"])) if known else (0, 0.0)
    state = known.state if known else None
    if state is None and setup.begins_from is not None:
        earlier, seconds = trained(setup.begins_from, folder, share, tasks)
        state = learner(setup, setup.stages[0]).begin(earlier.theta)
    for k in range(at, len(setup.stages)):
        stage = setup.stages[k]
        method = learner(setup, stage)
        if k > at and state is not None:
            state = method.begin(state.theta)  # its optimizer and its schedules begin again
        updates, count = max(1, int(stage.updates * share)), max(4, int(stage.tasks * tasks))
        schedule = TrialSchedule(updates, count, stage.episodes, seed=k)
        progress = _Progress(f"{name} {k + 1}/{len(setup.stages)}", path, k, seconds, updates)
        state = train(method, setup.environment, schedule, state, progress)
        seconds = progress.seconds
        store(path, Trained(state, {"stage": k, "seconds": seconds}))
    assert state is not None
    return state, seconds


class _Progress:
    """Prints how far a training is, and keeps θ."""

    def __init__(self, title: str, path: Path, stage: int, seconds: float, updates: int) -> None:
        self.title, self.path, self.stage, self.updates = title, path, stage, updates
        self.before, self.begun, self.kept, self.earned = seconds, time.process_time(), time.monotonic(), list[float]()

    @property
    def seconds(self) -> float:
        """Of the processor, in all sittings."""
        return self.before + time.process_time() - self.begun

    def __call__(self, state: OuterState, trial: Trial) -> bool:
        self.earned.append(float(trial.reward.sum(0).mean()))
        if time.monotonic() - self.kept > _KEEP_EVERY:
            mean = sum(self.earned) / len(self.earned)
            print(
                f"  {self.title}: {state.updates}/{self.updates} updates, {self.seconds:.0f} s, {mean:.2f}", flush=True
            )
            store(self.path, Trained(state, {"stage": self.stage, "seconds": self.seconds}))
            self.kept, self.earned = time.monotonic(), []
        return False


def rules(setup: Setup) -> dict[str, Agent[Any]]:
    """What is made for this kind of task."""
    environment, n = setup.environment, setup.episodes
    if not environment.observations:
        arms = environment.actions
        width = _best(setup, lambda c: ucb1(arms, c), (0.05, 0.1, 0.2, 0.5))
        return {
            "random": random_arms(arms),
            "Gittins": gittins(arms, n, 200 if n <= 100 else 80),
            "Thompson": thompson(arms),
            "optimistic Thompson": thompson(arms, optimistic=True),
            "UCB1": ucb1(arms, width),
            "bootstrapped heads": bootstrapped(arms),
            "greedy": epsilon_greedy(arms, 0.0),
        }
    bonus = _best(setup, lambda b: greedy_model(environment, bonus=b), (0.3, 1.0, 3.0))
    return {
        "random": random_actions(environment),
        "PSRL": posterior_sampling(environment),
        "optimistic PSRL": posterior_sampling(environment, 5),
        "bonus": greedy_model(environment, bonus=bonus),
        "greedy": greedy_model(environment),
    }


def _best(setup: Setup, make: Callable[[float], Agent[Any]], values: Sequence[float]) -> float:
    """The setting that earns most in 500 other tasks."""
    return max(values, key=lambda v: evaluate(setup.environment, make(v), setup.episodes, tasks=500, seed=2).mean)


def row(name: str, folder: Path, *, tasks: int, share: float) -> dict[str, Any]:
    """Train, and judge by fresh tasks beside the rules."""
    setup = SETUPS[name]
    state, seconds = trained(name, folder, share, min(1.0, 20 * share))
    policy = learner(setup, setup.stages[-1]).agent(state.theta)
    agents = rules(setup) | {"RL²": policy}
    found = {
        title: evaluate(setup.environment, agent, setup.episodes, tasks=tasks, seed=1)
        for title, agent in agents.items()
    }
    return {"name": name, "seconds": seconds, "found": {title: each._asdict() for title, each in found.items()}}


def lines(of: dict[str, Any]) -> list[str]:
    """The row as printed: a line an agent."""
    published = SETUPS[of["name"]].published
    head = f"{of['name']}, {of['seconds']:.0f} core-seconds of training"
    every = [(title, Returns(**each), published.get(title)) for title, each in of["found"].items()]
    return [head, *(f"  {title:20} {found!s:>16}   published {paper or '-':>7}" for title, found, paper in every)]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; exit 0 when every row is there."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a hundredth of the training: shows that it runs")
    parser.add_argument("--only", nargs="*", default=list(SETUPS), choices=list(SETUPS), metavar="NAME")
    parser.add_argument("--tasks", type=int, default=4000, help="fresh tasks that all are judged by")
    parser.add_argument("--out", type=Path, default=Path("out/reinforcement"), help="where each θ is kept")
    parser.add_argument("--json", type=Path, help="keep the figures there")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    share, tasks = (0.01, 50) if options.quick else (1.0, options.tasks)
    rows = []
    for name in options.only:
        rows.append(row(name, options.out, tasks=tasks, share=share))
        print("\n".join(lines(rows[-1])), flush=True)
        if options.json is not None:
            options.json.write_text(json.dumps(rows, indent=1, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
