"""Every setting, in one tree: defaults, then a TOML file, then the environment (`STREAMMETA_META__MODE=sync`).

Settings are checked whole, before anything is connected; each problem is one line that names the key, what came and
what was wanted.
"""

import os
import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import SettingsError

from streammeta.config.example import example
from streammeta.config.problems import problems_of, unknown_sections, unknown_variables
from streammeta.config.sections import (
    AppSettings,
    HttpSettings,
    InputSettings,
    LabelSettings,
    LogSettings,
    OutputSettings,
    Settings,
    StateSettings,
)
from streammeta.config.unused import unused_settings
from streammeta.errors import ConfigError

__all__ = [
    "AppSettings",
    "HttpSettings",
    "InputSettings",
    "LabelSettings",
    "LogSettings",
    "OutputSettings",
    "Settings",
    "StateSettings",
    "example",
    "load",
]


def load(path: Path | None = None) -> Settings:
    """Read the settings from a TOML file, if there is one, and from the environment.

    Raises:
        ConfigError: one line for each problem.
    """
    table = {} if path is None else _read(path)
    problems = [*unknown_sections(table, path), *unknown_variables(os.environ)]
    settings: Settings | None = None
    cause: Exception | None = None
    try:
        settings = Settings(**{name: section for name, section in table.items() if name in Settings.model_fields})
    except ValidationError as err:
        problems, cause = [*problems, *problems_of(err.errors(include_url=False), path)], err
    except SettingsError as err:
        problems, cause = [*problems, f"environment: {err}; wanted JSON there, or one variable a setting"], err
    if settings is not None and not problems:
        problems = list(unused_settings(settings, path))
    if problems or settings is None:
        raise ConfigError("\n".join(problems)) from cause
    return settings


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8-sig"))
    except FileNotFoundError as err:
        raise ConfigError(f"{path}: no such file; wanted a TOML file (`streammeta config` prints an example)") from err
    except (OSError, UnicodeDecodeError) as err:
        raise ConfigError(f"{path}: cannot be read ({err}); wanted a TOML file in UTF-8") from err
    except tomllib.TOMLDecodeError as err:
        raise ConfigError(f"{path}: not TOML: {err}") from err
