"""How many decisions a second, with their rewards learned? One process, one core, meta-updates off.

    python -m benchmarks.decision_rate [--tasks 1000,50,1] [--json OUT] [--quick]

Ten numbers an event, ten actions; records come in steps of 512. Rewards come by id: each 100 decisions late, among the
decisions; or in turns, 256 decisions and then their rewards. Or they come with the event itself: the label says which
action is right. A rate is decisions by the process's own CPU time in the best quarter of the steps after a warm-up,
rewards included; others may be using the machine. Between two decisions of a task, a reward of it is learned first: the
more tasks there are, the more decisions are made at once.
"""

import argparse
import json
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from streammeta.decisions import DecisionEngine, DecisionOutcome
from streammeta.engine import EngineSettings
from streammeta.event import Event, Label, Origin

__all__ = ["Rewards", "main", "rate", "stream"]

_FEATURES = tuple(f"f{i}" for i in range(10))
_ACTIONS = tuple(f"a{k}" for k in range(10))
_STEP, _LATE, _WARM = 512, 100, 0.5
_Heads = Literal["each", "shared"]
Rewards = Literal["late", "in turns", "with the event"]


def stream(decisions: int, tasks: int, rewards: Rewards, seed: int = 0) -> list[Event | Label]:
    """Events of tasks in random order, and the reward of each."""
    random = np.random.default_rng(seed)
    xs, of = random.standard_normal((decisions, len(_FEATURES))), random.integers(0, tasks, decisions).tolist()
    records, waiting = list[Event | Label](), list[int]()
    for i, x in enumerate(xs):
        named, at = dict(zip(_FEATURES, x.tolist(), strict=True)), Origin("benchmark", 0, len(records))
        if rewards == "with the event":
            records.append(Event(named, f"t{of[i]}", at, y=_ACTIONS[int(x.argmax())]))
            continue
        records.append(Event(named, f"t{of[i]}", at, id=f"e{i}"))
        waiting.append(i)
        is_due = len(waiting) > _LATE if rewards == "late" else len(waiting) == _STEP // 2
        due = waiting[: 1 if rewards == "late" else None] if is_due else []
        for one in due:
            at = Origin("benchmark", 0, len(records))
            records.append(Label(f"e{one}", float(xs[one].sum()), f"t{of[one]}", at))
        del waiting[: len(due)]
    return records


def rate(records: Sequence[Event | Label], heads: _Heads, crossed: int) -> float:
    """Decisions a second of CPU time."""
    with_event = not any(isinstance(one, Label) for one in records)
    decide: dict[str, Any] = {"actions": _ACTIONS, "heads": heads, "crossed": crossed}
    decide["rewards"] = "label" if with_event else "reward"
    settings = {"kind": "regression", "meta": {"mode": "off"}, "memory": {"max_tasks": 100_000}, "decide": decide}
    seconds, made = list[float](), list[int]()
    with closing(DecisionEngine(EngineSettings.model_validate(settings))) as engine:
        for begin in range(0, len(records), _STEP):
            begun = time.process_time()
            outcomes = engine.step(records[begin : begin + _STEP])
            if begin >= _WARM * len(records):
                seconds.append(time.process_time() - begun)
                made.append(sum(isinstance(one, DecisionOutcome) and one.scores is not None for one in outcomes))
    best = sorted(zip(seconds, made, strict=True), key=lambda one: one[0] / max(one[1], 1))[: max(len(made) // 4, 1)]
    return sum(count for _, count in best) / sum(taken for taken, _ in best)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a rate for each kind of stream, and write JSON when asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=lambda text: [int(one) for one in text.split(",")], default=[1000, 50, 1])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="a tenth of the decisions")
    options = parser.parse_args(arguments)
    found = dict[str, float]()
    kinds: list[tuple[_Heads, int]] = [("each", 1024), ("each", 0), ("shared", 1024)]
    for tasks in options.tasks:
        for rewards in get_args(Rewards):
            records = stream(2_000 if options.quick else 20_000, tasks, rewards)
            for heads, crossed in kinds:
                name = f"{tasks} tasks, rewards {rewards}, heads {heads}, crossed {crossed}"
                found[name] = rate(records, heads, crossed)
                print(f"{name}: {found[name]:,.0f} decisions/s", flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
