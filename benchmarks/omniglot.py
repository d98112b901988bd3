"""Omniglot with the standard Conv-4: few-shot accuracy on held-out characters, and 600 classes in sequence.

    python -m benchmarks.omniglot FILE [--minutes 40] [--json OUT] [--only protonet r2d2 ...] [--threads N]

FILE is omniglot28.npz. 1,200 random characters (4,800 with rotations) train, the other 423 are held out; each method
makes its meta-updates and then is judged on 600 tasks of 5 queries a class. Updates are counted, not timed, so that a
busy machine gives the same figures, later; all of them fit 40 minutes on two idle cores, fewer minutes are that share
of them, and the core-minutes that they took are given. Normalization is by layer, over one image (an answer never
depends on which questions are asked together), but for rows named "transductive": those have batch statistics over a
task's queries, as the published MAML and Reptile figures do.

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
from streammeta.meta.optimizer import Rate, adam, cosine, linear, sgd
from streammeta.model import conv4
from streammeta.offline.evaluation import evaluate
from streammeta.offline.training import Schedule, train

_EVALUATIONS = (("5-way 1-shot", 5, 1), ("5-way 5-shot", 5, 5), ("20-way 1-shot", 20, 1))
_TASKS, _QUERIES, _CHUNK = 600, 5, 4
_CLASSES, _SEEN = 600, 15
_MINUTES = 40.0


class Run(NamedTuple):
    """One method's training."""

    make: Callable[[int, Rate], Learner]  # for a number of ways, with that rate of the outer loop
    rate: Callable[[int], Rate]  # of the outer loop, for a number of updates in all
    updates: int
    ways: int  # classes of a training task
    tasks: int  # a meta-update
    support: int  # images of a class
    query: int
    evaluations: tuple[int, ...] = (0, 1, 2)  # which of _EVALUATIONS
    judged: Callable[[int, Rate], Learner] | None = None  # where testing takes other steps than training


def _protonet(ways: int, rate: Rate) -> Learner:
    return averaged(prototypes(conv4(None), classes=ways, outer=Outer(adam(rate))), decay=0.98)


def _r2d2(ways: int, rate: Rate) -> Learner:
    head = ridge(conv4(None), cross_entropy, outputs=ways, strength=50.0, scale=30.0, outer=Outer(adam(rate)))
    return averaged(head, decay=0.98)


def _gemcl(ways: int, rate: Rate) -> Learner:
    return averaged(gaussian(conv4(None), classes=ways, outer=Outer(adam(rate))), decay=0.98)


def _maml(steps: int) -> Callable[[int, Rate], Learner]:
    def make(ways: int, rate: Rate) -> Learner:
        model, inner = conv4(ways, norm="batch"), sgd(0.4)
        return maml(model, cross_entropy, inner=inner, inner_steps=steps, outer=Outer(adam(rate)))

    return make


def _reptile(steps: int) -> Callable[[int, Rate], Learner]:
    def make(ways: int, rate: Rate) -> Learner:
        inner = adam(1e-3, decay=0.0)
        return reptile(conv4(ways, norm="batch"), cross_entropy, inner=inner, inner_steps=steps, meta_rate=rate)

    return make


def _falling(first: float) -> Callable[[int], Rate]:
    return lambda updates: cosine(first, first / 50, updates)


RUNS: Mapping[str, Run] = {
    "protonet": Run(_protonet, _falling(2e-3), 2_000, ways=60, tasks=1, support=1, query=2),
    "r2d2": Run(_r2d2, _falling(3e-3), 2_000, ways=60, tasks=1, support=1, query=2),
    "maml (transductive)": Run(
        _maml(1), _falling(2e-3), 12_000, ways=5, tasks=4, support=1, query=3, evaluations=(0,), judged=_maml(3)
    ),
    "reptile (transductive)": Run(
        _reptile(5), lambda updates: linear(1.0, 0.0, updates), 500, ways=5, tasks=5, support=5, query=5,
        evaluations=(0,), judged=_reptile(50),
    ),
}  # fmt: skip
SEQUENCE = Run(_gemcl, _falling(3e-3), 303, ways=200, tasks=1, support=2, query=1)


def fit(run: Run, family: Family, share: float) -> tuple[OuterState, dict[str, float]]:
    """Train for a share of the run's updates; the state reached, and what it took."""
    updates = max(int(run.updates * share), 1)
    begun, processor = time.perf_counter(), time.process_time()

    def observed(state: OuterState) -> bool:
        if state.updates % 100 == 0:
            print(f"  {state.updates} updates, {time.perf_counter() - begun:.0f} s, loss {state.loss:.3f}", flush=True)
        return False

    schedule = Schedule(updates=updates, tasks=run.tasks, support=run.support, query=run.query)
    state = train(run.make(run.ways, run.rate(updates)), family, schedule, watch=observed)
    minutes = (time.process_time() - processor) / 60
    return state, {"updates": updates, "seconds": time.perf_counter() - begun, "core_minutes": minutes}


def accuracy(learner: Learner, theta: Theta, family: Family, shots: int) -> tuple[float, float]:
    """Percent right on 600 held-out tasks, and half the 95 % interval."""
    found = []
    for chunk in range(_TASKS // _CHUNK):
        tasks = family.test(torch.Generator().manual_seed(chunk), _CHUNK, shots, _QUERIES)
        found.append(evaluate(learner, theta, tasks).after["accuracy"])
    means, widths = (np.array([getattr(one, name) for one in found]) for name in ("mean", "half_width"))
    within, between = widths / 1.959964 * _CHUNK**0.5, means.std()
    return 100 * float(means.mean()), 100 * 1.959964 * float(np.hypot(within.mean(), between) / _TASKS**0.5)


def few_shot_rows(name: str, pools: Sequence[torch.Tensor], share: float) -> dict[str, Any]:
    """Train one method and judge it by every number of ways and shots that it can."""
    run = RUNS[name]
    print(name, flush=True)
    state, took = fit(run, few_shot("omniglot", *pools, ways=run.ways), share)
    print(f"  {took['updates']} meta-updates in {took['core_minutes']:.1f} core-minutes", flush=True)
    row: dict[str, Any] = took | {"accuracy": {}}
    for title, ways, shots in (_EVALUATIONS[i] for i in run.evaluations):
        judged = (run.judged or run.make)(ways, 1.0)
        mean, width = accuracy(judged, _for_ways(served(state), ways), few_shot("omniglot", *pools, ways=ways), shots)
        row["accuracy"][title] = [mean, width]
        print(f"  {title}: {mean:.2f} ± {width:.2f} %", flush=True)
    return row


def _for_ways(theta: Theta, ways: int) -> Theta:
    """R2-D2 learns an output bias for each class; labels are random, so their mean is all it knows."""
    return theta | {"bias": theta["bias"].mean().expand(ways).clone()} if "bias" in theta else theta


def in_sequence(pools: Sequence[torch.Tensor], share: float) -> dict[str, Any]:
    """GeMCL's Gaussian head over 600 unseen classes, class after class, one image at a time."""
    print("600 classes in sequence", flush=True)
    background, evaluation = pools
    state, took = fit(SEQUENCE, few_shot("omniglot", background, evaluation, ways=SEQUENCE.ways), share)
    print(f"  {took['updates']} meta-updates in {took['core_minutes']:.1f} core-minutes", flush=True)
    theta, learner = served(state), SEQUENCE.make(_CLASSES, 1.0)
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
    return took | {"accuracy": percent}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; exit 0 when every method was measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", type=Path, help="omniglot28.npz")
    parser.add_argument("--minutes", type=float, default=_MINUTES, help="fewer than 40: that share of the meta-updates")
    parser.add_argument("--only", nargs="*", default=[*RUNS, "sequence"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    pools, share = omniglot_pools(options.file), options.minutes / _MINUTES
    rows = {name: few_shot_rows(name, pools, share) for name in RUNS if name in options.only}
    if "sequence" in options.only:
        rows["sequence"] = in_sequence(_by_alphabet(options.file), share)
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
