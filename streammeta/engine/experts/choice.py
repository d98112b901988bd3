"""From `[learner] experts` to experts. A name is looked up in what is here and inside River; nothing is evaluated."""

from collections.abc import Callable, Sequence

from streammeta.engine.experts.base import RIVER, Expert, ScalingOf, did_you_mean
from streammeta.engine.experts.forest import Forest
from streammeta.engine.experts.gaussian import Gaussian
from streammeta.engine.experts.gaussian_process import GaussianProcess
from streammeta.engine.experts.last_target import LastTarget
from streammeta.engine.experts.linear import Linear
from streammeta.engine.experts.nearest import Nearest
from streammeta.engine.experts.neighbours import Neighbours
from streammeta.engine.experts.persistence import Persistence
from streammeta.engine.features import FeatureSpace
from streammeta.engine.scale import SharedScale
from streammeta.engine.sums import PartitionSums
from streammeta.errors import ConfigError
from streammeta.meta.settings import ExpertSettings, Kind

__all__ = ["choose"]

_OF_CLASSES = ("gaussian",)
_READ_FOREST = ("nearest", "gaussian_process")


def choose(
    chosen: Sequence[str | ExpertSettings],
    kind: Kind,
    seed: int,
    features: FeatureSpace,
    scaling: ScalingOf,
    scale: Callable[[], SharedScale],
    sums: PartitionSums,
) -> list[Expert]:
    """The experts of these settings.

    Args:
        chosen: names, or names with parameters.
        kind: of the stream.
        seed: for models that take one and were given none.
        features: names the slots.
        scaling: the normalization of a task's row.
        scale: the scale of all tasks in force.
        sums: what tasks share by counting.

    Raises:
        ConfigError: there is no such expert, it is not for this kind of stream, or its parameters do not fit.
    """
    experts: list[Expert] = []
    forest = Forest(kind, seed)
    native: dict[str, Callable[[], Expert]] = {
        "nearest": lambda: Nearest(kind, forest, scale),
        "gaussian_process": lambda: GaussianProcess(kind, forest),
        "forest": lambda: forest,
        "linear": lambda: Linear(kind, scale),
        "persistence": Persistence if kind == "classification" else LastTarget,
        "neighbours": lambda: Neighbours(kind, scaling),
        "gaussian": lambda: Gaussian(scaling, sums),
    }
    for one in chosen:
        wanted = ExpertSettings(name=one) if isinstance(one, str) else one
        where = f"[learner] experts: {wanted.name!r}"
        if any(expert.name == wanted.name for expert in experts):
            raise ConfigError(f"{where} is there twice; name it once")
        if wanted.name.startswith(RIVER):
            # imported by who wants it: all of River takes more than a second
            from streammeta.engine.experts.river_choice import river_expert  # noqa: PLC0415

            experts.append(river_expert(where, wanted, kind, seed, lambda: features.slots))
            continue
        if wanted.name not in native:
            hint = did_you_mean(wanted.name, native)
            raise ConfigError(f"{where}: no such expert{hint}; wanted {', '.join(native)} or {RIVER}MODULE.CLASS")
        if wanted.parameters:
            raise ConfigError(f"{where} takes no parameters, got {', '.join(wanted.parameters)}; leave them out")
        if wanted.name in _OF_CLASSES and kind != "classification":
            raise ConfigError(f'{where} is about classes, but app.kind = "{kind}"; leave it out')
        experts.append(native[wanted.name]())
    names = [expert.name for expert in experts]
    for name in _READ_FOREST:
        if name in names and "forest" not in names[names.index(name) :]:
            raise ConfigError(
                f"[learner] experts: {name!r} reads the forest's events before that learns; "
                f"name 'forest' after {name!r}"
            )
    return experts
