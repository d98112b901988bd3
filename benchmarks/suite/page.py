"""The suite's table as Markdown, and its picture: mean ranks on a line, learners joined that do not differ."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.suite.catalogue import STREAMS
from benchmarks.suite.ranking import Ranking, errors_of, rank
from benchmarks.suite.results import COVERAGES, Line

__all__ = ["draw", "page", "rankings"]

OURS = "streammeta"
_HALVES: Mapping[str, tuple[str, ...]] = {
    "the judging half": ("judge",),
    "the tuning half": ("tune",),
    "all streams": ("tune", "judge"),
}


def rankings(lines: Sequence[Line], halves: Sequence[str]) -> dict[str, Ranking]:
    """By kind of stream, over these halves."""
    found = {}
    for kind in ("classification", "regression"):
        here = [x for x in lines if STREAMS[x.stream].kind == kind and STREAMS[x.stream].half in halves]
        ranked = rank(errors_of(here), relative=kind == "regression")
        if ranked is not None:
            found[kind] = ranked
    return found


def page(lines: Sequence[Line], command: str) -> str:
    """Everything as Markdown."""
    known = [line for line in lines if line.stream in STREAMS]
    parts = [f"Made by `{command}`. Errors are per cent of wrong classes, or mean absolute errors; lower is better."]
    for title, halves in _HALVES.items():
        parts += [
            f"## Ranks over {title}: {kind}, {len(ranked.streams)} streams\n\n{_ranks(ranked, kind)}"
            for kind, ranked in rankings(known, halves).items()
        ]
    for kind in ("classification", "regression"):
        parts.append(f"## Errors: {kind}\n\n{_errors([x for x in known if STREAMS[x.stream].kind == kind])}")
    parts.append(f"## How sure streammeta is\n\n{_sureness(known)}")
    problems = [f"- {x.stream}, {x.learner} ({x.wiring}): {x.problem}" for x in known if x.problem]
    parts.append("## What failed\n\n" + ("\n".join(problems) or "Nothing."))
    return "\n\n".join(parts) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, rule, *rows])


def _ranks(ranked: Ranking, kind: str) -> str:
    unit = "worst regret, points" if kind == "classification" else "worst regret, % of the best error"
    rows = []
    for learner in ranked.learners:
        regrets = ranked.regrets[learner]
        worst = max(regrets, key=lambda stream: regrets[stream])
        name = f"**{learner}**" if learner == OURS else learner
        rows.append(
            [name, f"{ranked.mean_ranks[learner]:.2f}", str(ranked.wins[learner]), f"{regrets[worst]:.1f}", worst]
        )
    table = _table(["learner", "mean rank", "wins", unit, "on"], rows)
    return f"{table}\n\nMean ranks that are {ranked.critical:.2f} or more apart differ significantly (Nemenyi, 5 %)."


def _errors(lines: Sequence[Line]) -> str:
    errors = errors_of(lines)
    learners = list(dict.fromkeys(learner for of in errors.values() for learner in of))
    rows = []
    for stream, of in errors.items():
        best = min(of.values())
        cells = [_cell(of.get(learner), best) for learner in learners]
        rows.append([f"{stream} ({STREAMS[stream].family}, {STREAMS[stream].half})", *cells])
    return _table(["stream", *learners], rows)


def _cell(error: float | None, best: float) -> str:
    if error is None:
        return ""
    return f"**{error:.3g}**" if error <= best else f"{error:.3g}"


def _sureness(lines: Sequence[Line]) -> str:
    names = ("ece", *(f"coverage {share}" for share in COVERAGES))
    rows = []
    for stream in dict.fromkeys(line.stream for line in lines):
        of = [x.scores for x in lines if x.stream == stream and x.learner == OURS and x.scores]
        means = [[s[name] for s in of if s.get(name) is not None] for name in names]
        if any(means):
            rows.append([stream, *(f"{np.mean(np.array(v, float)):.1f}" if v else "" for v in means)])
    return _table(["stream", "ECE, points", *(f"{share} % interval holds" for share in COVERAGES)], rows)


def draw(ranked: Ranking, path: Path) -> None:
    """The critical-difference picture."""
    import matplotlib as mpl  # noqa: PLC0415  only who draws pays for it

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    names, ranks = ranked.learners, [ranked.mean_ranks[name] for name in ranked.learners]
    figure, axes = plt.subplots(figsize=(9, 0.32 * len(names) + 1.2))
    for place, (name, value) in enumerate(zip(names, ranks, strict=True)):
        axes.plot([value, value + ranked.critical], [-place, -place], color="#bbbbbb", linewidth=3)
        axes.plot(value, -place, "o", color="#c0392b" if name == OURS else "#2c3e50")
        axes.text(value - 0.12, -place, f"{name} ({value:.2f})", ha="right", va="center", fontsize=8)
    axes.set_xlim(min(ranks) - 3.5, max(ranks) + ranked.critical + 0.3)
    axes.set_yticks([])
    axes.set_xlabel(
        f"mean rank over {len(ranked.streams)} streams; who is right of a grey bar's end is significantly worse"
    )
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
