"""R2D2's replay: what the hidden state at the start of a replayed part, and the burn-in, do to what is remembered.

    python -m benchmarks.recurrent_replay [--seeds 0 1 2 3 4] [--json OUT] [--quick]

Cues (`streammeta.meta.rl.cues`): 5 to 100 steps from a cue to the junction where it pays, in episodes of 240 steps that
are replayed in parts of 12. Zero or stored state, without and with 12 steps of burn-in: each is trained from each
seed, with the same number of steps; then 300 fresh episodes are played without exploration. The interval is over
seeds. Rows that the file of ``--json`` has are not measured again: after a stop the same command goes on.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from scipy import stats

from streammeta.meta.objective import Outer
from streammeta.meta.optimizer import adam, linear
from streammeta.meta.rl import Agent, R2d2Settings, TrialSchedule, cues, evaluate, r2d2, train

__all__ = ["main", "measure"]

_Start = Literal["zero", "stored"]
_ENVIRONMENT = cues(240, 5, 100)
_VARIANTS: list[tuple[_Start, int]] = [(start, burn_in) for start in get_args(_Start) for burn_in in (0, 12)]


def measure(start: _Start, burn_in: int, seed: int, updates: int) -> dict[str, Any]:
    """Train from a seed, and play fresh episodes; half-way, and at the end."""
    settings = R2d2Settings(32, 12, burn_in, start, epsilon=linear(1.0, 0.05, updates // 2), outer=Outer(adam(3e-3)))
    learner, begun, found, state = r2d2(_ENVIRONMENT, settings), time.process_time(), [], None
    for part in (updates // 2, updates):
        state = train(learner, _ENVIRONMENT, TrialSchedule(part, 16, 1, seed), state)
        found.append(evaluate(_ENVIRONMENT, learner.agent(state.theta), 1, tasks=300).mean)
    seconds = time.process_time() - begun
    return {"start": start, "burn_in": burn_in, "seed": seed, "updates": updates, "returns": found, "seconds": seconds}


def _perfect() -> Agent[torch.Tensor]:
    """Goes where the last cue was."""

    def act(last: torch.Tensor, seen: torch.Tensor, _generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        last = torch.where(seen[:, :2].any(-1), seen[:, 1].long(), last)
        return last, last

    return Agent(lambda count: torch.zeros(count, dtype=torch.int64), act, lambda last, _seen: last)


def line(start: _Start, burn_in: int, rows: list[dict[str, Any]]) -> str:
    """Mean over seeds with its 95 % interval, half-way and at the end."""
    cells = []
    for k in (0, 1):
        each = np.array([row["returns"][k] for row in rows])
        reach = stats.t.ppf(0.975, len(each) - 1) * each.std(ddof=1) / len(each) ** 0.5 if len(each) > 1 else np.nan
        cells.append(f"{each.mean():6.2f} ± {reach:.2f}")
    return f"{start:6} state, burn-in {burn_in:2}   half-way {cells[0]}   at the end {cells[1]}   {len(rows)} seeds"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; exit 0 when every variant was measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="16 steps of θ: shows that it runs")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--updates", type=int, default=960)
    parser.add_argument("--json", type=Path, help="keep the figures there")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    updates = 16 if options.quick else options.updates
    kept = json.loads(options.json.read_text()) if options.json is not None and options.json.exists() else []
    done = {(row["start"], row["burn_in"], row["seed"]): row for row in kept if row["updates"] == updates}
    for seed in options.seeds:
        for start, burn_in in _VARIANTS:
            if (start, burn_in, seed) not in done:
                done[start, burn_in, seed] = found = measure(start, burn_in, seed, updates)
                print(f"  {found}", flush=True)
                if options.json is not None:
                    options.json.write_text(json.dumps(list(done.values()), indent=1))
    best = evaluate(_ENVIRONMENT, _perfect(), 1, tasks=300)
    for start, burn_in in _VARIANTS:
        print(line(start, burn_in, [done[start, burn_in, seed] for seed in options.seeds]))
    print(f"a perfect memory: {best}; chance: 0")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
