"""`streammeta init`: from a file that nobody described to a configuration that reads it."""

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import streammeta
from streammeta.commands.init import _how_written, draft
from streammeta.config import Settings, load
from streammeta.errors import ConfigError

RANDOM = random.Random(1)
SALES = [
    {
        "order_id": f"o-{i}",
        "store_id": i % 7,
        "placed_at": f"2024-01-{1 + i // 24:02}T{i % 24:02}:00:00",
        "price": round(RANDOM.uniform(1, 9), 2),
        "width": -999 if i % 10 == 0 else RANDOM.randint(1, 50),
        "note": f"free text number {RANDOM.random()}",
        "shelf": RANDOM.choice(["top", "bottom"]),
        "sold": RANDOM.choice([True, False]),
    }
    for i in range(400)
]
CLICKS = [
    {
        "uuid": f"{RANDOM.getrandbits(64):x}",
        "user": {"id": f"u{i % 20}", "country": RANDOM.choice("abc")},
        "timestamp": 1_700_000_000_000 + i * 1000,
        "page": {"depth": RANDOM.randint(0, 9)},
        "clicked": RANDOM.randint(0, 1),
    }
    for i in range(300)
]
HOUSES = [
    {"rooms": RANDOM.randint(1, 9), "area": RANDOM.uniform(30, 200), "price": RANDOM.randint(50, 900)}
    for _ in range(300)
]
SENSORS = [
    {
        "sensor": f"s{i % 5}",
        "time": 1_700_000_000 + i,
        "level": RANDOM.gauss(0, 1),
        "failure": RANDOM.choice(["no", "yes"]),
    }
    for i in range(300)
]
README = [
    {"task": f"t{i % 3}", "x": {"a": i % 5, "b": "red"}, "y": i % 2, "id": str(i), "ts": 100 + i} for i in range(100)
]


def as_csv(rows: Sequence[Any], path: Path) -> None:
    pd.DataFrame(rows).to_csv(path, index=False)


def as_lines(rows: Sequence[Any], path: Path) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize(
    ("rows", "write", "wanted", "kind"),
    [
        (SALES, as_csv, {"label": "sold", "task": "store_id", "id": "order_id", "time": "placed_at"}, "classification"),
        (
            SALES,
            as_lines,
            {"label": "sold", "task": "store_id", "id": "order_id", "time": "placed_at"},
            "classification",
        ),
        (
            CLICKS,
            as_lines,
            {"label": "clicked", "task": "user.id", "id": "uuid", "time": "timestamp"},
            "classification",
        ),
        (SENSORS, as_csv, {"label": "failure", "task": "sensor", "id": "id", "time": "time"}, "classification"),
        (HOUSES, as_csv, {"label": "price", "task": "task", "id": "id", "time": "ts"}, "regression"),
        (README, as_lines, {"label": "y", "task": "task", "id": "id", "time": "ts"}, "classification"),
    ],
)
def test_what_a_file_has_is_found_and_written_so_that_a_replay_reads_it(
    rows: Sequence[Any], write: Callable[[Sequence[Any], Path], None], wanted: dict[str, str], kind: str, tmp_path: Path
) -> None:
    """From one's own data to the first report with two commands."""
    file = tmp_path / f"data.{'csv' if write is as_csv else 'jsonl'}"
    write(rows, file)

    made = draft(str(file), Settings(), fixed={})
    (tmp_path / "s.toml").write_text(made.toml)
    settings = load(tmp_path / "s.toml")

    assert {option: getattr(settings.input.fields, option) for option in wanted} == wanted
    assert settings.app.kind == kind
    assert made.command == f"replay {file}"
    figures = streammeta.replay(file, settings=settings).figures
    assert figures["rejected"] == 0
    assert figures["labels_seen"]["count"] == len(rows)


def test_noise_and_numbers_that_stand_for_nothing_are_left_out_and_said(tmp_path: Path) -> None:
    """Free text as a category is a value a row; -999 moves every mean."""
    as_csv(SALES, tmp_path / "sales.csv")

    made = draft(str(tmp_path / "sales.csv"), Settings(), fixed={})

    assert '"note",  # text with 400 values: free text or an id' in made.toml
    assert 'missing = ["width=-999"]  # 40 times, far from all others' in made.toml
    assert any("missing width=-999" in line for line in made.unsure)
    assert any(line.startswith("shelf") and "text, 2 values: " in line for line in made.lines)


def test_free_text_of_several_words_is_offered_as_numbers(tmp_path: Path) -> None:
    """It is left out as a category, and a reader may not know that there is another way. An id has no words."""
    rows = [{"sold": i % 2, "note": f"a lamp, number {i}", "code": f"x{i}"} for i in range(200)]
    as_csv(rows, tmp_path / "a.csv")

    made = draft(str(tmp_path / "a.csv"), Settings(), fixed={})

    assert '\n[features]\n#text = ["note"]  # of several words each' in made.toml
    taken = made.toml.replace("#text", "text").replace('  "note",  #', "  #")
    (tmp_path / "s.toml").write_text(taken)
    assert load(tmp_path / "s.toml").features.text == ("note",)


def test_a_few_texts_among_numbers_are_missing_values_and_no_free_text(tmp_path: Path) -> None:
    """A column with an "n.a." in each seventh row would be left out as free text, and is the best there is."""
    rows = [{"shop": i % 5, "area": "n.a." if i % 7 == 0 else 10 + i / 7, "sold": i % 2} for i in range(200)]
    as_csv(rows, tmp_path / "a.csv")

    made = draft(str(tmp_path / "a.csv"), Settings(), fixed={})

    assert 'missing = ["area=n.a."]  # 29 times, and all other values are numbers' in made.toml
    assert "exclude" not in made.toml
    assert any("missing area=n.a.: does it stand for none?" in line for line in made.unsure)
    (tmp_path / "s.toml").write_text(made.toml)
    assert streammeta.replay(tmp_path / "a.csv", settings=load(tmp_path / "s.toml")).figures["features"] == 1


def test_what_stands_in_cells_breaks_no_comment(tmp_path: Path) -> None:
    """TOML has no control characters, and a comment ends with its line."""
    rows = [
        {"a\u00a0b": "x\ny = 1" if i % 2 else "re\0d", "day": "2024-01-01", "at": 1.7e9 + i, "y": i % 2}
        for i in range(20)
    ]
    as_lines(rows, tmp_path / "a.jsonl")

    made = draft(str(tmp_path / "a.jsonl"), Settings(), fixed={})
    (tmp_path / "s.toml").write_text(made.toml)

    fields = load(tmp_path / "s.toml").input.fields
    assert (fields.task, fields.label) == ("a\u00a0b", "y")
    assert fields.time == "at", "one day is no time that rises"


def test_what_is_not_sure_is_asked_and_what_is_given_is_taken(tmp_path: Path) -> None:
    """The last column is often the label, and often not."""
    as_csv(HOUSES, tmp_path / "houses.csv")
    asked: list[tuple[str, str]] = []

    made = draft(
        str(tmp_path / "houses.csv"), Settings(), fixed={}, ask=lambda o, c: asked.append((o, c.name)) or "area"
    )
    given = draft(str(tmp_path / "houses.csv"), Settings(), fixed={"label": "rooms"})

    assert asked == [("label", "price")]
    assert 'label = "area"  # as asked for' in made.toml
    assert 'label = "rooms"  # as asked for' in given.toml
    assert not any(line.startswith("label") for line in given.unsure)


def test_a_file_of_nothing_is_refused(tmp_path: Path) -> None:
    """A configuration of nothing would look like one."""
    (tmp_path / "a.jsonl").write_text("not json\n")
    (tmp_path / "b.csv").write_text("a,y\n")

    with pytest.raises(ConfigError, match=r"none of 1 records that can be read, as .*: not an event: JSON"):
        draft(str(tmp_path / "a.jsonl"), Settings(), fixed={})
    with pytest.raises(ConfigError, match="no records; wanted some to look at"):
        draft(str(tmp_path / "b.csv"), Settings(), fixed={})
    with pytest.raises(ConfigError, match="wanted kafka://host:port/topic"):
        draft("kafka://localhost", Settings(), fixed={})


def test_what_is_asked_for_is_left_out_beside_what_is_found(tmp_path: Path) -> None:
    """The same words as those of a replay."""
    as_csv(SALES, tmp_path / "sales.csv")

    asked = {"include": ["pri*", "width", "shelf"], "exclude": ["shelf"], "missing": ["price=9.99"]}
    made = draft(str(tmp_path / "sales.csv"), Settings(), fixed={}, **asked)
    (tmp_path / "s.toml").write_text(made.toml)
    fields = load(tmp_path / "s.toml").input.fields

    assert fields.include == ("pri*", "width", "shelf")
    assert fields.exclude[:2] == ("shelf", "note")
    assert fields.missing == ("price=9.99", "width=-999")


@pytest.mark.parametrize(
    "given",
    [
        {"format": "csv", "csv": {"columns": ["shop", "price", "sold"], "separator": ";", "decimal": ","}},
        {"format": "avro", "registry": {"url": "https://r:1", "username": "u", "password": "p", "ca_file": "ca.pem"}},
        {"format": "protobuf", "protobuf": {"descriptor": "a.desc", "message": "a.B"}},
    ],
)
def test_how_records_are_written_is_written_again(given: dict[str, Any], tmp_path: Path) -> None:
    """A configuration for CSV without its columns is refused by `run`; a password belongs into no file."""
    before = Settings(input=given).input
    lines = ["[input]", f'format = "{before.format}"', *_how_written(before)]
    (tmp_path / "s.toml").write_text("\n".join(lines) + "\n")
    after = load(tmp_path / "s.toml").input

    assert (after.format, after.csv, after.protobuf) == (before.format, before.csv, before.protobuf)
    assert after.registry == before.registry.model_copy(update={"password": None})
    assert "password = " not in (tmp_path / "s.toml").read_text()


def test_numbers_that_name_something_are_categories_and_counts_are_none(tmp_path: Path) -> None:
    """300 zip codes as amounts said next to nothing, and nobody was warned."""
    draw, rows = random.Random(0), []
    worth = {draw.randrange(10_000, 99_999): draw.gauss(0, 1) for _ in range(300)}
    for _ in range(2_500):
        place, area, shops = draw.choice(list(worth)), draw.gauss(0, 1), draw.randrange(9)
        rows.append({"zip": place, "shops": shops, "area": area, "price": worth[place] + 0.3 * area + 0.1 * shops})
    as_csv(rows, tmp_path / "a.csv")

    made = draft(str(tmp_path / "a.csv"), Settings(), fixed={"label": "price", "task": ""})
    (tmp_path / "s.toml").write_text(made.toml)

    assert load(tmp_path / "s.toml").features.categories == ("zip",)
    assert "categories zip: do these numbers name something, or are they amounts?" in made.unsure
    right = streammeta.replay(tmp_path / "a.csv", settings=load(tmp_path / "s.toml")).figures["mae"]
    assert right < 0.8 * streammeta.replay(tmp_path / "a.csv", label="price").figures["mae"]


def test_what_is_the_id_by_its_name_is_no_label(tmp_path: Path) -> None:
    """A file with an `id` in its last column, and none for a label: `init` ended with pydantic's own error."""
    as_lines([{"name": f"n{i}", "id": i % 3} for i in range(30)], tmp_path / "a.jsonl")

    assert "#label = none was found" in draft(str(tmp_path / "a.jsonl"), Settings(), fixed={}).toml
    with pytest.raises(ConfigError, match="label and id both name 'id'"):
        draft(str(tmp_path / "a.jsonl"), Settings(), fixed={"label": "id"})


def test_whole_numbers_of_any_size_are_looked_at(tmp_path: Path) -> None:
    """Beside a fraction, one too large for a float was an OverflowError."""
    as_lines(
        [{"a": one, "b": 10**400 + i, "y": i % 2} for i, one in enumerate([0.5, 10**400, 2, 7])], tmp_path / "a.jsonl"
    )

    toml = draft(str(tmp_path / "a.jsonl"), Settings(), fixed={}).toml

    assert 'id = "b"  # no two records share it' in toml
