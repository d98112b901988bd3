"""A trained θ on disk: one safetensors file, replaced atomically; nothing in it can run code."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from streammeta.bounds import Count
from streammeta.engine.packing import write_whole
from streammeta.errors import SnapshotError
from streammeta.meta.learner import OuterState, named, part

__all__ = ["Trained", "load", "store"]

_FORMAT = 1
_HEADER = "streammeta"  # its name in the file
_WANTED = "a file that `streammeta meta-train` wrote"


class _Version(msgspec.Struct, frozen=True):
    format: int


class _Header(msgspec.Struct, frozen=True):
    format: int
    updates: Count
    order: list[str]  # of the tensors: the outer optimizer has θ as one vector, in that order
    about: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training run left: where it stands, and what it was."""

    state: OuterState
    about: Mapping[str, Any]  # method, family, schedule: what JSON can hold


def store(path: Path, trained: Trained) -> None:
    """Write as one file that is either all there or not changed.

    Raises:
        SnapshotError: it cannot be written.
    """
    state = trained.state
    tensors = named("theta", state.theta) | named("memory", state.memory) | named("anchor", state.anchor)
    tensors |= {"refused": state.refused, "loss": state.loss}
    header = _Header(_FORMAT, int(state.updates), list(tensors), dict(trained.about))
    plain = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    try:
        write_whole(path, save(plain, {_HEADER: msgspec.json.encode(header).decode()}))
    except OSError as err:
        raise SnapshotError(f"{path}: the trained weights cannot be written ({err}); name another file") from err


def load(path: Path) -> Trained:
    """What ``store`` wrote.

    Raises:
        SnapshotError: there is no such file, it is damaged, or of another format.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = _read_header(path, (file.metadata() or {}).get(_HEADER, ""))
            missing = {*header.order, "refused", "loss"}.difference(file.keys())
            if missing:
                raise SnapshotError(f"{path}: trained weights without {min(missing)!r}: damaged; wanted {_WANTED}")
            tensors: dict[str, torch.Tensor] = {name: file.get_tensor(name).clone() for name in header.order}
            refused, loss = file.get_tensor("refused").clone(), file.get_tensor("loss").clone()
    except (OSError, SafetensorError) as err:
        raise SnapshotError(f"{path}: not readable trained weights ({err!r}); wanted {_WANTED}") from err
    parts = (part(tensors, "theta"), part(tensors, "memory"), part(tensors, "anchor"))
    return Trained(OuterState(*parts, header.updates, refused, loss), header.about)


def _read_header(path: Path, text: str) -> _Header:
    try:
        found = msgspec.json.decode(text, type=_Version).format
        if found != _FORMAT:
            raise SnapshotError(f"{path}: trained weights of format {found}, wanted {_FORMAT}; train them again")
        return msgspec.json.decode(text, type=_Header)
    except (msgspec.DecodeError, RecursionError) as err:
        raise SnapshotError(f"{path}: not readable trained weights ({err}); wanted {_WANTED}") from err
