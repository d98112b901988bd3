"""How a public name goes."""

import pkgutil
import sys
import types
from importlib import import_module

import pytest

import streammeta
from streammeta.deprecation import DUE, StreammetaDeprecationWarning, deprecated, moved, overdue


@pytest.fixture(autouse=True)
def _due_as_before():
    before = dict(DUE)
    yield
    DUE.clear()
    DUE.update(before)


def test_a_deprecated_function_works_and_says_what_to_use_at_the_line_that_calls_it() -> None:
    """A warning that points into the library is of no use."""

    @deprecated(since="0.2", removed_in="0.3", use="streammeta.new")
    def old(x: int, *, twice: bool = False) -> int:
        """Add one."""
        return x + 1 + twice

    with pytest.warns(
        StreammetaDeprecationWarning, match=r"old is deprecated since streammeta 0\.2.*0\.3; use streammeta\.new"
    ) as caught:
        assert old(1, twice=True) == 3

    assert caught[0].filename == __file__
    assert old.__doc__ == "Add one."


def test_a_name_that_moved_is_found_with_a_warning_and_others_are_not() -> None:
    """Old imports go on for one version."""
    module = types.ModuleType("old_place")
    module.__getattr__ = moved("old_place", {"Origin": "streammeta.event.Origin"}, since="0.2", removed_in="0.3")  # type: ignore[method-assign]
    sys.modules["old_place"] = module
    try:
        with pytest.warns(StreammetaDeprecationWarning, match=r"old_place\.Origin.*use streammeta\.event\.Origin"):
            from old_place import Origin  # type: ignore[import-not-found]  # noqa: PLC0415

        assert Origin is streammeta.event.Origin
        with pytest.raises(AttributeError, match="no attribute 'origin'"):
            _ = module.origin
    finally:
        del sys.modules["old_place"]


@pytest.mark.parametrize(("version", "due"), [("0.2.9", 0), ("0.3.0", 1), ("0.3.0rc1", 1), ("0.10", 1), ("1.0", 1)])
def test_a_name_is_overdue_from_the_version_on_that_it_was_to_be_gone_in(version: str, due: int) -> None:
    """By numbers: 0.10 comes after 0.3."""
    DUE.clear()
    deprecated(since="0.2", removed_in="0.3", use="x")(lambda: None)

    assert len(overdue(version)) == due


def test_no_time_to_change_is_refused() -> None:
    """A name that goes at once is a break, not a deprecation."""
    with pytest.raises(ValueError, match="wanted a later version"):
        deprecated(since="0.3", removed_in="0.3", use="x")(lambda: None)


def test_what_should_be_gone_in_this_version_is_gone() -> None:
    """Every module is imported, so that each deprecation is known."""
    for found in pkgutil.walk_packages(streammeta.__path__, "streammeta."):
        if not found.name.endswith("__main__"):
            import_module(found.name)

    assert overdue(streammeta.__version__) == []
