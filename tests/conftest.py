"""What tests of several packages need: where the real data are, and small seeded streams."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import structlog
import torch

from streammeta.event import Event, Origin

torch.set_num_threads(1)  # small matrices: more threads only make noise

_OF_BROKERS = ("broker", "faults")  # folders whose tests start a Kafka, or use one
_DATA = Path(os.environ.get("STREAMMETA_DATA", Path(__file__).parents[2] / "shared" / "data"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let one of pytest's two processes run what wants a Kafka: there is one at a time, and it is started once."""
    here = Path(__file__).parent
    for item in items:
        folders = item.path.relative_to(here).parts if here in item.path.parents else ()
        if {"broker", "kafka"} & set(getattr(item, "fixturenames", ())) or {*folders[:1]} & {*_OF_BROKERS}:
            item.add_marker(pytest.mark.xdist_group("kafka"))


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name bytes by their parameter: gzip's hold the second they were made in, and two processes must name alike."""
    return argname if isinstance(val, bytes) else None


@pytest.fixture(autouse=True)
def _logs_as_they_were() -> Iterator[None]:
    """A command sets up logs for its process; the tests after it must not print them."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def data_file() -> Callable[[str], Path]:
    """The path of a real data file; where it is absent the test skips and says so, but in CI it fails."""

    def find(name: str) -> Path:
        path = _DATA / name
        if not path.exists():
            reason = f"{path} is absent; set STREAMMETA_DATA to the folder that holds {name}"
            if os.environ.get("CI"):
                pytest.fail(reason)
            pytest.skip(reason)
        return path

    return find


@pytest.fixture(scope="session")
def linear_tasks() -> Callable[..., list[Event]]:
    """Events of several tasks, each with a linear concept of its own over three features, drawn in random order."""

    def make(
        n: int, *, tasks: int = 3, seed: int = 0, kind: str = "classification", switch_at: int | None = None
    ) -> list[Event]:
        random = np.random.default_rng(seed)
        laws = random.normal(size=(tasks, 3))
        events = []
        for i in range(n):
            if i == switch_at:
                laws = -laws
            task = int(random.integers(tasks))
            x = random.normal(size=3)
            value = float(x @ laws[task])
            y: int | float = int(value > 0) if kind == "classification" else value + 0.1 * float(random.normal())
            features = {name: float(v) for name, v in zip("abc", x, strict=True)}
            events.append(Event(features, f"task-{task}", Origin("test", 0, i), y=y, id=str(i), ts=float(i)))
        return events

    return make
