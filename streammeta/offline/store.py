"""A trained θ on disk: one safetensors file, replaced atomically; nothing in it can run code."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from streammeta.errors import SnapshotError
from streammeta.meta.learner import OuterState, named, part

__all__ = ["Trained", "load", "store"]

_FORMAT = 1


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
    # the order of names is kept: the outer optimizer has θ as one vector, in that order
    header = {"format": _FORMAT, "updates": state.updates, "order": list(tensors), "about": trained.about}
    plain = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    beside = path.with_name(path.name + ".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as file:
            file.write(save(plain, {"streammeta": json.dumps(header)}))
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as err:
        raise SnapshotError(f"{path}: the trained weights cannot be written ({err}); name another file") from err


def load(path: Path) -> Trained:
    """What ``store`` wrote.

    Raises:
        SnapshotError: there is no such file, it is damaged, or of another format.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["streammeta"])
            tensors: dict[str, torch.Tensor] = {name: file.get_tensor(name).clone() for name in header["order"]}
        found = header["format"]
        updates, about, refused, loss = header["updates"], header["about"], tensors["refused"], tensors["loss"]
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as err:
        wanted = "a file that `streammeta meta-train` wrote"
        raise SnapshotError(f"{path}: not readable trained weights ({err!r}); wanted {wanted}") from err
    if found != _FORMAT:
        raise SnapshotError(f"{path}: trained weights of format {found}, wanted {_FORMAT}; train them again")
    parts = (part(tensors, "theta"), part(tensors, "memory"), part(tensors, "anchor"))
    return Trained(OuterState(*parts, updates, refused, loss), about)
