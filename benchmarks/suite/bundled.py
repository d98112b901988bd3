"""Data sets that River and scikit-learn carry inside their packages: in their order, or with drifts put upon them."""

from collections.abc import Iterable

import numpy as np
from numpy.random import default_rng
from river import datasets

from benchmarks.suite.table import Floats, Table

__all__ = ["permuted", "river", "scikit", "swapped"]

_RIVER = {
    "phishing": datasets.Phishing,
    "bananas": datasets.Bananas,
    "image_segments": datasets.ImageSegments,
    "trump": datasets.TrumpApproval,
    "chicks": datasets.ChickWeights,
    "water": datasets.WaterFlow,
    "passengers": datasets.AirlinePassengers,
}


def river(name: str) -> Table:
    """One of River's; times become days and the day of the year, and chicks are tasks."""
    rows: Iterable[tuple[dict[str, object], object]] = _RIVER[name]()
    xs, ys, tasks = [], [], []
    for x, y in rows:
        numbers: dict[str, float] = {}
        for key, value in x.items():
            if name == "chicks" and key == "chick":
                tasks.append(f"chick-{value}")
            elif hasattr(value, "toordinal"):
                numbers |= {"day": float(value.toordinal()), "day_of_year": float(value.timetuple().tm_yday)}
                if hasattr(value, "hour"):
                    numbers["hour"] = float(value.hour)
            else:
                numbers[key] = float(value)  # type: ignore[arg-type]
        xs.append(list(numbers.values()))
        names = list(numbers)
        ys.append(y)
    if isinstance(ys[0], str):
        number = {label: i for i, label in enumerate(dict.fromkeys(ys))}
        ys = [number[y] for y in ys]  # type: ignore[index]
    return Table(np.array(xs, np.float64), np.array(ys, np.float64), tasks or None, names)


def scikit(name: str, seed: int) -> Table:
    """One of scikit-learn's, shuffled: their files are sorted by class."""
    from sklearn import datasets as bundled  # noqa: PLC0415  only who asks for it pays for it

    found = getattr(bundled, f"load_{name}")()
    order = default_rng((seed, 20)).permutation(len(found.target))
    return Table(found.data[order].astype(np.float64), found.target[order].astype(np.float64))


def swapped(table: Table, seed: int) -> Table:
    """The classes change places at each quarter."""
    rng = default_rng((seed, 21))
    classes = int(table.ys.max()) + 1
    quarter = np.arange(len(table.ys)) * 4 // len(table.ys)
    orders = np.stack([(np.arange(classes) + shift) % classes for shift in rng.permutation(4)])
    ys: Floats = orders[quarter, table.ys.astype(int)].astype(np.float64)
    return Table(table.xs, ys, table.tasks, table.names)


def permuted(table: Table, seed: int) -> Table:
    """The features change places at each quarter."""
    rng = default_rng((seed, 22))
    quarter = np.arange(len(table.ys)) * 4 // len(table.ys)
    orders = np.stack([rng.permutation(table.xs.shape[1]) for _ in range(4)])
    return Table(np.take_along_axis(table.xs, orders[quarter], axis=1), table.ys, table.tasks, table.names)
