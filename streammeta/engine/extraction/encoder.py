"""A user's own encoder: a Python function that makes numbers of what a feature has, named in the configuration."""

import importlib
import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, Final

from streammeta.bounds import LARGEST
from streammeta.errors import ConfigError, EventError
from streammeta.event import Feature, Origin

__all__ = ["Encoder"]

_MOST: Final = 4_096
_SHOWN: Final = 200


class Encoder:
    """Makes numbers of a feature's value, by a function of the user's.

    Args:
        name: of the feature.
        path: of the function, "package.module:function"; it takes the value (text, a number or a flag) and returns a
            list of numbers, always as many. It must always return the same for the same value: what is predicted after
            a restart, or by another member, depends on it.

    Raises:
        ConfigError: there is no such function.
    """

    def __init__(self, name: str, path: str) -> None:
        self._name, self._path = name, path
        self._call = _found(name, path)
        self._width: int | None = None  # of what it returned first

    def __call__(self, value: Feature, at: Origin) -> list[float]:
        """The numbers of a value.

        Raises:
            EventError: the function raised something, or did not return finite numbers, as many as at first.
        """
        said = f"{at}: [features.encoders] {self._name}: {self._path}"
        try:
            given = self._call(value)
        except Exception as err:  # anything may go wrong in somebody else's code; the other events go on
            raise EventError(f"{said} raised {type(err).__name__}: {str(err)[:_SHOWN]}") from err
        try:
            numbers = [float(one) for one in given]
        except (TypeError, ValueError) as err:
            raise EventError(f"{said} returned {given!r:.200}; wanted a list of numbers") from err
        if not 0 < len(numbers) <= _MOST or (self._width is not None and len(numbers) != self._width):
            wanted = f"1 to {_MOST:,}" if self._width is None else f"{self._width}, as at first"
            raise EventError(f"{said} returned {len(numbers):,} numbers; wanted {wanted}")
        wrong = next((i for i, one in enumerate(numbers) if not -LARGEST < one < LARGEST), None)
        if wrong is not None:
            shown = "NaN" if math.isnan(numbers[wrong]) else f"{numbers[wrong]}"
            raise EventError(f"{said} returned {shown} at place {wrong}; wanted finite numbers below {LARGEST:.0e}")
        self._width = len(numbers)
        return numbers


def _found(name: str, path: str) -> Callable[[Any], Sequence[float]]:
    said = f"[features.encoders] {name}: got {path!r}"
    module, _, function = path.partition(":")
    try:
        found: Any = reduce(getattr, function.split("."), importlib.import_module(module))
    except ModuleNotFoundError as err:
        remedy = "install it, or name its folder in PYTHONPATH"
        raise ConfigError(f"{said}, and there is no module {err.name!r}; {remedy}") from err
    except AttributeError as err:
        raise ConfigError(f"{said}, and {err}; wanted 'package.module:function'") from err
    except Exception as err:
        raise ConfigError(f"{said}, whose import raised {type(err).__name__}: {str(err)[:_SHOWN]}") from err
    if not callable(found):
        raise ConfigError(f"{said}, which is a {type(found).__name__}; wanted a function of one argument")
    return found  # type: ignore[no-any-return]  # it can be called; what it takes is seen then
