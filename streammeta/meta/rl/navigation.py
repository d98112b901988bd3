"""2-D navigation: a point moves in the plane, towards a goal of its own in each task that it does not see."""

import torch

from streammeta.errors import ConfigError
from streammeta.meta.rl.base import Environment, State, Tasks

__all__ = ["navigation"]


def navigation(horizon: int = 100, reach: float = 0.5, stride: float = 0.1) -> Environment:
    """A point that begins at 0, is seen (O = 2), and is moved by actions (A = 2); reward −‖position − goal‖².

    Tasks have "goal", [T, 2], even in [−reach, reach]². The source's episodes end within 0.01 of the goal; these go on.

    Args:
        horizon: steps an episode.
        reach: how far a goal may be, along each axis.
        stride: the longest step along each axis; longer actions are cut.

    Raises:
        ConfigError: a size that is not above 0.

    Source:
        Finn, Abbeel & Levine (2017), arXiv:1703.03400, section 5.3.
    """
    if horizon < 1 or min(reach, stride) <= 0:
        raise ConfigError(f"navigation: got {horizon=}, {reach=}, {stride=}; wanted numbers above 0")

    def draw(generator: torch.Generator, count: int) -> Tasks:
        return {"goal": reach * (2 * torch.rand(count, 2, generator=generator) - 1)}

    def begin(tasks: Tasks, _generator: torch.Generator) -> State:
        return torch.zeros_like(tasks["goal"])

    def step(
        tasks: Tasks, state: State, action: torch.Tensor, _generator: torch.Generator
    ) -> tuple[State, torch.Tensor]:
        after = state + action.clamp(-stride, stride)
        return after, -(after - tasks["goal"]).square().sum(-1)

    return Environment(2, 2, horizon, draw, begin, lambda _tasks, state: state, step, is_continuous=True)
