"""The configuration with every setting, as TOML."""

import json
from collections.abc import Mapping

from pydantic import BaseModel, SecretStr

from streammeta.config.places import model_of
from streammeta.config.sections import BETWEEN, PREFIX, Settings

__all__ = ["example"]


def example() -> str:
    """Every setting with its default and its description, as TOML with all settings commented out."""
    lines = [
        "# streammeta: every setting with its default. Remove the # before a setting to change it.",
        f"# Each is also an environment variable, which wins: [meta] mode is {PREFIX}META{BETWEEN}MODE.",
    ]
    for name, field in Settings.model_fields.items():
        lines += _example_section((name,), model_of(field))
    return "\n".join(lines) + "\n"


def _example_section(place: tuple[str, ...], model: type[BaseModel]) -> list[str]:
    title = (model.__doc__ or "").strip().splitlines()[0].rstrip(".")
    lines = ["", f"[{'.'.join(place)}]  # {title}"]
    for name, field in model.model_fields.items():
        if model_of(field).model_fields:
            continue
        default = field.get_default(call_default_factory=True, validated_data={})
        unset = default is None
        lines += [f"# {field.description}" + " (not set)" * unset, f"#{name} =" + f" {_toml(default)}" * (not unset)]
    for name, field in model.model_fields.items():
        if model_of(field).model_fields:
            lines += _example_section((*place, name), model_of(field))
    return lines


def _toml(value: object) -> str:
    if isinstance(value, SecretStr):
        return '""'
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(str(key))} = {_toml(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple | set | frozenset):
        return "[" + ", ".join(_toml(one) for one in value) + "]"
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    return json.dumps(str(value))
