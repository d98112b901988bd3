"""Omniglot with the standard Conv-4: few-shot accuracy on held-out characters, and 600 classes in sequence.

    python -m benchmarks.omniglot FILE [--minutes 40] [--json OUT] [--only protonet r2d2 ...] [--threads N]

FILE is omniglot28.npz. 1,200 random characters (4,800 with rotations) train, the other 423 are held out; each method
gets its share of the minutes and then is judged on 600 tasks of 5 queries a class. Normalization is by layer, over one
image (an answer never depends on which questions are asked together), but for rows named "transductive": those have
batch statistics over a task's queries, as the published MAML and Reptile figures do.

600 classes in sequence (GeMCL's protocol): the background alphabets' 964 characters train; then 600 unseen characters
come one after the other, 15 drawings each, in one pass; judged on 5 held-out drawings of each.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from streammeta.episode.family import Family
from streammeta.episode.image import few_shot, omniglot_pools
from streammeta.meta.learner import Learner, OuterState, Theta, cross_entropy, examples, served
from streammeta.meta.methods import averaged, gaussian, maml, prototypes, reptile, ridge
from streammeta.meta.objective import Outer
from streammeta.meta.optimizer import adam, sgd
from streammeta.model import conv4
from streammeta.offline.evaluation import evaluate
from streammeta.offline.training import Schedule, train

_EVALUATIONS = (("5-way 1-shot", 5, 1), ("5-way 5-shot", 5, 5), ("20-way 1-shot", 20, 1))
_TASKS, _QUERIES, _CHUNK = 600, 5, 4
_CLASSES, _SEEN = 600, 15


class Run(NamedTuple):
    """One method's training."""

    make: Callable[[int], Learner]  # for so many ways
    ways: int  # classes of a training task
    tasks: int  # a meta-update
    support: int  # images of a class
    query: int
    share: float  # of the minutes
    evaluations: tuple[int, ...]  # which of _EVALUATIONS
    judged: Callable[[int], Learner] | None = None  # where testing takes other steps than training


def _falling(made: int) -> float:
    """Adam's rate for embeddings: halved every 500 updates, not below a twentieth."""
    return 1e-3 * max(0.5 ** (made // 500), 0.05)


def _maml(ways: int, steps: int) -> Learner:
    return maml(conv4(ways, norm="batch"), cross_entropy, inner=sgd(0.4), inner_steps=steps)


def _ridge(ways: int) -> Learner:
    return ridge(conv4(None), cross_entropy, outputs=ways, scale=10.0, outer=Outer(adam(_falling)))


def _reptile(ways: int, steps: int) -> Learner:
    inner = adam(1e-3, decay=0.0)
    return reptile(conv4(ways, norm="batch"), cross_entropy, inner=inner, inner_steps=steps, meta_rate=0.5)


RUNS: Mapping[str, Run] = {
    "protonet": Run(
        lambda ways: averaged(prototypes(conv4(None), classes=ways, outer=Outer(adam(_falling))), decay=0.99),
        30, 1, 1, 5, 0.3, (0, 1, 2),
    ),
    "r2d2": Run(
        lambda ways: averaged(_ridge(ways), decay=0.99),
        20, 1, 1, 5, 0.2, (0, 1, 2),
    ),
    "maml (transductive)": Run(
        lambda ways: _maml(ways, 1), 5, 4, 1, 5, 0.15, (0,), lambda ways: _maml(ways, 3)
    ),
    "reptile (transductive)": Run(
        lambda ways: _reptile(ways, 5), 5, 5, 1, 4, 0.15, (0,), lambda ways: _reptile(ways, 50)
    ),
}  # fmt: skip


def fit(learner: Learner, family: Family, run: Run, minutes: float) -> tuple[OuterState, float]:
    """Train for a time; the state reached, and the seconds it took."""
    begun = time.perf_counter()

    def enough(state: OuterState) -> bool:
        spent = time.perf_counter() - begun
        if state.updates % 200 == 0:
            print(f"  {state.updates} updates, {spent:.0f} s, loss {state.loss:.3f}", flush=True)
        return spent > 60 * minutes

    schedule = Schedule(updates=10**9, tasks=run.tasks, support=run.support, query=run.query)
    return train(learner, family, schedule, watch=enough), time.perf_counter() - begun


def accuracy(learner: Learner, theta: Theta, family: Family, shots: int) -> tuple[float, float]:
    """Percent right on 600 held-out tasks, and half the 95 % interval."""
    found = []
    for chunk in range(_TASKS // _CHUNK):
        tasks = family.test(torch.Generator().manual_seed(chunk), _CHUNK, shots, _QUERIES)
        found.append(evaluate(learner, theta, tasks).after["accuracy"])
    means, widths = (np.array([getattr(one, name) for one in found]) for name in ("mean", "half_width"))
    within, between = widths / 1.959964 * _CHUNK**0.5, means.std()
    return 100 * float(means.mean()), 100 * 1.959964 * float(np.hypot(within.mean(), between) / _TASKS**0.5)


def few_shot_rows(name: str, pools: Sequence[torch.Tensor], minutes: float) -> dict[str, Any]:
    """Train one method and judge it by every number of ways and shots that it can."""
    run = RUNS[name]
    print(f"{name}: {run.share * minutes:.1f} minutes", flush=True)
    family = few_shot("omniglot", *pools, ways=run.ways)
    state, seconds = fit(run.make(run.ways), family, run, run.share * minutes)
    row: dict[str, Any] = {"updates": state.updates, "seconds": seconds, "accuracy": {}}
    for title, ways, shots in (_EVALUATIONS[i] for i in run.evaluations):
        judged = (run.judged or run.make)(ways)
        mean, width = accuracy(judged, _for_ways(served(state), ways), few_shot("omniglot", *pools, ways=ways), shots)
        row["accuracy"][title] = [mean, width]
        print(f"  {title}: {mean:.2f} ± {width:.2f} %", flush=True)
    return row


def _for_ways(theta: Theta, ways: int) -> Theta:
    """R2-D2 learns an output bias for each class; labels are random, so their mean is all it knows."""
    return theta | {"bias": theta["bias"].mean().expand(ways).clone()} if "bias" in theta else theta


def in_sequence(pools: Sequence[torch.Tensor], minutes: float, share: float = 0.2) -> dict[str, Any]:
    """GeMCL's Gaussian head over 600 unseen classes, class after class, one image at a time."""
    print(f"600 classes in sequence: {share * minutes:.1f} minutes", flush=True)
    background, evaluation = pools
    run = Run(
        lambda ways: averaged(gaussian(conv4(None), classes=ways, outer=Outer(adam(_falling))), decay=0.99),
        20, 1, 5, 5, share, (),
    )  # fmt: skip
    state, seconds = fit(run.make(20), few_shot("omniglot", background, evaluation, ways=20), run, share * minutes)
    theta, learner = served(state), run.make(_CLASSES)
    images = evaluation[:_CLASSES].float().div(255).unsqueeze(2)  # [600, 20, 1, 28, 28]
    right = 0
    with torch.no_grad():
        phi = learner.start(theta, 1)
        for k in range(_CLASSES):  # the whole of one class, then the next: counting does not care
            y = torch.full((1, _SEEN), k)
            phi = learner.adapt(theta, phi, examples(images[k, :_SEEN].unsqueeze(0), y))
        for k in range(0, _CLASSES, 10):
            x = images[k : k + 10, _SEEN:].flatten(0, 1).unsqueeze(0)
            said = learner.predict(theta, phi, x).output.argmax(-1).view(10, -1)
            right += int((said == torch.arange(k, k + 10).unsqueeze(1)).sum())
    percent = 100 * right / (_CLASSES * (20 - _SEEN))
    print(f"  {percent:.2f} %", flush=True)
    return {"updates": state.updates, "seconds": seconds, "accuracy": percent}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; exit 0 when every method was measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", type=Path, help="omniglot28.npz")
    parser.add_argument("--minutes", type=float, default=40.0, help="of training in all")
    parser.add_argument("--only", nargs="*", default=[*RUNS, "sequence"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    pools = omniglot_pools(options.file)
    rows = {name: few_shot_rows(name, pools, options.minutes) for name in RUNS if name in options.only}
    if "sequence" in options.only:
        rows["sequence"] = in_sequence(_by_alphabet(options.file), options.minutes)
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({"minutes": options.minutes, "rows": rows}, indent=2) + "\n")
    return 0


def _by_alphabet(file: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """The 964 characters of the background alphabets, turned four ways, and the 659 of the evaluation alphabets."""
    with np.load(file, allow_pickle=False) as arrays:
        images = torch.from_numpy(arrays["images"].reshape(-1, 20, 28, 28))
        background = torch.from_numpy(arrays["split"].reshape(-1, 20)[:, 0] == 0)
    turned = torch.cat([torch.rot90(images[background], quarter, (2, 3)) for quarter in range(4)])
    return turned, images[~background]


if __name__ == "__main__":
    sys.exit(main())
