"""How a public name goes: it works for one more minor version, says so, and then it is removed.

    @deprecated(since="0.2", removed_in="0.3", use="streammeta.Engine")
    def make_engine(...): ...

A name that only moved is left in its old module by ``__getattr__ = moved(__name__, {...})``. Each deprecation is
noted in ``DUE``, and a test fails when a version is reached in which a name should be gone.
"""

import functools
import re
import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Final, NamedTuple, ParamSpec, TypeVar

__all__ = ["DUE", "Deprecation", "StreammetaDeprecationWarning", "deprecated", "moved", "overdue"]

_P = ParamSpec("_P")
_R = TypeVar("_R")
_VERSION = re.compile(r"\d+(\.\d+)*")


class StreammetaDeprecationWarning(FutureWarning):
    """A name of streammeta's will be gone; a FutureWarning, so that Python shows it to users and not to tests only."""


class Deprecation(NamedTuple):
    """A name on its way out."""

    name: str  # module and name
    since: str  # the version that began to warn
    removed_in: str  # the version in which it is gone
    use: str  # what to use instead

    @property
    def message(self) -> str:
        """The warning that a user sees."""
        return (
            f"{self.name} is deprecated since streammeta {self.since} and will be gone in {self.removed_in}; "
            f"use {self.use}"
        )


DUE: Final[dict[str, Deprecation]] = {}  # by name; filled as modules are imported


def deprecated(*, since: str, removed_in: str, use: str) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Let a function warn at each call, and do what it did.

    >>> @deprecated(since="0.1", removed_in="0.2", use="abs")
    ... def size(x): return abs(x)
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     size(-3), caught[0].category.__name__
    (3, 'StreammetaDeprecationWarning')

    Args:
        since: the version that begins to warn.
        removed_in: a later version, in which the function is gone.
        use: what to use instead.

    Raises:
        ValueError: ``removed_in`` is not later than ``since``.
    """

    def decorate(function: Callable[_P, _R]) -> Callable[_P, _R]:
        note = _noted(f"{function.__module__}.{function.__qualname__}", since, removed_in, use)

        @functools.wraps(function)
        def warning(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            warnings.warn(note.message, StreammetaDeprecationWarning, stacklevel=2)
            return function(*args, **kwargs)

        return warning

    return decorate


def moved(module: str, names: Mapping[str, str], *, since: str, removed_in: str) -> Callable[[str], Any]:
    """A module's ``__getattr__`` for names that are elsewhere now.

    Args:
        module: ``__name__`` of the old module.
        names: an old name -> "new.module.NAME".
        since: the version that begins to warn.
        removed_in: a later version, in which the old names are gone.

    Raises:
        ValueError: ``removed_in`` is not later than ``since``.
    """
    notes = {name: _noted(f"{module}.{name}", since, removed_in, place) for name, place in names.items()}

    def find(name: str) -> Any:  # noqa: ANN401 whatever is asked for
        if name not in notes:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        warnings.warn(notes[name].message, StreammetaDeprecationWarning, stacklevel=2)
        place, _, new = names[name].rpartition(".")
        return getattr(import_module(place), new)

    return find


def overdue(version: str) -> list[Deprecation]:
    """The deprecated names that should be gone in this version."""
    return [one for one in DUE.values() if _parts(version) >= _parts(one.removed_in)]


def _noted(name: str, since: str, removed_in: str, use: str) -> Deprecation:
    if _parts(since) >= _parts(removed_in):
        raise ValueError(f"{name}: since={since!r}, removed_in={removed_in!r}; wanted a later version to remove it in")
    DUE[name] = Deprecation(name, since, removed_in, use)
    return DUE[name]


def _parts(version: str) -> tuple[int, ...]:
    """Numbers of a version, up to the first part that has none: "0.2.0rc1" is 0.2.0."""
    found = _VERSION.match(version)
    if found is None:
        raise ValueError(f"got the version {version!r}, wanted numbers between dots, such as 0.2")
    return tuple(map(int, found[0].split(".")))
