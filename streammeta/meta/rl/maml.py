"""MAML by policy gradient: an initialization from which one step on a few episodes is a policy for the task."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias, get_args

import torch

from streammeta.errors import ConfigError
from streammeta.meta.learner import OuterState, Phi, Theta, expand, named, part
from streammeta.meta.objective import Outer, begin, descend
from streammeta.meta.optimizer import adam
from streammeta.meta.rl.base import Agent, Environment, PolicyLearner, Tasks, Transition, Trial, play
from streammeta.meta.rl.dice import loaded_dice, naive_surrogate
from streammeta.model import mlp

__all__ = ["Adaptation", "MamlMemory", "MamlSettings", "maml_policy"]

_Inner: TypeAlias = Literal["dice", "naive", "first_order"]


@dataclass(frozen=True, slots=True)
class MamlSettings:
    """How θ is learned."""

    hidden: Sequence[int] = (64, 64)
    shots: int = 10  # episodes with θ, from which a task's φ is made
    inner_rate: float = 0.1  # α
    discount: float = 0.99  # γ, inside an episode
    scales: bool = True  # advantages to a standard deviation of 1 in each task, so that α is free of rewards' unit
    inner: _Inner = "dice"  # how the inner step is differentiated
    decay: float = 1.0  # λ of `loaded_dice`
    outer: Outer = field(default_factory=lambda: Outer(adam(3e-3), largest_norm=1.0), repr=False)

    def __post_init__(self) -> None:
        inside = self.shots >= 1 and self.inner_rate >= 0 and 0 < self.discount <= 1 and 0 <= self.decay <= 1
        if not inside or self.inner not in get_args(_Inner):
            wanted = "shots >= 1, inner_rate >= 0, 0 < discount <= 1, 0 <= decay <= 1"
            wanted += f", inner one of {get_args(_Inner)}"
            raise ConfigError(f"maml: got {self}; wanted {wanted}")


class Adaptation(NamedTuple):
    """Trials of T tasks, K episodes of each side by side: [H, T · K, ...]."""

    before: Trial  # by θ
    after: Trial  # by φ
    tasks: int  # T


class MamlMemory(NamedTuple):
    """What a policy that adapts remembers of T tasks."""

    phi: Phi
    seen: tuple[Transition, ...]  # while it plays by θ


def maml_policy(
    environment: Environment, settings: MamlSettings | None = None
) -> PolicyLearner[OuterState, Adaptation]:
    """A policy that takes one gradient step on a task's first K episodes; θ is learned through that step.

        φ = θ + α ∇_θ J(θ)      maximize over θ:  E[J(φ)]      J: mean return of an episode, divided by its steps

    J is estimated from K episodes by ``loaded_dice``, so that ∂φ/∂θ = 1 + α ∇²J has the right mean.
    The baseline is linear in (x, x², t, t², t³, 1), fitted to each task's own returns. The outer step is one of Adam,
    where the source has TRPO. Actions are Gaussian with a spread that is learned, or one of several.

    Args:
        environment: of any actions.
        settings: how it is learned. A trial has more episodes than ``shots``: the others are by φ.

    Raises:
        ConfigError: a trial is too short for it.

    Sources:
        Finn, Abbeel & Levine (2017), arXiv:1703.03400, Algorithm 3; what its second derivative lacks: Foerster et al.
        (2018), arXiv:1802.05098, and Rothfuss et al. (2019), arXiv:1810.06784.
    """
    settings = settings or MamlSettings()
    init, sample, log_chance = _policy(environment, settings.hidden)

    def worth(trial: Trial, tasks: int) -> torch.Tensor:
        returns = _returns(trial.reward, settings.discount)
        advantage = returns - _baseline(trial.observation, returns, tasks)
        if settings.scales:
            spread = advantage.reshape(len(returns), tasks, -1).std((0, 2)) + 1e-8
            advantage = advantage / spread.repeat_interleave(advantage.shape[1] // tasks)
        return advantage

    def adapt(theta: Theta, trial: Trial, tasks: int) -> Phi:
        """φ after one step, as a differentiable function of θ where its gradient is asked for."""
        again = torch.is_grad_enabled() and settings.inner != "first_order"
        with torch.enable_grad():
            phi = {name: p if again else p.detach().requires_grad_() for name, p in expand(theta, tasks).items()}
            surrogate = _surrogate(settings)(log_chance(phi, trial), worth(trial, tasks))
            total = (
                surrogate.reshape(tasks, -1).mean(1).sum() / environment.horizon
            )  # tasks share no φ: the sum's gradient is each one's
            slopes = torch.autograd.grad(total, list(phi.values()), create_graph=again)
        start = expand(theta, tasks)
        return {name: p + settings.inner_rate * slope for (name, p), slope in zip(start.items(), slopes, strict=True)}

    def acting(phi: Phi) -> Agent[None]:
        def act(_memory: None, observation: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, None]:
            with torch.no_grad():
                return sample(phi, observation, generator), None

        return Agent(lambda _count: None, act, lambda _memory, _seen: None, environment.actions)

    def gather(state: OuterState, tasks: Tasks, episodes: int, generator: torch.Generator) -> Adaptation:
        if episodes <= settings.shots:
            raise ConfigError(f"maml: got trials of {episodes} episodes; wanted more than shots, {settings.shots}")
        count = len(next(iter(tasks.values())))
        theta = {name: p.detach() for name, p in state.theta.items()}

        def played(phi: Phi, times: int) -> Trial:
            many = {name: each.repeat_interleave(times, 0) for name, each in tasks.items()}
            return play(environment, acting(phi), many, 1, generator)

        before = played(expand(theta, count), settings.shots)
        with torch.no_grad():
            phi = adapt(theta, before, count)
        return Adaptation(before, played(phi, episodes - settings.shots), count)

    def loss(theta: Theta, of: Adaptation) -> torch.Tensor:
        phi = adapt(theta, of.before, of.tasks)
        return -naive_surrogate(log_chance(phi, of.after), worth(of.after, of.tasks)).mean() / environment.horizon

    descended = descend(loss, settings.outer)

    def agent(theta: Theta) -> Agent[MamlMemory]:
        needed = settings.shots * environment.horizon

        def start(count: int) -> MamlMemory:
            return MamlMemory(expand(theta, count), ())

        def act(
            memory: MamlMemory, observation: torch.Tensor, generator: torch.Generator
        ) -> tuple[torch.Tensor, MamlMemory]:
            return acting(memory.phi).act(None, observation, generator)[0], memory

        def learn(memory: MamlMemory, seen: Transition) -> MamlMemory:
            if len(memory.seen) == needed:
                return memory
            memory = memory._replace(seen=(*memory.seen, seen))
            if len(memory.seen) < needed:
                return memory
            with torch.no_grad():
                trial = _side_by_side(memory.seen, environment.horizon)
                return memory._replace(phi=adapt(theta, trial, len(seen.reward)))

        return Agent(start, act, learn, environment.actions)

    def improve(state: OuterState, of: Adaptation, _generator: torch.Generator) -> OuterState:
        return descended(state, of)

    return PolicyLearner(init, agent, begin(settings.outer), gather, improve)


class _Policy(NamedTuple):
    """A network's distribution of actions, for T tasks with a φ each."""

    init: Callable[[torch.Generator], Theta]
    sample: Callable[[Phi, torch.Tensor, torch.Generator], torch.Tensor]  # for [T · K, O]: [T · K] or [T · K, A]
    log_chance: Callable[[Phi, Trial], torch.Tensor]  # of a trial's actions [H, T · K]


def _policy(environment: Environment, hidden: Sequence[int]) -> _Policy:
    """Gaussian actions with a spread that is learned, or one of several."""
    network = mlp(environment.observations, hidden, environment.actions, activation="tanh")

    def init(generator: torch.Generator) -> Theta:
        spread = {"log_spread": torch.full((environment.actions,), -1.0)} if environment.is_continuous else {}
        weights = network.init(generator)
        quiet = {name: 0.1 * weights[name] for name in network.head}  # a policy that begins near its middle
        return named("network", weights | quiet) | spread

    def outputs(phi: Phi, observation: torch.Tensor) -> torch.Tensor:
        return network.apply(part(phi, "network"), observation)  # [T, N, A]

    def sample(phi: Phi, observation: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        tasks = len(next(iter(phi.values())))
        found = outputs(phi, observation.reshape(tasks, -1, environment.observations))
        if environment.is_continuous:
            noise = torch.randn(found.shape, generator=generator)
            return (found + phi["log_spread"].unsqueeze(1).exp() * noise).flatten(0, 1)
        return torch.multinomial(found.flatten(0, 1).softmax(-1), 1, generator=generator).squeeze(-1)

    def log_chance(phi: Phi, trial: Trial) -> torch.Tensor:
        tasks, steps = len(next(iter(phi.values()))), len(trial.reward)
        found = outputs(phi, _by_task(trial.observation, tasks))
        if environment.is_continuous:
            spread = phi["log_spread"].unsqueeze(1)
            z = (_by_task(trial.action, tasks) - found) * (-spread).exp()
            each = (-0.5 * z.square() - spread - 0.5 * math.log(2 * math.pi)).sum(-1)
        else:
            chosen = _by_task(trial.action.unsqueeze(-1), tasks)
            each = found.log_softmax(-1).gather(-1, chosen).squeeze(-1)
        return each.reshape(tasks, steps, -1).transpose(0, 1).reshape(steps, -1)

    return _Policy(init, sample, log_chance)


def _surrogate(settings: MamlSettings) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    if settings.inner == "dice":
        return lambda log_chance, advantage: loaded_dice(log_chance, advantage, settings.decay)
    return naive_surrogate


def _returns(reward: torch.Tensor, discount: float) -> torch.Tensor:
    """What was earned from each step on: [H, ...]."""
    total, found = torch.zeros_like(reward[0]), []
    for each in reward.flip(0):
        total = each + discount * total
        found.append(total)
    return torch.stack(found[::-1])


def _by_task(of: torch.Tensor, tasks: int) -> torch.Tensor:
    """[H, T · K, W] as [T, H · K, W]."""
    return of.reshape(len(of), tasks, -1, of.shape[-1]).transpose(0, 1).flatten(1, 2)


def _baseline(observation: torch.Tensor, returns: torch.Tensor, tasks: int) -> torch.Tensor:
    """Returns predicted from what is seen and from the time, by each task's ridge regression: [H, T · K]."""
    steps = len(returns)
    time = torch.linspace(0, 1, steps).reshape(-1, 1, 1).expand(-1, returns.shape[1], 1)
    columns = [observation, observation.square(), time, time**2, time**3, torch.ones_like(time)]
    x, y = _by_task(torch.cat(columns, -1), tasks), _by_task(returns.unsqueeze(-1), tasks)
    gram = x.transpose(1, 2) @ x + 1e-3 * x.shape[1] * torch.eye(x.shape[-1])
    fitted: torch.Tensor = x @ torch.linalg.solve(gram, x.transpose(1, 2) @ y)
    return fitted.reshape(tasks, steps, -1).transpose(0, 1).reshape(steps, -1)


def _side_by_side(seen: Sequence[Transition], horizon: int) -> Trial:
    """Episodes in sequence, of T tasks, as [H, T · K, ...]."""

    def columns(each: list[torch.Tensor]) -> torch.Tensor:
        of = torch.stack(each)
        of = of.reshape(-1, horizon, *of.shape[1:])  # [K, H, T, ...]
        return of.movedim(0, 2).flatten(1, 2)

    return Trial(
        columns([one.observation for one in seen]),
        columns([one.action for one in seen]),
        columns([one.reward for one in seen]),
        torch.tensor([float(one.done) for one in seen[:horizon]]),
    )
