"""Which tasks a meta-update learns from."""

from collections.abc import Callable

import numpy as np
import pytest

from streammeta.contrib.sampling import Preferring
from streammeta.engine import Engine, EngineSettings
from streammeta.engine.buffer import RecentRows, push
from streammeta.engine.columns import Columns
from streammeta.engine.sampling import Alive, Uniform
from streammeta.engine.scale import SCALE_ROWS, shared_frame
from streammeta.engine.settings import Sampling
from streammeta.event import Event

FRAME = shared_frame(2, classify=True)
TASKS = 12


def table() -> tuple[Columns, RecentRows]:
    """Twelve tasks, whose label is the sign of the first feature in the first six, of the second in the others."""
    random = np.random.default_rng(0)
    columns = Columns()
    columns |= {
        "window_x": np.full((TASKS, 32, 2), np.nan, np.float32),
        "window_low": np.zeros((TASKS, 32, 0), np.float32),
        "window_y": np.zeros((TASKS, 32), np.float32),
        "scale.x": np.zeros((TASKS, SCALE_ROWS, 2)),
        "scale.y": np.zeros((TASKS, SCALE_ROWS, 1)),
        "window_count": np.zeros(TASKS, np.int64),
        "labels_since_drift": np.full(TASKS, 1000),
        "error": np.full(TASKS, 0.1),
    }
    recent = RecentRows(TASKS * 40)
    for row in np.repeat(np.arange(TASKS), 40):
        x = random.normal(size=(1, 2)).astype(np.float32)
        push(columns, np.array([row]), x, np.zeros((1, 0), np.float32), (x[:, row // 6] > 0).astype(float))
        recent.add(np.array([row]))
    return columns, recent


def drawn(sampling: Sampling, columns: Columns, recent: RecentRows, draws: int = 400) -> np.ndarray:
    """How often each task was drawn, in many draws of five."""
    random = np.random.default_rng(1)
    sampler = Uniform() if sampling == "uniform" else Preferring(sampling)
    alive = Alive(columns, recent, 8, FRAME, "classification")
    rows = [sampler.draw(alive, 5, random) for _ in range(draws)]
    return np.bincount(np.concatenate(rows), minlength=TASKS) / (5 * draws)


def test_uniform_draws_all_alike() -> None:
    """The other strategies are compared with this one."""
    assert np.ptp(drawn("uniform", *table())) < 0.05


def test_recency_prefers_who_spoke_last() -> None:
    """Otherwise its name would be a lie: here the tasks spoke one after the other."""
    shares = drawn("recency", *table())

    assert shares[-1] > 3 * shares[-4] > 0
    assert shares[-1] > 0.4


def test_loss_prefers_who_errs_most_and_forgets_nobody() -> None:
    """A task that can never be learned must not take all meta-updates."""
    columns, recent = table()
    columns["error"][3], columns["error"][5] = 0.9, np.nan

    shares = drawn("loss", columns, recent)

    assert 0.2 < shares[3] < 0.3  # half of 0.9 / 1.9, and half of a twelfth
    assert 0.02 < shares[5] < 0.07  # what is not a number is no reason to prefer a task


@pytest.mark.parametrize(("young", "near"), [(1, slice(0, 6)), (8, slice(6, 12))])
def test_nearest_prefers_tasks_that_look_like_the_one_that_just_drifted(young: int, near: slice) -> None:
    """Meta-updates then teach what the drifted task needs."""
    columns, recent = table()
    columns["labels_since_drift"][young] = 20

    shares = drawn("nearest", columns, recent)

    assert shares[near].sum() > 0.6
    assert shares.min() > 0.02


@pytest.mark.parametrize("sampling", ["recency", "loss", "nearest"])
@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_what_is_drawn_does_not_depend_on_polls_or_restarts(
    linear_tasks: Callable[..., list[Event]], sampling: str, kind: str
) -> None:
    """θ must be the same in a replay, in a slow consumer, and after a restart. To the bit."""
    events = linear_tasks(240, tasks=4, switch_at=120, kind=kind)
    chosen = EngineSettings.model_validate(
        {
            "kind": kind,
            "learner": {"hidden": 8, "encoded": 4, "members": 2},
            "meta": {"sampling": sampling, "every_events": 10, "length": 16},
        }
    )
    whole, engine, cut = Engine(chosen), Engine(chosen), []

    for at in range(0, 240, 48):
        cut += [one for i in range(at, at + 48, 6) for one in engine.step(events[i : i + 6])]
        engine = Engine.restore(chosen, engine.snapshot())

    assert cut == whole.step(events)
