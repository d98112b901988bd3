"""Optimizers as pure functions, for inner loops (differentiable, batched over tasks) and for the outer one.

Sources: momentum, Polyak (1964); RMSprop, Tieleman & Hinton (2012); Adam, Kingma & Ba (2015), arXiv:1412.6980.
"""

import math
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch

from streammeta.errors import ConfigError

__all__ = ["Memory", "Optimizer", "Rate", "adam", "cosine", "linear", "momentum", "rmsprop", "sgd"]

Memory: TypeAlias = dict[str, torch.Tensor]
Params: TypeAlias = dict[str, torch.Tensor]
Rate: TypeAlias = float | Callable[[int], float]  # a step size, or one for each count of steps made

_TINY = 1e-8


class Optimizer(NamedTuple):
    """Slopes in, parameters out; ``made`` counts the steps made before this one."""

    start: Callable[[Params], Memory]
    step: Callable[[Params, Params, Memory, int], tuple[Params, Memory]]  # (params, slopes, memory, made)


def sgd(rate: Rate) -> Optimizer:
    """θ ← θ − α g."""
    at = _scheduled(rate)

    def step(params: Params, slopes: Params, memory: Memory, made: int) -> tuple[Params, Memory]:
        return {name: p - at(made) * slopes[name] for name, p in params.items()}, memory

    return Optimizer(lambda _: {}, step)


def momentum(rate: Rate, *, decay: float = 0.9) -> Optimizer:
    """v ← β v + g, θ ← θ − α v."""
    at, _ = _scheduled(rate), _checked("momentum", decay)

    def step(params: Params, slopes: Params, memory: Memory, made: int) -> tuple[Params, Memory]:
        speed = {name: decay * memory[name] + slopes[name] for name in params}
        return {name: p - at(made) * speed[name] for name, p in params.items()}, speed

    return Optimizer(_zeros, step)


def rmsprop(rate: Rate, *, decay: float = 0.99) -> Optimizer:
    """v ← β v + (1 − β) g², θ ← θ − α g / √(v + ε)."""
    at, _ = _scheduled(rate), _checked("rmsprop", decay)

    def step(params: Params, slopes: Params, memory: Memory, made: int) -> tuple[Params, Memory]:
        square = {name: decay * memory[name] + (1 - decay) * slopes[name].square() for name in params}
        moved = {name: p - at(made) * slopes[name] * (square[name] + _TINY).rsqrt() for name, p in params.items()}
        return moved, square

    return Optimizer(_zeros, step)


def adam(rate: Rate, *, decay: float = 0.9, square_decay: float = 0.999) -> Optimizer:
    """m ← β₁ m + (1 − β₁) g, v ← β₂ v + (1 − β₂) g², θ ← θ − α m̂ / √(v̂ + ε²), both without their start's bias.

    ε is inside the root, which makes the step differentiable where g is 0, as an inner loop needs.
    """
    at, _ = _scheduled(rate), _checked("adam", decay) + _checked("adam", square_decay)

    def step(params: Params, slopes: Params, memory: Memory, made: int) -> tuple[Params, Memory]:
        first = {name: decay * memory[f"first.{name}"] + (1 - decay) * slopes[name] for name in params}
        second = {
            name: square_decay * memory[f"second.{name}"] + (1 - square_decay) * slopes[name].square()
            for name in params
        }
        size, shrink = at(made) / (1 - decay ** (made + 1)), 1 / (1 - square_decay ** (made + 1))
        moved = {
            name: p - size * first[name] * (second[name] * shrink + _TINY**2).rsqrt() for name, p in params.items()
        }
        kept = {f"first.{name}": m for name, m in first.items()} | {f"second.{name}": v for name, v in second.items()}
        return moved, kept

    def start(params: Params) -> Memory:
        return {f"{which}.{name}": torch.zeros_like(p) for which in ("first", "second") for name, p in params.items()}

    return Optimizer(start, step)


def cosine(first: float, last: float, steps: int) -> Callable[[int], float]:
    """A rate that falls along half a cosine, from ``first`` to ``last`` in ``steps`` steps, and stays there."""

    def at(made: int) -> float:
        return last + (first - last) * 0.5 * (1 + math.cos(math.pi * min(made / steps, 1.0)))

    return at


def linear(first: float, last: float, steps: int) -> Callable[[int], float]:
    """A rate that falls in a straight line, as Reptile's does."""

    def at(made: int) -> float:
        return first + (last - first) * min(made / steps, 1.0)

    return at


def _scheduled(rate: Rate) -> Callable[[int], float]:
    if callable(rate):
        return rate
    if not rate > 0:
        raise ConfigError(f"optimizer: got rate {rate}; wanted a number above 0")
    return lambda _made: rate


def _checked(name: str, decay: float) -> float:
    if not 0 <= decay < 1:
        raise ConfigError(f"optimizer {name}: got decay {decay}; wanted 0 <= decay < 1")
    return decay


def _zeros(params: Params) -> Memory:
    return {name: torch.zeros_like(p) for name, p in params.items()}
