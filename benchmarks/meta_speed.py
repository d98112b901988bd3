"""Meta-updates a second of MAML, here, in torchopt and in learn2learn, in one run: sinusoids, and Omniglot's shapes.

    python -m benchmarks.meta_speed [--seconds 20] [--threads 1] [--json OUT]

Second-order MAML, one inner step, Adam outside. Sinusoids: 25 tasks, 10 + 10 examples, 1-40-40-1 ReLU. Omniglot: 4
tasks, 5-way, 1 + 1 images a class of 28x28, Conv-4 of 64 channels with batch statistics (random images: only speed is
looked at). They take turns and the median turn counts, on the wall and in seconds of the processor, which others on
the machine disturb less.

The peers are no dependencies: install them beside streammeta, `uv pip install torchopt`. The C sources that learn2learn
0.2.0 ships want a header that Python has moved in 3.11 (longintrepr.h); in its unpacked sources, with Cython 0.29,
`cython -3 -f learn2learn/data/*.pyx` makes them again, and `uv pip install --no-build-isolation .` then installs it.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from streammeta.episode.sinusoid import sinusoids
from streammeta.meta.learner import TaskBatch, cross_entropy, examples, squared_error
from streammeta.meta.methods import maml
from streammeta.meta.optimizer import sgd
from streammeta.model import conv4, mlp


def sinusoid_tasks() -> TaskBatch:
    """25 tasks of ten examples to adapt on and ten to be judged by."""
    return sinusoids().train(torch.Generator().manual_seed(0), 25, 10, 10)


def image_tasks() -> TaskBatch:
    """Four tasks of five classes, an image a class to adapt on and one to be judged by."""
    images = torch.rand(2, 4, 5, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(5).expand(4, 5)
    return TaskBatch(examples(images[0], labels), examples(images[1], labels))


def ours(tasks: TaskBatch) -> Callable[[], None]:
    """One meta-update of streammeta."""
    images = tasks.support.x.dim() > 3
    model, loss = (conv4(5, norm="batch"), cross_entropy) if images else (mlp(1, (40, 40), 1), squared_error)
    learner = maml(model, loss, inner=sgd(0.4 if images else 0.01))
    state = learner.begin(learner.init(torch.Generator().manual_seed(0)))

    def update() -> None:
        nonlocal state
        state = learner.update(state, tasks)

    return update


def torchopts(tasks: TaskBatch) -> Callable[[], None]:
    """One meta-update as torchopt's own MAML example has it: task after task, on a module that is reset in between."""
    import torchopt  # noqa: PLC0415  not installed with streammeta

    images = tasks.support.x.dim() > 3
    net, loss = (_conv4(), nn.functional.cross_entropy) if images else (_mlp(), nn.functional.mse_loss)
    inner = torchopt.MetaSGD(net, lr=0.4 if images else 0.01)
    outer = torch.optim.Adam(net.parameters(), lr=1e-3)

    def update() -> None:
        outer.zero_grad()
        weights, memory = torchopt.extract_state_dict(net), torchopt.extract_state_dict(inner)
        for t in range(tasks.support.x.shape[0]):
            inner.step(loss(net(tasks.support.x[t]), tasks.support.y[t]))
            (loss(net(tasks.query.x[t]), tasks.query.y[t]) / tasks.support.x.shape[0]).backward()
            torchopt.recover_state_dict(net, weights)
            torchopt.recover_state_dict(inner, memory)
        outer.step()

    return update


def learn2learns(tasks: TaskBatch) -> Callable[[], None]:
    """One meta-update as learn2learn's own MAML examples have it: task after task, on a clone of the module."""
    import learn2learn  # noqa: PLC0415  not installed with streammeta

    images = tasks.support.x.dim() > 3
    net, loss = (_conv4(), nn.functional.cross_entropy) if images else (_mlp(), nn.functional.mse_loss)
    wrapped = learn2learn.algorithms.MAML(net, lr=0.4 if images else 0.01)
    outer = torch.optim.Adam(wrapped.parameters(), lr=1e-3)

    def update() -> None:
        outer.zero_grad()
        for t in range(tasks.support.x.shape[0]):
            adapted = wrapped.clone()
            adapted.adapt(loss(adapted(tasks.support.x[t]), tasks.support.y[t]))
            (loss(adapted(tasks.query.x[t]), tasks.query.y[t]) / tasks.support.x.shape[0]).backward()
        outer.step()

    return update


_PEERS = {"torchopt": torchopts, "learn2learn": learn2learns}


def _mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(1, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 1))


def _conv4() -> nn.Module:
    blocks: list[nn.Module] = []
    for planes in (1, 64, 64, 64):
        norm = nn.BatchNorm2d(64, track_running_stats=False)
        blocks += [nn.Conv2d(planes, 64, 3, padding=1, bias=False), norm, nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*blocks, nn.Flatten(), nn.Linear(64, 5))


def turns(updates: Sequence[Callable[[], None]], seconds: float) -> list[list[tuple[float, float]]]:
    """Seconds on the wall and of the processor that each took for a meta-update, again and again, turn about."""
    for update in updates:
        update()
    took, begun = [list[tuple[float, float]]() for _ in updates], time.perf_counter()
    while time.perf_counter() - begun < seconds:
        for update, mine in zip(updates, took, strict=True):
            wall, processor = time.perf_counter(), time.process_time()
            update()
            mine.append((time.perf_counter() - wall, time.process_time() - processor))
    return took


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; exit 1 where a peer is not installed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="for each of the two problems")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    found: dict[str, Any] = {}
    peers = {name: peer for name, peer in _PEERS.items() if find_spec(name)}
    for name in _PEERS.keys() - peers.keys():
        print(f"{name} is not installed; how to put it beside streammeta: python -m benchmarks.meta_speed --help")
    for name, tasks in (("sinusoids", sinusoid_tasks()), ("omniglot 5-way 1-shot", image_tasks())):
        took = turns([ours(tasks), *(peer(tasks) for peer in peers.values())], options.seconds)
        (wall, processor), *others = [[statistics.median(clock) for clock in zip(*each, strict=True)] for each in took]
        found[name] = {"turns": len(took[0]), "streammeta": 1 / wall}
        print(f"{name}, {len(took[0])} turns, medians: streammeta {1 / wall:.1f} meta-updates/s")
        for peer, (their_wall, their_processor) in zip(peers, others, strict=True):
            times = {"times_wall": their_wall / wall, "times_processor": their_processor / processor}
            found[name][peer] = {"per_second": 1 / their_wall} | times
            print(
                f"  {peer} {1 / their_wall:.1f}: streammeta has {times['times_wall']:.2f} times as many a second, "
                f"{times['times_processor']:.2f} a second of the processor",
                flush=True,
            )
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0 if peers.keys() == _PEERS.keys() else 1


if __name__ == "__main__":
    sys.exit(main())
