"""Meta-gradients over several processes: each computes that of its share of the segments, and one puts them together.

Rank 0 has the engine, and makes meta-updates; the others wait for θ and episodes, and answer with their part. Parts
are weighted by the events that they score, for each member of the ensemble, so that the sum is the gradient of all
segments. By torch.distributed with gloo, on CPUs and GPUs alike: θ is kilobytes. What goes over the wire are
safetensors' bytes and float64 vectors; nothing is pickled.
"""

import datetime
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import numpy as np
import numpy.typing as npt
import torch
from safetensors.numpy import load, save
from torch import distributed
from torch._C._distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from streammeta.errors import TransportError
from streammeta.meta.base import Episodes, Gradient, Theta
from streammeta.meta.outer import join, split

__all__ = ["Ranks"]

_THETA = "theta."
_ATTEMPT = "TORCHELASTIC_RESTART_COUNT"
_BEAT_EVERY = 5.0  # seconds in which rank 0 says something, at a stream at rest too
_END, _BEAT = 0, -1  # in place of a message's size


class Ranks:
    """A process among those that `torchrun` started, which are all there when this returns.

    Args:
        gpu: whether each computes on a GPU of its own, by LOCAL_RANK.
        patience_seconds: the longest wait for another rank; one that is silent for longer counts as gone.
        clock: monotonic seconds.

    Raises:
        TransportError: the others are not there, or one of them ended while we wait for it.
    """

    def __init__(
        self, *, gpu: bool = False, patience_seconds: float = 600.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock, self._beat_at = clock, 0.0
        with _others_needed():
            wait = datetime.timedelta(seconds=patience_seconds)
            store, rank, size = next(rendezvous("env://", timeout=wait))
            # torchrun keeps its store when it starts all again: addresses of ranks that are gone must not be found
            attempt = PrefixStore(f"attempt {os.environ.get(_ATTEMPT, '0')}", store)
            distributed.init_process_group("gloo", store=attempt, rank=rank, world_size=size, timeout=wait)
        if gpu:
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        self.rank, self.size = distributed.get_rank(), distributed.get_world_size()

    def averaged(self, gradient: Gradient) -> Gradient:
        """The gradient over all ranks, for rank 0; the others are in ``serve`` meanwhile."""

        def over_all(theta: Theta, episodes: Episodes, device: str) -> tuple[float, Theta]:
            arrays = {_THETA + name: np.ascontiguousarray(p) for name, p in theta.items()}
            arrays |= {name: np.ascontiguousarray(part) for name, part in zip(Episodes._fields, episodes, strict=True)}
            self._give(save(arrays))
            value, slopes = self._summed(gradient, theta, episodes, device)
            return value, slopes

        return over_all

    def beat(self) -> None:
        """Let the others know that rank 0 is there, where it has said nothing for a while.

        Raises:
            TransportError: another rank ended, or is silent.
        """
        if self._clock() >= self._beat_at:
            self._announce(_BEAT)

    def serve(self, gradient: Gradient, device: str) -> int:
        """Compute our part of each meta-gradient until rank 0 ends; returns how many there were.

        Raises:
            TransportError: rank 0 ended without a word, or is silent.
        """
        done = 0
        while data := self._given():
            arrays = load(data)
            theta = {name.removeprefix(_THETA): p for name, p in arrays.items() if name.startswith(_THETA)}
            self._summed(gradient, theta, Episodes(*(arrays[name] for name in Episodes._fields)), device)
            done += 1
        return done

    def close(self) -> None:
        """Let the others end, where we are rank 0, and leave."""
        if self.rank == 0:
            with suppress(TransportError):  # they ended before us
                self._give(b"")
        distributed.destroy_process_group()

    def _announce(self, size: int) -> None:
        with _others_needed():
            distributed.broadcast(torch.tensor([size]), 0)
            if size == _BEAT:
                distributed.barrier()  # a broadcast alone ends before anybody has it
        self._beat_at = self._clock() + _BEAT_EVERY

    def _give(self, data: bytes) -> None:
        self._announce(len(data))
        if data:
            with _others_needed():
                distributed.broadcast(torch.frombuffer(bytearray(data), dtype=torch.uint8), 0)

    def _given(self) -> bytes:
        size = torch.tensor([_BEAT])
        with _others_needed():
            while True:
                distributed.broadcast(size, 0)
                if int(size) != _BEAT:
                    break
                distributed.barrier()
            data = torch.empty(int(size), dtype=torch.uint8)
            if int(size) != _END:
                distributed.broadcast(data, 0)
        return data.numpy().tobytes()

    def _summed(self, gradient: Gradient, theta: Theta, episodes: Episodes, device: str) -> tuple[float, Theta]:
        """Our part, added up with those of all others: every rank has the sum."""
        mine = np.array_split(np.arange(episodes.x.shape[1]), self.size)[self.rank]
        of_all = episodes.scored.sum((1, 2), dtype=np.float64)  # [E]
        order = sorted(theta)  # the same on every rank, however θ came there
        total, parts = 0.0, {name: np.zeros(theta[name].shape) for name in order}
        if mine.size:
            part = Episodes(*(np.ascontiguousarray(one[:, mine]) for one in episodes))
            share = part.scored.sum((1, 2), dtype=np.float64) / of_all
            value, slopes = gradient(theta, _never_empty(part), device)
            total = value * float(share.mean())
            parts = {name: _weighted(slopes[name], share) for name in order}
        vector = torch.from_numpy(np.append(join(parts), total))
        with _others_needed():
            distributed.all_reduce(vector)
        found = vector.numpy()
        summed = split(found[:-1], parts)
        return float(found[-1]), {name: summed[name].astype(p.dtype) for name, p in theta.items()}


@contextmanager
def _others_needed() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError) as err:  # what torch.distributed raises of all kinds
        raise TransportError(
            f"another rank cannot be reached, has ended, or is silent: {err}; torchrun starts all again where its "
            "--max-restarts allows it"
        ) from err


def _weighted(slope: npt.NDArray[np.floating], share: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """A part of the gradient [E, …], each member's by its share [E]; what members have in common by the mean one."""
    own = slope.ndim > 0 and len(slope) == len(share)
    factor = share.reshape(-1, *[1] * (slope.ndim - 1)) if own else share.mean()
    found: npt.NDArray[np.float64] = slope * factor
    return found


def _never_empty(part: Episodes) -> Episodes:
    """The same, where a member that scores nothing here scores everything, as its share is 0 anyway."""
    empty = part.scored.sum((1, 2)) == 0
    if not empty.any():
        return part
    scored: npt.NDArray[np.floating] = np.where(empty[:, None, None], np.ones_like(part.scored), part.scored)
    return part._replace(scored=scored)
