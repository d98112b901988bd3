"""Sinusoid regression: every method by shots and steps, one protocol, the same budget of tasks for each.

    python -m benchmarks.sinusoids [--quick] [--json OUT] [--updates N] [--methods maml alpaca ...] [--shots 5 10]
    python -m benchmarks.sinusoids --contexts --methods alpaca maml

Amplitude U[0.1, 5], phase U[0, π], x in U[−5, 5]; 25 tasks a meta-update; trained with as many shots as tested.
Gradient methods have a 1-40-40-1 ReLU network, encoders are tanh 64-64-32. Mean squared error over 600 new tasks of 50
queries, with its 95 % interval. "alone": the same network, trained by Adam on the shots of one task only. With
``--contexts`` each method is trained once, with ten shots, and judged with 1 to 20. Rows that the file of ``--json``
has for as many updates are not measured again: after a stop the same command goes on.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from streammeta.episode.sinusoid import sinusoids
from streammeta.meta.catalogue import Tuning, build, methods_for
from streammeta.meta.learner import Learner, TaskBatch, Theta, served, squared_error
from streammeta.meta.methods import maml
from streammeta.meta.optimizer import adam
from streammeta.model import mlp
from streammeta.offline.evaluation import evaluate
from streammeta.offline.training import Schedule, train

_FAMILY = sinusoids()
_STEPPED = ("maml", "fomaml", "cavia", "anil", "reptile", "maml-ema", "adml")  # can take more steps
_SHOTS = (5, 10)
_CONTEXTS = (1, 2, 3, 5, 7, 10, 15, 20)
_NEW_TASKS, _QUERIES = 600, 50
_ALONE_STEPS = 500


def held_out(shots: int) -> TaskBatch:
    """The tasks every method is judged by."""
    return _FAMILY.test(torch.Generator().manual_seed(20_000), _NEW_TASKS, shots, _QUERIES)


def alone(shots: int) -> float:
    """Error of the network trained from scratch on the shots alone."""
    learner = maml(mlp(1, (40, 40), 1), squared_error, inner=adam(1e-2), inner_steps=_ALONE_STEPS)
    theta = learner.init(torch.Generator().manual_seed(0))
    return evaluate(learner, theta, held_out(shots)).after["mse"].mean


def by_steps(name: str, theta: Theta, learner: Learner, shots: int) -> dict[str, Any]:
    """Error before adapting, and after 1 and 10 steps where the method takes steps."""
    tests = held_out(shots)
    steps = {f"{k}_steps": build(name, _FAMILY.problem, Tuning(inner_steps=k)) for k in (1, 10)}
    found = {"as_trained": evaluate(learner, theta, tests)}
    found |= {key: evaluate(each, theta, tests) for key, each in (steps.items() if name in _STEPPED else ())}
    after = {key: value.after["mse"]._asdict() for key, value in found.items()}
    return {"before": found["as_trained"].before["mse"].mean, "after": after}


def measure(name: str, shots: int, updates: int) -> dict[str, Any]:
    """Train one method for a number of shots, and judge it."""
    learner = build(name, _FAMILY.problem)
    begun = time.perf_counter()
    state = train(learner, _FAMILY, Schedule(updates=updates, support=shots, query=10))
    seconds = time.perf_counter() - begun
    found = by_steps(name, served(state), learner, shots)
    return {"method": name, "shots": shots, "updates": updates, "updates_per_second": updates / seconds} | found


def measure_contexts(name: str, updates: int) -> dict[str, Any]:
    """Train one method with ten shots; judge it with each number of shots, after its own steps and after ten."""
    learner = build(name, _FAMILY.problem)
    theta = served(train(learner, _FAMILY, Schedule(updates=updates, support=10, query=10)))
    judged = {name: learner}
    if name in _STEPPED:
        judged[f"{name}, 10 steps"] = build(name, _FAMILY.problem, Tuning(inner_steps=10))
    after = {
        title: [evaluate(each, theta, held_out(shots)).after["mse"].mean for shots in _CONTEXTS]
        for title, each in judged.items()
    }
    for title, errors in after.items():
        print(f"{title:18} " + " ".join(f"{error:7.3f}" for error in errors), flush=True)
    return {"method": name, "contexts": list(_CONTEXTS), "updates": updates, "after": after}


def line(row: dict[str, Any]) -> str:
    """A row of the table."""
    after = {key: f"{value['mean']:.3f} ±{value['half_width']:.3f}" for key, value in row["after"].items()}
    cells = [after["as_trained"], after.get("1_steps", "-"), after.get("10_steps", "-")]
    numbers = " ".join(f"{cell:>15}" for cell in cells)
    return f"{row['method']:18} {row['shots']:5} {row['before']:8.2f} {numbers} {row['updates_per_second']:9.0f}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; exit 0 when every method was measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="300 meta-updates: shows that it runs, not how good")
    parser.add_argument("--updates", type=int, default=5_000, help="meta-updates of 25 tasks for each method")
    parser.add_argument("--methods", nargs="*", default=methods_for("regression"))
    parser.add_argument("--shots", nargs="*", type=int, default=list(_SHOTS))
    parser.add_argument("--contexts", action="store_true", help="trained with ten shots, judged with 1 to 20")
    parser.add_argument("--json", type=Path, help="keep the figures there")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    updates = 300 if options.quick else options.updates
    if options.contexts:
        print(f"{'shots':18} " + " ".join(f"{shots:7}" for shots in _CONTEXTS))
        rows = [measure_contexts(name, updates) for name in options.methods]
        _keep(options.json, {"updates": updates, "methods": rows})
        return 0
    scratch = {str(shots): alone(shots) for shots in options.shots}
    print("alone, trained on the shots from scratch: " + ", ".join(f"{n} shots {e:.2f}" for n, e in scratch.items()))
    print(f"{'method':18} shots   before      as trained          1 step        10 steps updates/s", flush=True)
    done = {(row["method"], row["shots"]): row for row in _kept(options.json) if row["updates"] == updates}
    for name in options.methods:
        for shots in options.shots:
            done[name, shots] = done.get((name, shots)) or measure(name, shots, updates)
            print(line(done[name, shots]), flush=True)
            _keep(options.json, {"updates": updates, "alone": scratch, "methods": list(done.values())})
    return 0


def _kept(file: Path | None) -> list[dict[str, Any]]:
    """The rows of an earlier run."""
    rows: list[dict[str, Any]] = json.loads(file.read_text())["methods"] if file is not None and file.exists() else []
    return rows


def _keep(file: Path | None, found: dict[str, Any]) -> None:
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
