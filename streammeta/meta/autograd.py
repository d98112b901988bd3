"""Where torch begins: values and gradients by its reverse mode, on a CPU or a GPU, of a θ that lies in numpy arrays."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from streammeta.errors import ConfigError
from streammeta.meta.base import Episodes, Theta

__all__ = ["EpisodeTensors", "by_autograd", "check_device", "cpu_threads", "into_arrays", "into_tensors"]


class EpisodeTensors(NamedTuple):
    """`Episodes` as torch has them, of the same shapes."""

    x: torch.Tensor  # [E, B, L, D]
    y: torch.Tensor  # [E, B, L]
    valid: torch.Tensor  # [E, B, L]
    scored: torch.Tensor  # [E, B, L]

    @classmethod
    def of(cls, episodes: Episodes, device: str = "cpu") -> "EpisodeTensors":
        """Episodes on a device; on the CPU the same memory."""
        return cls(*(torch.from_numpy(np.ascontiguousarray(part)).to(device) for part in episodes))


@contextmanager
def cpu_threads(wanted: int) -> Iterator[None]:
    """Let torch use ``wanted`` threads; for small matrices more than one only wait for each other."""
    before = torch.get_num_threads()
    if before == wanted:
        yield
        return
    torch.set_num_threads(wanted)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def into_tensors(theta: Mapping[str, npt.NDArray[Any]], device: str = "cpu") -> dict[str, torch.Tensor]:
    """θ as torch has it; on the CPU the same memory."""
    return {name: torch.from_numpy(p).to(device) for name, p in theta.items()}


def into_arrays(theta: Mapping[str, torch.Tensor]) -> Theta:
    """θ as the engine has it; from the CPU the same memory."""
    return {name: p.detach().cpu().numpy() for name, p in theta.items()}


def by_autograd(
    loss: Callable[[Any, Any], torch.Tensor], *, threads: int = 1
) -> Callable[[Theta, Episodes, str], tuple[float, Theta]]:
    """The value and gradient of a loss over tensors, with ``threads`` CPU threads."""

    def gradient(theta: Theta, episodes: Episodes, device: str = "cpu") -> tuple[float, Theta]:
        with cpu_threads(threads):
            inputs = {name: p.requires_grad_() for name, p in into_tensors(theta, device).items()}
            value = loss(inputs, EpisodeTensors.of(episodes, device))
            slopes = torch.autograd.grad(value, list(inputs.values()))
            return float(value.detach()), into_arrays(dict(zip(inputs, slopes, strict=True)))

    return gradient


def check_device(name: str) -> str:
    """The name of a device that can be used; raises ConfigError where it cannot."""
    try:
        torch.zeros(1, device=torch.device(name))
    except (RuntimeError, AssertionError) as err:
        raise ConfigError(
            f"[learner] device: {name!r} cannot be used here; wanted auto, cpu or an existing GPU"
        ) from err
    return name
