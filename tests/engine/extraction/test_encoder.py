"""A user's own encoder, named in the configuration: its numbers are features; what it does wrong is said, with where."""

from pathlib import Path
from typing import Any

import pytest

from streammeta.config import load
from streammeta.engine import Engine, EngineSettings
from streammeta.errors import ConfigError
from streammeta.event import Event, Label, Origin
from tests.engine.test_corrections import in_order

MODULE = '''
"""An encoder as a user would write it."""
import base64

def lights(photo):
    return [byte / 255 for byte in base64.b64decode(photo)]

def fails(photo):
    raise RuntimeError(f"no image: {photo[:5]}")

def as_many_as_letters(text):
    return [1.0] * len(text)

def bad(text):
    return {"nothing": None, "nan": [float("nan")], "text": ["a"], "none": []}[text]

number = 5
'''


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"encoder_of_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    return name


def engine(path: str) -> Engine:
    return Engine(EngineSettings.model_validate({"features": {"encoders": {"photo": path}}}))


def test_its_numbers_are_features_in_place_of_what_came(module: str, tmp_path: Path) -> None:
    """By the configuration of a service; an event without a photo has none of them."""
    file = tmp_path / "streammeta.toml"
    file.write_text(f'[features]\nencoders = {{ photo = "{module}:lights" }}\n')
    given: list[Event | Label] = [
        Event({"photo": "AP9/", "a": 1.0}, "s", Origin("t", 0, 0), y=0),
        Event({"a": 2.0}, "s", Origin("t", 0, 1), y=1),
    ]

    first, second = in_order(Engine(load(file).engine()), given)

    assert first.event.x == {"photo.0of3": 0.0, "photo.1of3": 1.0, "photo.2of3": 127 / 255, "a": 1.0}  # type: ignore
    assert second.event.x == {"a": 2.0}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("function", "value", "wanted"),
    [
        ("fails", "cat.png", "raised RuntimeError: no image: cat.p"),
        ("bad", "nothing", "returned None; wanted a list of numbers"),
        ("bad", "text", "returned ['a']; wanted a list of numbers"),
        ("bad", "nan", "returned NaN at place 0; wanted finite numbers"),
        ("bad", "none", "returned 0 numbers; wanted 1 to 4,096"),
    ],
)
def test_what_it_does_wrong_sets_its_event_aside_with_the_reason(
    function: str, value: str, wanted: str, module: str
) -> None:
    """The stream goes on."""
    running = engine(f"{module}:{function}")

    refused, other = running.step(
        [Event({"photo": value}, "s", Origin("t", 0, 5)), Event({"a": 1.0}, "s", Origin("t", 0, 6))]
    )

    assert refused.rejected is not None
    assert f"t/0/5: [features.encoders] photo: {module}:{function} {wanted}" in refused.rejected
    assert other.rejected is None


def test_it_returns_as_many_numbers_each_time(module: str) -> None:
    """Else the third of three and the third of four would be two features."""
    running = engine(f"{module}:as_many_as_letters")
    words = ["abc", "ab", "xyz"]

    found = running.step([Event({"photo": word}, "s", Origin("t", 0, i)) for i, word in enumerate(words)])

    assert [one.rejected is None for one in found] == [True, False, True]
    assert "returned 2 numbers; wanted 3, as at first" in str(found[1].rejected)


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("no_such_package.images:read", "there is no module 'no_such_package'; install it, or name its folder in"),
        ("MODULE:read", "has no attribute 'read'; wanted 'package.module:function'"),
        ("MODULE:number", "which is a int; wanted a function of one argument"),
    ],
)
def test_one_that_is_not_there_is_refused_at_the_start(path: str, wanted: str, module: str) -> None:
    """Not at the first photo, an hour later."""
    with pytest.raises(ConfigError, match="photo: got ") as caught:
        engine(path.replace("MODULE", module))

    assert wanted in str(caught.value)


def test_a_module_that_cannot_be_imported_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that is not downloaded, a wrong version: the reason is in the module."""
    (tmp_path / "encoder_that_fails.py").write_text("raise OSError('no weights here')")
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(ConfigError, match="whose import raised OSError: no weights here"):
        engine("encoder_that_fails:read")


def test_nothing_of_a_record_names_an_encoder() -> None:
    """What is called stands in the configuration; a topic may be written by many."""
    given: dict[str, Any] = {"photo": "os:getcwd", "encoders": "os:getcwd"}

    (found,) = Engine(EngineSettings()).step([Event(given, "s", Origin("t", 0, 0))])

    assert found.rejected is None
    assert found.event.x == given  # type: ignore[union-attr]
