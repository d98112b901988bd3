"""A learner's settings, and what is chosen by name. Without PyTorch, so that settings are read in a moment."""

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, Field

__all__ = [
    "METHOD_NAMES",
    "USES_INNER_RATE",
    "USES_INNER_STEPS",
    "USES_OUTER",
    "ExpertSettings",
    "Kind",
    "LearnerSettings",
    "Penalty",
]

Kind: TypeAlias = Literal["classification", "regression"]
Penalty: TypeAlias = Literal["none", "l1", "l2", "distance"]
METHOD_NAMES = (  # of the catalogue
    "maml",
    "fomaml",
    "maml++",
    "reptile",
    "meta-sgd",
    "anil",
    "cavia",
    "imaml",
    "r2d2",
    "alpaca",
    "metaoptnet",
    "protonet",
    "gemcl",
    "lstm",
    "gru",
    "learned-optimizer",
    "adml",
    "aq",
    "maml-ema",
    "mixture",
)
_BY_GRADIENT = ("maml", "fomaml", "maml++", "reptile", "meta-sgd", "anil", "cavia", "adml", "maml-ema")
USES_INNER_RATE = frozenset(_BY_GRADIENT)  # of the catalogue; the others have no step of that size
USES_INNER_STEPS = frozenset((*_BY_GRADIENT, "imaml", "learned-optimizer"))
USES_OUTER = frozenset(METHOD_NAMES) - {"reptile", "mixture"}  # these have an outer step of their own


class ExpertSettings(BaseModel, frozen=True, extra="forbid"):
    """An expert with parameters of its own."""

    name: str
    parameters: dict[str, bool | int | float | str] = Field(default_factory=dict)  # plain values, never evaluated


class LearnerSettings(BaseModel, frozen=True, extra="forbid"):
    """Which learner, and its size and starting point."""

    method: str = Field(
        "exact-heads", description="The default learner, or any of the catalogue: maml, alpaca, protonet, lstm, ..."
    )
    support: int = Field(32, ge=1, le=1024, description="Of those: labelled events of a task that it adapts to.")
    inner_rate: float = Field(
        0.1, gt=0, allow_inf_nan=False, description="Of those that take gradient steps: their size."
    )
    inner_steps: int = Field(5, ge=1, le=100, description="Of those that take gradient steps: how many.")
    start_from: Path | None = Field(None, description="Of those: θ to begin with, a file of `streammeta meta-train`.")
    members: int = Field(5, ge=1, le=64, description="Encoders in the ensemble, each with its own seed and episodes.")
    hidden: int = Field(32, ge=1, le=4096, description="Units of an encoder's hidden layer.")
    encoded: int = Field(16, ge=1, le=512, description="Features the heads see; an event costs its square.")
    memories: tuple[Annotated[float, Field(ge=1, allow_inf_nan=False)], ...] = Field(
        (8.0, 40.0, 200.0),
        min_length=1,
        max_length=8,
        description="Events each head remembers at the start (1 / (1 − γ)); meta-learned from there.",
    )
    chunk: int = Field(4, ge=1, le=64, description="Events predicted from one state inside a meta-update.")
    experts: tuple[str | ExpertSettings, ...] = Field(
        ("nearest", "gaussian_process", "forest", "linear", "persistence"),
        max_length=16,
        description='Mixed in by recent evidence: "forest" (online trees of all tasks of a partition), "nearest" '
        '(the nearest of its last thousands of events), "gaussian_process" (exact, of its last 128 to 255; name both '
        'before "forest", whose events they read), "linear" (a linear model of all events of a partition: what tasks '
        'of a few events have in common), "neighbours" (nearest events of the task), "gaussian" (a Gaussian a class), '
        '"persistence" (what class follows the task\'s last one, or that last target again where it comes near), '
        '"river:MODULE.CLASS", or {name = "river:MODULE.CLASS", '
        "parameters = {...}}; [] for none. Models of River cannot be saved: after a restore they start from nothing.",
    )
    many_classes: int = Field(
        8, ge=0, description='With more classes than this "gaussian" is an expert, named or not; 0: only if named.'
    )
    device: str = Field("auto", description='Where meta-updates run: "auto" (a GPU when there is one), "cpu", "cuda".')
