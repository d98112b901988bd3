"""Text as numbers: the same ones everywhere, alike where texts are, and enough to learn from."""

import hashlib
import json
import math
import random
from typing import Any

import numpy as np
import pytest

from streammeta.app.parts import decoder
from streammeta.config import Settings
from streammeta.engine import Engine, EngineSettings
from streammeta.engine.extraction.text import TextHash
from streammeta.event import Event, Label, Origin, Record
from tests.engine.handover.test_handover import SMALL, same
from tests.engine.test_corrections import in_order


def on(text: Any = ("title",), **others: Any) -> EngineSettings:
    return EngineSettings.model_validate(SMALL.model_dump(exclude_unset=True) | {"features": {"text": text, **others}})


def test_numbers_are_what_the_definition_says() -> None:
    """By a plain reading of it, n-gram by n-gram, with Python's whole numbers."""
    width, seed, text = 16, 7, "Grün  ist\tgut"
    key = int.from_bytes(hashlib.blake2b(f"{seed}:title".encode(), digest_size=8).digest(), "little")
    counts, whole = [0.0] * width, " grün ist gut "
    for n in (3, 4, 5):
        for i in range(len(whole) - n + 1):
            found = n
            for one in whole[i : i + n]:
                found = (found * 0x9E3779B97F4A7C15 + ord(one)) % 2**64
            found ^= key
            for factor in (0xBF58476D1CE4E5B9, 0x94D049BB133111EB):
                found = (found ^ (found >> 29)) * factor % 2**64
            found ^= found >> 32
            counts[(found >> 32) * width >> 32] += 1 - 2 * (found & 1)
    norm = math.sqrt(sum(count * count for count in counts))

    assert TextHash("title", width, seed)(text) == pytest.approx([count / norm for count in counts], abs=1e-15)


def test_texts_that_are_alike_have_numbers_that_are_alike() -> None:
    """Else a word that is misspelt is another word."""
    hashed = TextHash("title", 256, 0)
    shoes, misspelt, kettle = (np.array(hashed(t)) for t in ("red running shoes", "red runing shoe", "electric kettle"))

    assert shoes @ shoes == pytest.approx(1.0)
    assert shoes @ misspelt > 0.6
    assert abs(shoes @ kettle) < 0.25


@pytest.mark.parametrize("text", ["", " \n", "a", "\ud800 alone", "日本語の本", "x" * 200_000])
def test_any_text_has_finite_numbers(text: str) -> None:
    """What people write is not chosen for us."""
    found = TextHash("title", 8, 0)(text)

    assert len(found) == 8
    assert all(map(math.isfinite, found))
    assert sum(value * value for value in found) == pytest.approx(1.0 if text.strip() else 0.0)


def test_seed_and_name_fix_what_goes_where() -> None:
    """Two texts of one event must not fill the same numbers, and a restart must."""
    assert TextHash("a", 64, 0)("some words") == TextHash("a", 64, 0)("some words")
    assert (
        TextHash("a", 64, 0)("some words") != TextHash("b", 64, 0)("some words") != TextHash("b", 64, 1)("some words")
    )


def test_an_event_has_the_numbers_in_place_of_its_text() -> None:
    """A missing text is missing; a number is read as it is written."""
    engine = Engine(on(text_width=4))
    given = [{"title": "red shoes", "price": 2.0}, {"title": None, "price": 3.0}, {"title": 1984.0}]

    found = [one.event.x for one in in_order(engine, [Event(x, "s", Origin("t", 0, i)) for i, x in enumerate(given)])]

    names = [f"title.{i}of4" for i in range(4)]
    hashed = TextHash("title", 4, 0)
    assert found[0] == dict(zip(names, hashed("red shoes"), strict=True)) | {"price": 2.0}
    assert found[1] == {"price": 3.0}
    assert found[2] == dict(zip(names, hashed("1984"), strict=True))


def test_what_a_title_says_is_learned_from_words_never_seen_together() -> None:
    """As a category, each title is new and says nothing; its words are not."""
    draw = random.Random(4)
    good, bad = ["bright", "sturdy", "elegant", "clean"], ["broken", "stained", "missing", "scratched"]
    things = ["lamp", "table", "mirror", "chair", "kettle", "clock", "blanket", "basket"]

    def event(i: int) -> Event:
        y = draw.randrange(2)
        words = [draw.choice(good if y else bad), draw.choice(things), f"{draw.randrange(10_000)}"]
        draw.shuffle(words)
        return Event({"title": " ".join(words)}, f"shop-{i % 4}", Origin("t", 0, i), y=y)

    given: list[Event | Label] = [event(i) for i in range(800)]
    as_text, as_category = (in_order(Engine(chosen), given)[400:] for chosen in (on(), SMALL))

    right = [sum(1 - (one.error or 0.0) for one in found) / 400 for found in (as_text, as_category)]
    assert right[0] > 0.9
    assert right[1] < 0.6


def test_no_prediction_depends_on_polls_or_on_a_restore() -> None:
    """As of all features."""
    draw = random.Random(5)
    given: list[Event | Label] = [
        Event({"title": f"{draw.choice('abc')} {draw.random():.3f}"}, f"s{i % 3}", Origin("t", 0, i), y=i % 2)
        for i in range(200)
    ]
    runs = [in_order(Engine(on()), given, poll) for poll in (1, 16, 1_000)]
    engine = Engine(on())
    in_order(engine, given[:90])

    rest = in_order(Engine.restore(on(), engine.snapshot()), given[90:])

    assert all(map(same, runs[0], runs[1]))
    assert all(map(same, runs[0], runs[2]))
    assert all(map(same, runs[0][90:], rest))


def test_a_text_may_be_long_where_it_is_text_and_not_where_it_is_a_category() -> None:
    """A category of 100 kB is a mistake; a description is not."""
    settings = Settings(features={"text": ["title"]})
    long = {"task": "s", "x": {"title": "many words " * 5_000, "a": 1.0}}

    event = decoder(settings).decode(Record(json.dumps(long).encode(), Origin("t", 0, 0)))

    assert isinstance(event, Event)
    assert len(str(event.x["title"])) == 55_000  # type: ignore[call-overload]  # by name
    with pytest.raises(Exception, match="feature 'title' has 55000 characters, wanted at most 1000"):
        decoder(Settings()).decode(Record(json.dumps(long).encode(), Origin("t", 0, 0)))


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"text": ["a", "a"]}, "'a' twice"),
        ({"text": ["a"], "encoders": {"a": "json:dumps"}}, "'a' twice"),
        ({"text": ["a"], "rolling": [{"of": "a", "make": ["lag"]}]}, "rolling: 'a' is in text or encoders"),
        ({"text_width": 8}, "text_width: is not used"),
        ({"text": ["a"], "text_width": 2}, "text_width"),
        ({"encoders": {"a": "json.dumps"}}, "encoders"),
    ],
)
def test_a_setting_that_means_nothing_is_refused(given: dict[str, Any], wanted: str) -> None:
    """Before the first event, by its name."""
    with pytest.raises(ValueError, match=wanted):
        EngineSettings.model_validate({"features": given})
