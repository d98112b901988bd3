"""A whole training as one value: the settings of `streammeta meta-train`, which its file keeps for `meta-eval`."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, TypeAlias, TypeVar

import msgspec
import torch

from streammeta.episode.family import Family
from streammeta.episode.image import mnist, omniglot
from streammeta.episode.names import FamilyName
from streammeta.episode.sinusoid import sinusoids
from streammeta.episode.table import folds, read_table
from streammeta.errors import ConfigError, SnapshotError
from streammeta.formats.fields import Fields, make_fields
from streammeta.meta.base import Kind, Method
from streammeta.meta.catalogue import Tuning, build
from streammeta.meta.growth import sized
from streammeta.meta.learner import Learner, OuterState, served
from streammeta.meta.objective import Outer
from streammeta.meta.optimizer import adam
from streammeta.meta.settings import METHOD_NAMES, USES_INNER_RATE, USES_INNER_STEPS, USES_OUTER, Penalty
from streammeta.meta.stream import in_stream
from streammeta.offline.curve import Curve
from streammeta.offline.evaluation import Evaluation, evaluate
from streammeta.offline.store import Trained, load, store
from streammeta.offline.training import Schedule, Watch, begin, train

__all__ = ["Job", "Watched", "meta_eval", "meta_train", "stream_method"]

_TABLE_FOLDS = 5  # a fifth of a table's tasks is held out
_WAYS = 5
_OUTER_RATE = 1e-3
_TEST_SEED = 20_000
_CHUNK = 100  # tasks judged at a time
Watched: TypeAlias = Callable[[OuterState], None]  # called after each update


@dataclass(frozen=True, slots=True)
class Job:
    """What is trained on what."""

    method: str
    family: FamilyName
    data: str | None = None  # the file, or for mnist the folder
    kind: Kind = "classification"  # of a table
    ways: int = _WAYS  # classes of an image task
    schedule: Schedule = field(default_factory=Schedule)
    inner_rate: float | None = None  # None: as the method has it
    inner_steps: int | None = None
    outer_rate: float = _OUTER_RATE
    penalty: Penalty = "none"
    weight: float = 0.0
    columns: dict[str, Any] = field(default_factory=dict)  # of a table: what `[input.fields]` would say

    def tasks(self) -> Family:
        """The family of tasks that the job names."""
        if self.family == "sinusoids":
            return sinusoids()
        if self.family == "sinusoid-classes":
            return sinusoids("classification")
        if self.data is None:
            raise ConfigError(f"family {self.family!r} reads a file: name it with --data")
        path = Path(self.data)
        if self.family == "omniglot":
            return omniglot(path, ways=self.ways)
        if self.family == "mnist":
            return mnist(path, ways=self.ways)
        rows = read_table(path, self.kind, fields=make_fields(Fields(), **self.columns))
        return folds(rows, min(_TABLE_FOLDS, int(rows.task.max()) + 1))[0]

    def check(self) -> None:
        """Refuse what this family or penalty would leave without effect.

        Raises:
            ConfigError: with the option's name and its remedy.
        """
        unused = {
            "--data": self.data is not None and self.family in ("sinusoids", "sinusoid-classes"),
            f"--{next(iter(self.columns), 'label')}": bool(self.columns) and self.family != "table",
            "--kind": self.kind != "classification" and self.family != "table",
            "--ways": self.ways != _WAYS and self.family not in ("omniglot", "mnist"),
        }
        for option, is_given in unused.items():
            if is_given:
                raise ConfigError(f"{option}: family {self.family!r} does not use it; leave it out")
        for option, is_given, users in (
            ("--inner-rate", self.inner_rate is not None, USES_INNER_RATE),
            ("--inner-steps", self.inner_steps is not None, USES_INNER_STEPS),
            ("--outer-rate", self.outer_rate != _OUTER_RATE, USES_OUTER),
            ("--penalty", self.penalty != "none", USES_OUTER),
        ):
            if is_given and self.method in METHOD_NAMES and self.method not in users:
                raise ConfigError(
                    f"{option}: method {self.method!r} does not use it; leave it out (these do: "
                    f"{', '.join(name for name in METHOD_NAMES if name in users)})"
                )
        if (self.penalty != "none") != (self.weight > 0):
            raise ConfigError(
                f"--penalty {self.penalty} with --weight {self.weight:g}: one does nothing without the other; give both"
            )

    def learner(self, family: Family) -> Learner:
        """The method for that family."""
        outer = Outer(adam(self.outer_rate), penalty=self.penalty, weight=self.weight)
        return build(self.method, family.problem, Tuning(self.inner_rate, self.inner_steps, outer))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], at: Path) -> "Job":
        """The job that ``asdict`` made plain values of; ``at`` is the file they were found in."""
        if "schedule" not in values:
            raise SnapshotError(f"{at}: does not say how it was trained (no schedule); train it again")
        return _typed(values, cls, at)


def meta_train(
    job: Job, out: Path, *, device: torch.device | None = None, save_every_seconds: float = 30.0, watch: Watch
) -> Trained:
    """Train, saving now and then and at the end; where ``out`` is there already, go on from it.

    Beside ``out``, its curve is drawn as a picture (``.png``).

    Raises:
        ConfigError: the file is of another job, or the job cannot be done.
    """
    job.check()
    family = job.tasks()
    learner = job.learner(family)
    state, curve = begin(learner, job.schedule, device), Curve()
    if out.exists():
        earlier = load(out)
        _same(job, Job.from_dict(earlier.about, out), out)
        state, curve = _on(earlier.state, device), Curve.from_points(_typed(earlier.about, _Drawn, out).curve)
    saved = time.monotonic()

    def on_update(now: OuterState) -> bool:
        nonlocal saved
        curve.add(now.updates, float(now.loss))
        if time.monotonic() - saved > save_every_seconds:
            _save(out, job, family, now, curve)
            saved = time.monotonic()
        return watch(now)

    state = train(learner, family, job.schedule, state, on_update)
    return _save(out, job, family, state, curve)


def meta_eval(
    file: Path, *, tasks: int = 600, support: int | None = None, query: int | None = None
) -> tuple[Job, Evaluation, Evaluation]:
    """Judge a trained θ on held-out tasks, and on as many training tasks, in that order.

    Args:
        file: what ``meta_train`` wrote.
        tasks: how many.
        support: examples to adapt on; as in training unless given.
        query: examples to be judged by; as in training unless given.
    """
    trained = load(file)
    job = Job.from_dict(trained.about, file)
    family = job.tasks()
    learner, theta = job.learner(family), served(trained.state)
    shots, asked = support or job.schedule.support, query or job.schedule.query
    found = []
    for draw, seed in ((family.test, _TEST_SEED), (family.train, _TEST_SEED + 1)):
        batch = draw(torch.Generator().manual_seed(seed), tasks, shots, asked)
        found.append(evaluate(learner, theta, batch, together=_CHUNK))
    return job, found[0], found[1]


def stream_method(file: Path, name: str, kind: Kind, *, seed: int, support: int, tuning: Tuning) -> Method:
    """The learner of a stream that begins with a trained θ, for the same features in the same order.

    Raises:
        ConfigError: the file is of another method or another kind of prediction.
    """
    trained = load(file)
    of = _typed(trained.about, _Of, file)
    if (of.method, of.problem.kind) != (name, kind):
        wanted = f"{name} for {kind}"
        raise ConfigError(f"[learner] start_from: {file} has {of.method} for {of.problem.kind}, wanted {wanted}")
    sizes = of.problem.inputs, of.problem.outputs
    theta = sized({n: p.cpu() for n, p in served(trained.state).items()}, *sizes)
    return in_stream(name, kind, seed=seed, support=support, tuning=tuning, theta=theta)


_Converted = TypeVar("_Converted")


class _Problem(msgspec.Struct, frozen=True):
    inputs: Annotated[int, msgspec.Meta(ge=1)]
    outputs: Annotated[int, msgspec.Meta(ge=1)]
    kind: Kind


class _Of(msgspec.Struct, frozen=True):
    """What a trained θ is of."""

    method: str
    problem: _Problem


class _Drawn(msgspec.Struct, frozen=True):
    """How its loss went."""

    curve: list[tuple[float, float]] = []


def _typed(about: Mapping[str, Any], kind: type[_Converted], at: Path) -> _Converted:
    """What a file says of its training, as a type; raises SnapshotError where it says something else."""
    try:
        return msgspec.convert(dict(about), kind)
    except msgspec.ValidationError as err:
        raise SnapshotError(f"{at}: does not say how it was trained ({err}); train it again") from err


def _save(out: Path, job: Job, family: Family, state: OuterState, curve: Curve) -> Trained:
    problem = {"inputs": family.problem.inputs, "outputs": family.problem.outputs, "kind": family.problem.kind}
    trained = Trained(state, asdict(job) | {"problem": problem, "curve": curve.points()})
    store(out, trained)
    curve.draw(out.with_suffix(".png"), f"{job.method} on {family.name}")
    return trained


def _same(job: Job, earlier: Job, out: Path) -> None:
    """More updates may be wanted than before; everything else must be as it was."""
    longer = replace(earlier, schedule=replace(earlier.schedule, updates=job.schedule.updates))
    for one in fields(Job):
        wanted, found = getattr(job, one.name), getattr(longer, one.name)
        if wanted != found:
            raise ConfigError(
                f"{out}: was trained with {one.name} = {found}, wanted {wanted}; name another file, or remove this one"
            )


def _on(state: OuterState, device: torch.device | None) -> OuterState:
    """The state on that device."""
    where = device or torch.device("cpu")
    theta, memory, anchor = ({n: p.to(where) for n, p in part.items()} for part in state[:3])
    return OuterState(theta, memory, anchor, state.updates, state.refused.to(where), state.loss.to(where))
