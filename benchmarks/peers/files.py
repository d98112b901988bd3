"""The files to compare on: what is predicted, how many rows a published table takes, and how late labels come."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.peers.environments import ROOT
from benchmarks.peers.prequential import read_rows
from streammeta.engine import Kind

__all__ = ["FILES", "File", "data_folder", "describe"]

_MOST_CLASSES = 64


@dataclass(frozen=True)
class File:
    """What the benchmark must know of a file."""

    kind: Kind
    rows: int | None = None  # of the published table; None: all
    delay: int = 0  # rows after which a label comes


FILES: Mapping[str, File] = {
    "elec2": File("classification", 10_000),
    "outdoor": File("classification"),
    "gas_drift": File("classification"),
    "wisdm_mixed": File("classification"),
    "wisdm_users": File("classification"),
    "school": File("regression", 10_000),
    "movielens_users": File("classification", 10_000),
    "beijing_air": File("regression", 10_000, delay=48),  # 24 hours of 12 stations, every 6 hours
}


def data_folder() -> Path:
    """Where the streams lie: STREAMMETA_DATA, or shared/data beside the repository."""
    return Path(os.environ.get("STREAMMETA_DATA", ROOT.parent / "shared" / "data")) / "streams"


def describe(name: str, path: Path) -> File:
    """A file of the table above, or another one: few whole numbers as labels are classes."""
    if name in FILES:
        return FILES[name]
    labels = np.unique(read_rows(path).ys)
    whole = bool(np.all(labels == np.floor(labels))) and bool(np.all(labels >= 0))
    return File("classification" if whole and labels.size <= _MOST_CLASSES else "regression")
