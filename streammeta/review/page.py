"""The report as one HTML file: no scripts, nothing fetched, readable on paper, on a phone, light and dark."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from streammeta.errors import TransportError
from streammeta.report import AGES, Figures
from streammeta.review.canvas import PALETTE, draw, svg
from streammeta.review.picture import PICTURES

__all__ = ["page", "write_page"]

_DARK = ("#5db3f2", "#f39a4a", "#48c9a5", "#ee86bd", "#b49af0", "#d9b93b", "#93cc5c", "#f08a7c")
_MOST_TASKS = 15  # shown
_SCORES = {
    "classification": (("accuracy", "accuracy"), ("kappa", "kappa"), ("log_loss", "log loss")),
    "regression": (("mae", "MAE"), ("rmse", "RMSE"), ("r2", "R²"), ("negative_log_likelihood", "neg. log likelihood")),
    "decision": (("mean_reward", "mean reward"), ("mae", "MAE of rewards")),
}


def page(figures: Figures, *, made: datetime | None = None) -> str:
    """The report of a replay, as `study.run` returns it, as a page."""
    templates = Environment(
        loader=PackageLoader("streammeta.review"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"number": _number, "fixed": _fixed}
    drawn = [(picture, draw(picture, figures)) for picture in PICTURES]
    pictures = [(picture, Markup(svg(figure, picture.name))) for picture, figure in drawn if figure is not None]  # noqa: S704 our own drawing
    single = {name: value for name, value in figures.items() if isinstance(value, int | float | str | bool)}
    return templates.get_template("page.html.j2").render(
        figures=figures,
        single=single,
        scores=_SCORES[figures["kind"]],
        pictures=pictures,
        paired={pair["b"]: pair for pair in figures.get("paired", [])},
        ages=AGES,
        light=PALETTE,
        dark=_DARK,
        settings=json.dumps(figures["settings"], indent=2),
        made=(made or datetime.now(UTC)).strftime("%Y-%m-%d %H:%M UTC"),
        headline=_headline(figures),
        worst=figures["worst_tasks"][:_MOST_TASKS],
    )


def write_page(figures: Figures, path: Path) -> None:
    """Write the page.

    Raises:
        TransportError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page(figures), "utf-8")
    except OSError as err:
        raise TransportError(f"--html {path}: cannot be written ({err}); name another file") from err


def _headline(figures: Figures) -> str:
    """The run in a sentence or two: how right, beside what, and what is not in it."""
    classify, paired = figures["kind"] == "classification", figures.get("paired", [])
    value = figures["accuracy" if classify else "mae"]
    parts = [] if not figures["stopped"] else [f"This run was {figures['status']}."]
    if value is None:
        parts.append("No label came, so nothing can be said.")
    elif figures["kind"] == "decision":
        parts.append(
            f"The mean reward is {figures['mean_reward']:.4g}, and rewards are predicted with an error of {value:.4g}."
        )
    else:
        said = (
            f"{value:.1%} of the labels were predicted right" if classify else f"The mean absolute error is {value:.4g}"
        )
        if paired:
            best = min(paired, key=lambda pair: float(pair["error_b"]))
            other = _result(best["error_b"], classify)
            said += f"; the best of the others, {best['b']}, has {other}: {best['verdict']}"
        parts.append(f"{said}.")
        if figures.get("interval_coverage") is not None:
            wanted, covered = figures["settings"]["interval"], figures["interval_coverage"]
            width = f"{figures['interval_mean_width']:.4g}"
            parts.append(f"Its {wanted:.0%} intervals hold {covered:.1%} of the labels; their mean width is {width}.")
        error = 1 - value if classify else value
        better = [(one["error"], name) for name, one in figures["guesses"].items() if one["error"] is not None]
        least, name = min(better, default=(error, ""))
        if least < error:
            parts.append(f"The {name} alone, without learning, has {_result(least, classify)}.")
    if figures["rejected"]:
        share = figures["rejected"] / max(figures["records"], 1)
        parts.append(f"{figures['rejected']:,} of {figures['records']:,} records ({share:.1%}) were set aside.")
    return " ".join(parts)


def _result(error: float, classify: bool) -> str:
    return f"{1 - error:.1%}" if classify else f"{error:.4g}"


def _number(value: Any, digits: int = 4) -> str:  # noqa: ANN401 a cell
    if value is None:
        return "–"
    if isinstance(value, bool | str):
        return str(value)
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def _fixed(value: float | None, decimals: int) -> str:
    """With one number of decimals in a column, so that figures can be compared at a glance."""
    return "–" if value is None else f"{value:,.{decimals}f}"
