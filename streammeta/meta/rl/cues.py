"""Cues: what was seen some steps ago says what pays now, in episodes that are longer than any part replayed of them."""

import torch

from streammeta.errors import ConfigError
from streammeta.meta.rl.base import Environment, State, Tasks

__all__ = ["cues"]


def cues(horizon: int = 120, shortest: int = 4, longest: int = 20) -> Environment:
    """A corridor after another: a cue at its start, a junction at its end, where the cue says which way pays.

    A corridor has ``shortest`` to ``longest`` steps from cue to junction, evenly in their logarithm: short ones teach
    that a cue matters, long ones ask for it to be remembered. The right way there pays 1, the
    wrong one −1; elsewhere actions do nothing. O = 3: the two cues and the junction, each 1 where it is seen. Nothing
    differs between tasks but chance; "side", [T], is the cue of a task's first corridor.

    Args:
        horizon: steps of an episode, which has many corridors.
        shortest: steps from a cue to its junction, at least.
        longest: the same, at most.

    Raises:
        ConfigError: no corridor fits.

    Source:
        after the T-maze of Bakker (2001), "Reinforcement learning with long short-term memory".
    """
    if not 1 <= shortest <= longest < horizon:
        raise ConfigError(f"cues: got {shortest=}, {longest=}, {horizon=}; wanted 1 <= shortest <= longest < horizon")

    def entered(side: torch.Tensor, generator: torch.Generator) -> State:
        """At the start of a corridor: steps to the junction, the side that pays, whether the cue is seen; [T, 3]."""
        spread = torch.rand(side.shape, generator=generator)
        steps = (shortest * ((longest + 1) / shortest) ** spread).long().clamp(max=longest)
        return torch.stack([steps, side, torch.ones_like(side)], -1)

    def draw(generator: torch.Generator, count: int) -> Tasks:
        return {"side": torch.randint(2, (count,), generator=generator)}

    def begin(tasks: Tasks, generator: torch.Generator) -> State:
        return entered(tasks["side"], generator)

    def observe(_tasks: Tasks, state: State) -> torch.Tensor:
        steps, side, is_seen = state.unbind(-1)
        return torch.stack([is_seen * (1 - side), is_seen * side, (steps == 0).long()], -1).float()

    def step(
        _tasks: Tasks, state: State, action: torch.Tensor, generator: torch.Generator
    ) -> tuple[State, torch.Tensor]:
        steps, side, _ = state.unbind(-1)
        is_junction = steps == 0
        reward = torch.where(is_junction, 2.0 * (action == side) - 1, 0.0)
        fresh = entered(torch.randint(2, side.shape, generator=generator), generator)
        onward = torch.stack([steps - 1, side, torch.zeros_like(side)], -1)
        return torch.where(is_junction.unsqueeze(-1), fresh, onward), reward

    def regret(_tasks: Tasks, state: State, action: torch.Tensor, _step: int) -> torch.Tensor:
        steps, side, _ = state.unbind(-1)
        return torch.where((steps == 0) & (action != side), 2.0, 0.0)

    return Environment(3, 2, horizon, draw, begin, observe, step, regret)
