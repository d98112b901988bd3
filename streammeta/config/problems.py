"""What is wrong with a configuration: names that are none, values out of range; a line for each."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic_core import ErrorDetails

from streammeta.config.places import did_you_mean, known_part, model_of, where
from streammeta.config.sections import BETWEEN, PREFIX, Settings

__all__ = ["problems_of", "unknown_sections", "unknown_variables"]

_OF_KUBERNETES = ("tcp://", "udp://", "sctp://")  # values of the variables that it sets for each Service
_SECRET = ("password", "secret", "token")


def unknown_sections(table: Mapping[str, Any], path: Path | None) -> Iterator[str]:
    """Sections of a file that are none."""
    for name, value in table.items():
        if name in Settings.model_fields:
            continue
        owners = [s for s, field in Settings.model_fields.items() if name in model_of(field).model_fields]
        if owners and not isinstance(value, dict):
            hint = "; did you mean " + " or ".join(f"[{owner}] {name}" for owner in owners) + "?"
        else:
            hint = did_you_mean(name, Settings.model_fields)
        yield f"{path}: [{name}]: no such section{hint}"


def unknown_variables(environment: Mapping[str, str]) -> Iterator[str]:
    """Variables that look like ours and name no section.

    Names without the double underscore are let be, unless that is all that keeps them from being a setting: Kubernetes
    sets STREAMMETA_PORT and its like for a service.
    """
    meant = {f"{PREFIX}{s}_{key}".upper(): f"{PREFIX}{s}{BETWEEN}{key}".upper() for s, key in _plain_settings()}
    for name, value in environment.items():
        if name.upper() in meant and not value.startswith(_OF_KUBERNETES):
            yield f"environment {name}: is no setting; did you mean {meant[name.upper()]}?"
        section, between, _ = name.upper().removeprefix(PREFIX).partition(BETWEEN)
        if name.upper().startswith(PREFIX) and between and section.lower() not in Settings.model_fields:
            yield f"environment {name}: no such section{did_you_mean(section.lower(), Settings.model_fields)}"


def _plain_settings() -> Iterator[tuple[str, str]]:
    """Section and key of every setting that is not in a section within a section."""
    for section, field in Settings.model_fields.items():
        for key in model_of(field).model_fields:
            yield section, key


def problems_of(details: Sequence[ErrorDetails], path: Path | None) -> list[str]:
    """One line for each setting that is wrong: where, which key, what came, what was wanted."""
    wishes: dict[str, list[str]] = {}
    for detail in details:
        place, siblings = known_part(detail["loc"])
        name = str(place[-1])
        key = f"{where(place, path)}: " + (f"[{'.'.join(map(str, place[:-1]))}] {name}" if place[1:] else f"[{name}]")
        match detail["type"]:
            case "extra_forbidden":
                wishes[f"{key}: no such setting{did_you_mean(name, siblings)}"] = []
            case "value_error":  # a validator of ours, whose message says it all
                wishes[f"{key}: {detail['msg'].removeprefix('Value error, ').removeprefix(f'{name}: ')}"] = []
            case _:
                wishes.setdefault(f"{key}: {_came(name, detail)}wanted ", []).append(_wanted(detail["msg"]))
    return [key + " or ".join(dict.fromkeys(wished)) for key, wished in wishes.items()]


def _wanted(message: str) -> str:
    wish = message.removeprefix("Input should be ")
    return wish.replace("String should match pattern", "text that matches").replace("String should", "text that should")


def _came(name: str, detail: ErrorDetails) -> str:
    """What came, unless it is a secret or may hold one."""
    if detail["type"] == "missing" or isinstance(detail["input"], Mapping):
        return ""
    return "got ***, " if any(word in name.lower() for word in _SECRET) else f"got {detail['input']!r:.200}, "
