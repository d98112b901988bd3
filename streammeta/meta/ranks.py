"""The processes that `torchrun` started: what they say to each other, and one meta-gradient over the segments of all.

Rank 0 gives, all others are given, and answer. Parts of a gradient are weighted by the events that they score, for each
member of the ensemble, so that the sum is the gradient of all segments in one process. By torch.distributed with gloo,
on CPUs and GPUs alike: θ is kilobytes. What goes over the wire are bytes and float64 vectors; nothing is pickled.
"""

import datetime
import os
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import numpy as np
import numpy.typing as npt
import torch
from torch import distributed
from torch._C._distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from streammeta.errors import TransportError
from streammeta.meta.base import Episodes, Gradient, Theta
from streammeta.meta.outer import join, split

__all__ = ["Ranks"]

_ATTEMPT = "TORCHELASTIC_RESTART_COUNT"
_BEAT_EVERY = 5.0  # seconds in which rank 0 says something, at a stream at rest too
_END, _BEAT = 0, -1  # in place of a message's size
_SIZE = struct.Struct("<q")  # with which a message begins
_AT_ONCE, _ANSWER = 65_536, 4_096  # bytes of a message, and of an answer, that go with its size


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

    def over_all(self, gradient: Gradient, scored: npt.NDArray[np.float64]) -> Gradient:
        """The gradient over the segments of all ranks, which call it at once, each with its own: the sum on each.

        Args:
            gradient: of the learner.
            scored: events that count for each member [E], in all segments.
        """

        def summed(theta: Theta, episodes: Episodes, device: str) -> tuple[float, Theta]:
            order = sorted(theta)  # the same on every rank, however θ came there
            total, parts = 0.0, {name: np.zeros(theta[name].shape) for name in order}
            if episodes.x.shape[1]:
                share = episodes.scored.sum((1, 2), dtype=np.float64) / scored
                value, slopes = gradient(theta, _never_empty(episodes), device)
                total = value * float(share.mean())
                parts = {name: _weighted(slopes[name], share) for name in order}
            found = self.total(np.append(join(parts), total))
            slopes = split(found[:-1], parts)
            return float(found[-1]), {name: slopes[name].astype(p.dtype) for name, p in theta.items()}

        return summed

    def give(self, data: bytes) -> None:
        """Rank 0: hand this to the others, at least a byte.

        Raises:
            TransportError: another rank ended, or is silent; so all that follows here does.
        """
        self._broadcast(len(data), data)

    def given(self) -> bytes | None:
        """The others: what rank 0 gives next; None: nothing any more, it ends."""
        while True:
            begin = torch.empty(_SIZE.size + _AT_ONCE, dtype=torch.uint8)
            with _others_needed():
                distributed.broadcast(begin, 0)
                data = begin.numpy().tobytes()
                (size,) = _SIZE.unpack_from(data)
                if size == _BEAT:
                    distributed.barrier()
                    continue
                if size == _END:
                    return None
                rest = torch.empty(max(size - _AT_ONCE, 0), dtype=torch.uint8)
                if size > _AT_ONCE:
                    distributed.broadcast(rest, 0)
            return data[_SIZE.size :][:size] + rest.numpy().tobytes()

    def gathered(self, data: bytes) -> list[bytes]:
        """What each rank says here, in their order, at rank 0; nothing at the others. All call it at once."""
        begin = _padded(_SIZE.pack(len(data)) + data[:_ANSWER], _SIZE.size + _ANSWER)
        begins = [torch.empty_like(begin) for _ in range(self.size)]
        with _others_needed():
            distributed.all_gather(begins, begin)
            sizes = [_SIZE.unpack_from(one.numpy().tobytes())[0] for one in begins]
            longest, rests = max(sizes) - _ANSWER, [torch.empty(0, dtype=torch.uint8)] * self.size
            if longest > 0:
                rests = [torch.empty(longest, dtype=torch.uint8) for _ in sizes] if self.rank == 0 else []
                distributed.gather(_padded(data[_ANSWER:], longest), rests or None, 0)
        if self.rank:
            return []
        said = [a.numpy().tobytes()[_SIZE.size :] + b.numpy().tobytes() for a, b in zip(begins, rests, strict=True)]
        return [one[:size] for one, size in zip(said, sizes, strict=True)]

    def beat(self) -> None:
        """Rank 0: let the others know that we are there, where they were given nothing for a while."""
        if self._clock() >= self._beat_at:
            self._broadcast(_BEAT)

    def __enter__(self) -> "Ranks":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Leave. The others end, too: in order where rank 0 does, and else because it is gone."""
        if self.rank == 0 and kind is None:
            with suppress(TransportError):  # they ended before us
                self.give(b"")
        distributed.destroy_process_group()

    def _broadcast(self, size: int, data: bytes = b"") -> None:
        """Rank 0: hand over what is of this size; most of it fits into one message of a size that all know."""
        with _others_needed():
            distributed.broadcast(_padded(_SIZE.pack(size) + data[:_AT_ONCE], _SIZE.size + _AT_ONCE), 0)
            if size > _AT_ONCE:
                distributed.broadcast(torch.frombuffer(bytearray(data[_AT_ONCE:]), dtype=torch.uint8), 0)
            if size == _BEAT:
                distributed.barrier()  # a broadcast alone ends before anybody has it
        self._beat_at = self._clock() + _BEAT_EVERY

    def total(self, vector: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The sum of all ranks' vectors, of one size, on each; all call it at once, and what is given may change."""
        found = torch.from_numpy(vector)
        with _others_needed():
            distributed.all_reduce(found)
        summed: npt.NDArray[np.float64] = found.numpy()
        return summed


@contextmanager
def _others_needed() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError) as err:  # what torch.distributed raises of all kinds
        raise TransportError(
            f"another rank cannot be reached, has ended, or is silent: {err}; torchrun starts all again where its "
            "--max-restarts allows it"
        ) from err


def _padded(data: bytes, size: int) -> torch.Tensor:
    """These bytes, and zeros up to this size."""
    return torch.frombuffer(bytearray(data.ljust(size, b"\0")), dtype=torch.uint8)


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
