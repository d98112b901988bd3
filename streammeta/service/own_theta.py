"""What a member that changes θ publishes of it, with its own transactions."""

import time
from collections.abc import Sequence
from dataclasses import replace

import msgspec

from streammeta.engine.weights import About, Weights, encode_progress, encode_weights
from streammeta.service.published import MEMBER, PROGRESS, THETA, History

__all__ = ["OwnTheta"]


class OwnTheta:
    """Says which records of our θ go with a transaction.

    Args:
        keep_versions: how many earlier ones stay readable; 0: none.
    """

    def __init__(self, keep_versions: int) -> None:
        self._history, self._version, self._about = History(keep_versions), -1, About()
        self._written = b""  # digest of θ as we published it last; none: we have not

    def begin(self) -> None:
        """Nothing that was published counts as ours any more: there is another engine, or another θ."""
        self._written = b""

    def records(
        self, weights: Weights, segments: int, positions: Sequence[tuple[int, int]]
    ) -> list[tuple[bytes, bytes]]:
        """What of θ changes with every event; θ, where anything else has changed; and now and then one to keep.

        Args:
            weights: θ as it is.
            segments: of other members that it learned from.
            positions: of each partition of their episodes, the offset to which it learned.
        """
        if weights.version != self._version:
            self._version, self._about = weights.version, About(made=time.time(), by=MEMBER)
        self._about = msgspec.structs.replace(self._about, segments=segments, positions=list(positions))
        weights = replace(weights, about=self._about)
        keys, digest = [self._history.key(self._about.made)], weights.digest()
        if digest != self._written:
            keys.append(THETA)
        self._written = digest  # where the transaction fails, the engine is dropped, and `begin` is called
        value = encode_weights(weights) if any(keys) else b""
        progress = PROGRESS, encode_progress(weights.progress)
        return [progress, *((key, value) for key in keys if key is not None)]
