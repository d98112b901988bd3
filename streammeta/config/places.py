"""Where a setting stands in the tree, and how a message names it."""

import difflib
import os
from collections.abc import Mapping
from itertools import takewhile
from pathlib import Path
from typing import TypeAlias, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from streammeta.config.sections import (
    BETWEEN,
    PREFIX,
    Settings,
)

__all__ = ["Place", "did_you_mean", "known_part", "model_of", "where"]

Place: TypeAlias = tuple[int | str, ...]  # a setting's path, as pydantic gives it


def where(place: Place, path: Path | None) -> str:
    """The variable of the environment or the file that a setting comes from."""
    variable = PREFIX + BETWEEN.join(map(str, takewhile(lambda name: isinstance(name, str), place))).upper()
    if any(name.upper() == variable for name in os.environ):
        return f"environment {variable}"
    return str(path or "settings")


def known_part(place: Place) -> tuple[Place, Mapping[str, FieldInfo]]:
    """The path down to the last setting we know of (pydantic adds tags of unions), and that setting's siblings."""
    fields: Mapping[str, FieldInfo] = Settings.model_fields
    for depth, name in enumerate(place):
        if isinstance(name, int):  # one of several tables
            continue
        field = fields.get(str(name))
        several = None if field is None else _model_of_each(field)
        if several is not None and depth + 2 < len(place):
            fields = several.model_fields
            continue
        model = None if field is None else model_of(field)
        if model is None or not model.model_fields:
            return place[: depth + 1], fields
        if depth + 1 < len(place):
            fields = model.model_fields
    return place, fields


def did_you_mean(name: str, known: Mapping[str, FieldInfo]) -> str:
    """A hint at the nearest name, or all there are."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else f"; wanted one of {', '.join(known)}"


def _model_of_each(field: FieldInfo) -> type[BaseModel] | None:
    """The model of each of several tables; None where a field holds something else."""
    if get_origin(field.annotation) is not tuple:
        return None
    return next(
        (one for one in get_args(field.annotation) if isinstance(one, type) and issubclass(one, BaseModel)), None
    )


def model_of(field: FieldInfo) -> type[BaseModel]:
    """The settings model a field holds; the empty one when it holds a plain value, a table of any names, or several."""
    if get_origin(field.annotation) in (dict, tuple):
        return BaseModel
    held = (field.annotation, *get_args(field.annotation))
    return next((one for one in held if isinstance(one, type) and issubclass(one, BaseModel)), BaseModel)
