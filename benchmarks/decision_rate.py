"""How many decisions a second, with their rewards learned? One process, one core, meta-updates off.

    python -m benchmarks.decision_rate [--tasks 1000,1] [--json OUT] [--quick]

Ten numbers an event, ten actions; records come in steps of 512, decisions and rewards mixed. Rewards come 100 decisions
late by id, or with the event itself: the label says which action is right. A rate is decisions by the process's own CPU
time in the best quarter of the steps after a warm-up, rewards included; others may be using the machine.
"""

import argparse
import json
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import numpy as np

from streammeta.decisions import DecisionEngine, DecisionOutcome
from streammeta.engine import EngineSettings
from streammeta.event import Event, Label, Origin

__all__ = ["main", "rate", "stream"]

_FEATURES = tuple(f"f{i}" for i in range(10))
_ACTIONS = tuple(f"a{k}" for k in range(10))
_STEP, _LATE, _WARM = 512, 100, 0.5
_Heads = Literal["each", "shared"]


def stream(decisions: int, tasks: int, late: int, seed: int = 0) -> list[Event | Label]:
    """Events of tasks in random order, and the reward of each ``late`` events later; 0: the right action with it."""
    random = np.random.default_rng(seed)
    xs, of = random.standard_normal((decisions, len(_FEATURES))), random.integers(0, tasks, decisions).tolist()
    records = list[Event | Label]()
    for i, x in enumerate(xs):
        named, at = dict(zip(_FEATURES, x.tolist(), strict=True)), Origin("benchmark", 0, len(records))
        if not late:
            records.append(Event(named, f"t{of[i]}", at, y=_ACTIONS[int(x.argmax())]))
            continue
        records.append(Event(named, f"t{of[i]}", at, id=f"e{i}"))
        if i >= late:
            at = Origin("benchmark", 0, len(records))
            records.append(Label(f"e{i - late}", float(xs[i - late].sum()), f"t{of[i - late]}", at))
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
    parser.add_argument("--tasks", type=lambda text: [int(one) for one in text.split(",")], default=[1000, 1])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="a tenth of the decisions")
    options = parser.parse_args(arguments)
    found = dict[str, float]()
    kinds: list[tuple[_Heads, int]] = [("each", 1024), ("each", 0), ("shared", 1024)]
    for tasks in options.tasks:
        for late in (_LATE, 0):
            records = stream(2_000 if options.quick else 20_000, tasks, late)
            for heads, crossed in kinds:
                came = f"{late} late" if late else "with the event"
                name = f"{tasks} tasks, rewards {came}, heads {heads}, crossed {crossed}"
                found[name] = rate(records, heads, crossed)
                print(f"{name}: {found[name]:,.0f} decisions/s", flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
