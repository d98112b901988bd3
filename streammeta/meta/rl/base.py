"""What is acted in, who acts, and what came of it: environments and agents as pure functions, for many tasks at once.

    draw(generator, T) → tasks             begin(tasks, generator) → state     observe(tasks, state) → [T, O]
    step(tasks, state, action, generator) → (state, reward [T])

    start(T) → memory     act(memory, observation, generator) → (action, memory)     learn(memory, transition) → memory

    init(generator) → θ          agent(θ) → Agent          begin(θ) → state
    gather(state, tasks, episodes, generator) → data       improve(state, data, generator) → state

A trial is what an agent does in one task: several episodes in sequence, over which its memory goes on. Nothing here
changes its arguments; every random number comes from the generator that is passed in.

Shapes: T tasks, L steps of a trial (episodes times horizon), O numbers an observation, A actions.
"""

from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

import numpy as np
import torch

from streammeta.errors import ConfigError
from streammeta.meta.learner import Theta

__all__ = [
    "Agent",
    "Environment",
    "PolicyLearner",
    "State",
    "Tasks",
    "Transition",
    "Trial",
    "numpy_generator",
    "play",
]

Tasks: TypeAlias = dict[str, torch.Tensor]  # what differs between tasks: tensors with leading dimension T
State: TypeAlias = torch.Tensor  # where T environments are, [T, ...]
Memory = TypeVar("Memory")
Learned = TypeVar("Learned")
Data = TypeVar("Data")


class Environment(NamedTuple):
    """A family of tasks that share observations, actions and horizon."""

    observations: int  # O
    actions: int  # A: how many there are, or of a continuous action its numbers
    horizon: int  # steps an episode, H
    draw: Callable[[torch.Generator, int], Tasks]
    begin: Callable[[Tasks, torch.Generator], State]  # of an episode
    observe: Callable[[Tasks, State], torch.Tensor]  # [T, O]
    step: Callable[[Tasks, State, torch.Tensor, torch.Generator], tuple[State, torch.Tensor]]  # reward is [T]
    regret: Callable[[Tasks, State, torch.Tensor, int], torch.Tensor] | None = None
    """(tasks, state, action, step of the episode) → V*(s) − Q*(s, a) [T], where the optimum of a task is known."""
    is_continuous: bool = False


class Transition(NamedTuple):
    """One step of T tasks."""

    observation: torch.Tensor  # [T, O]
    action: torch.Tensor  # [T] int64, or [T, A] of a continuous environment
    reward: torch.Tensor  # [T]
    done: bool  # the episode ends here
    following: torch.Tensor  # [T, O], what is observed after it; after the last step of an episode where that ended


class Trial(NamedTuple):
    """All steps of T tasks, one episode after the other."""

    observation: torch.Tensor  # [L, T, O]
    action: torch.Tensor  # [L, T] int64, or [L, T, A]
    reward: torch.Tensor  # [L, T]
    done: torch.Tensor  # [L] 1 at the last step of an episode, else 0
    regret: torch.Tensor | None = None  # [L, T] where the environment knows it
    kept: torch.Tensor | None = None  # [L, T, ...] of the agent's memory before each step, where it was asked for


class Agent(NamedTuple, Generic[Memory]):
    """Acts in T tasks at once, and learns from what it sees: a fixed rule, or a trained policy with its θ."""

    start: Callable[[int], Memory]
    act: Callable[[Memory, torch.Tensor, torch.Generator], tuple[torch.Tensor, Memory]]
    learn: Callable[[Memory, Transition], Memory]
    actions: int | None = None  # how many it chooses among; None: those of any environment


class PolicyLearner(NamedTuple, Generic[Learned, Data]):
    """A method that teaches a policy, over many tasks, to learn one: pure functions, as those of `Agent`.

    ``Learned`` is θ and what its training remembers, with ``theta`` and ``updates``; ``Data`` is what it learns from.
    """

    init: Callable[[torch.Generator], Theta]
    agent: Callable[[Theta], Agent[Any]]  # as it is used, without exploration for the sake of training
    begin: Callable[[Theta], Learned]
    gather: Callable[[Learned, Tasks, int, torch.Generator], Data]  # (…, tasks, episodes, …): plays them
    improve: Callable[[Learned, Data, torch.Generator], Learned]


def play(
    environment: Environment,
    agent: Agent[Any],
    tasks: Tasks,
    episodes: int,
    generator: torch.Generator,
    keep: Callable[[Any], torch.Tensor] | None = None,
) -> Trial:
    """A trial of an agent in each task.

    Args:
        environment: what is acted in.
        agent: who acts; its memory goes on from one episode to the next.
        tasks: as ``environment.draw`` returns them.
        episodes: of ``environment.horizon`` steps each.
        generator: of the environment's and the agent's chance.
        keep: what of the agent's memory is kept of each step, from before it.

    Raises:
        ConfigError: the agent chooses among more or fewer actions than the environment has.
    """
    if agent.actions not in (None, environment.actions):
        raise ConfigError(f"play: the agent chooses among {agent.actions} actions; wanted {environment.actions}")
    memory = agent.start(len(next(iter(tasks.values()))))
    steps: list[Transition] = []
    kept: list[torch.Tensor] = []
    regrets: list[torch.Tensor] = []
    for _ in range(episodes):
        state = environment.begin(tasks, generator)
        observation = environment.observe(tasks, state)
        for k in range(environment.horizon):
            if keep is not None:
                kept.append(keep(memory))
            action, memory = agent.act(memory, observation, generator)
            if environment.regret is not None:
                regrets.append(environment.regret(tasks, state, action, k))
            state, reward = environment.step(tasks, state, action, generator)
            following = environment.observe(tasks, state)
            steps.append(Transition(observation, action, reward, k + 1 == environment.horizon, following))
            memory = agent.learn(memory, steps[-1])
            observation = following
    return Trial(
        torch.stack([each.observation for each in steps]),
        torch.stack([each.action for each in steps]),
        torch.stack([each.reward for each in steps]),
        torch.tensor([float(each.done) for each in steps]),
        torch.stack(regrets) if regrets else None,
        torch.stack(kept) if kept else None,
    )


def numpy_generator(generator: torch.Generator) -> np.random.Generator:
    """numpy's, seeded by the next number of torch's: for distributions that torch draws without a generator."""
    return np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator)))
