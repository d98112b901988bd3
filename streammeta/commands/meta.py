"""The commands `meta-train` and `meta-eval`: parse, call the library, show what it returns.

The library is imported by the command that runs, as PyTorch takes seconds and `streammeta --help` shows these two too.
"""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from streammeta.commands.options import Exclude, Id, Include, Label, Missing, Task, Time
from streammeta.episode.names import FamilyName
from streammeta.errors import ConfigError
from streammeta.meta.settings import METHOD_NAMES, Kind, Penalty

if TYPE_CHECKING:
    import torch

    from streammeta.meta.learner import OuterState
    from streammeta.offline.evaluation import Evaluation
    from streammeta.offline.job import Job, Watched

__all__ = ["evaluate", "train"]

_LINE_SECONDS = 5.0
_Data = Annotated[
    Path | None, typer.Option(help="omniglot28.npz, the folder of MNIST's files, or a table: what replay reads.")
]


def train(
    method: Annotated[str, typer.Argument(help=", ".join(METHOD_NAMES))],
    family: Annotated[FamilyName, typer.Argument(help="Where tasks come from.")],
    *,
    data: _Data = None,
    out: Annotated[Path, typer.Option(help="The file for θ; where it is there already, training goes on from it.")] = (
        Path("theta.safetensors")
    ),
    kind: Annotated[Kind, typer.Option(help="What to predict, of a table.")] = "classification",
    ways: Annotated[int, typer.Option(min=2, help="Classes of an image task.")] = 5,
    updates: Annotated[int, typer.Option(min=1, help="Meta-updates in all.")] = 10_000,
    tasks: Annotated[int, typer.Option(min=1, help="Tasks in a meta-update.")] = 25,
    support: Annotated[int, typer.Option(min=1, help="Examples to adapt on; of images, of each class.")] = 10,
    query: Annotated[int, typer.Option(min=1, help="Examples to be judged by; of images, of each class.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Fixes every random choice.")] = 0,
    inner_rate: Annotated[float | None, typer.Option(min=0, help="As the method has it when not given.")] = None,
    inner_steps: Annotated[int | None, typer.Option(min=1, help="As the method has it when not given.")] = None,
    outer_rate: Annotated[float, typer.Option(min=0, help="Step size of the outer Adam.")] = 1e-3,
    penalty: Annotated[Penalty, typer.Option(help="R(θ) of the objective.")] = "none",
    weight: Annotated[float, typer.Option(min=0, help="λ, the weight of R(θ).")] = 0.0,
    device: Annotated[str, typer.Option(help='"cpu", "cuda"')] = "cpu",
    label: Label = None,
    task: Task = None,
    id_: Id = None,
    time_: Time = None,
    include: Include = None,
    exclude: Exclude = None,
    missing: Missing = None,
) -> None:
    """Train θ on episodes, and keep it as a file. Ctrl-C or a kill lose little: the same command goes on."""
    import torch

    from streammeta.app.stopping import stop_on_signals
    from streammeta.offline.job import Job, meta_train
    from streammeta.offline.training import Schedule

    schedule = Schedule(updates, tasks, support, query, seed)
    columns = {"label": label, "task": task, "id": id_, "time": time_}
    columns |= {"include": include, "exclude": exclude, "missing": missing}
    job = Job(
        method, family, None if data is None else str(data), kind, ways, schedule, inner_rate, inner_steps, outer_rate,
        penalty, weight, {name: one for name, one in columns.items() if one},
    )  # fmt: skip
    torch.set_num_threads(1 if data is None else torch.get_num_threads())  # small matrices only wait for each other
    with stop_on_signals() as stop, _shown(updates) as show:

        def on_update(state: "OuterState") -> bool:
            show(state)
            return stop.is_set()

        trained = meta_train(job, out, device=_device(device), watch=on_update)
    state = trained.state
    typer.echo(f"{out}: {state.updates} of {updates} meta-updates, loss {float(state.loss):.4f}")
    typer.echo(f"{out.with_suffix('.png')}: the curve")


def evaluate(
    file: Annotated[Path, typer.Argument(help="What meta-train wrote.")],
    *,
    tasks: Annotated[int, typer.Option(min=2, help="Held-out tasks, and as many training tasks.")] = 600,
    support: Annotated[int | None, typer.Option(min=1, help="As in training when not given.")] = None,
    query: Annotated[int | None, typer.Option(min=1, help="As in training when not given.")] = None,
    json_to: Annotated[Path | None, typer.Option("--json", help="Write there; - for standard output.")] = None,
) -> None:
    """Judge a trained θ on tasks it has not seen: figures before and after adapting, with 95 % intervals."""
    import torch

    from streammeta.offline.job import meta_eval

    torch.set_num_threads(1)
    job, held_out, training = meta_eval(file, tasks=tasks, support=support, query=query)
    found: dict[str, Any] = {"job": asdict(job), "held_out": held_out.as_dict(), "training": training.as_dict()}
    text = json.dumps(found, indent=2) + "\n"
    if json_to == Path("-"):
        typer.echo(text, nl=False)
        return
    for line in _lines(job, held_out, training):
        typer.echo(line)
    if json_to is not None:
        try:
            json_to.write_text(text, "utf-8")
        except OSError as err:
            raise ConfigError(f"--json {json_to}: cannot be written ({err}); name another file") from err


def _lines(job: "Job", held_out: "Evaluation", training: "Evaluation") -> Iterator[str]:
    yield f"{job.method} on {job.family}: {held_out.tasks} tasks, {1e6 * held_out.adapt_seconds:.0f} µs to adapt to one"
    yield f"{'':18}{'before adapting':>18}{'after, new tasks':>18}{'training tasks':>18}"
    for name, figure in held_out.after.items():
        cells = (held_out.before[name], figure, training.after[name])
        yield f"{name:18}" + "".join(f"{cell!s:>18}" for cell in cells)


def _device(name: str) -> "torch.device":
    import torch

    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as err:
        raise ConfigError(f"--device {name}: cannot be used here ({err}); wanted cpu or an existing GPU") from err
    return device


@contextmanager
def _shown(updates: int) -> Iterator["Watched"]:
    """A progress bar on a terminal, a line every few seconds elsewhere."""
    console = Console(stderr=True)
    if not sys.stderr.isatty():
        due = time.monotonic() + _LINE_SECONDS

        def report(state: "OuterState") -> None:
            nonlocal due
            if time.monotonic() >= due:
                due = time.monotonic() + _LINE_SECONDS
                console.print(f"meta-train: {state.updates} of {updates}, loss {float(state.loss):.4f}", soft_wrap=True)

        yield report
        return
    columns = (TextColumn("meta-train"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("loss {task.fields[loss]:.4f}"), console=console) as bar:
        row = bar.add_task("", total=updates, loss=0.0)
        yield lambda state: bar.update(row, completed=state.updates, loss=float(state.loss))
