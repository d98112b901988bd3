"""Records that are not events, of every kind that producers have ever made; seeded, each with a word for its kind."""

import json
import random
from collections.abc import Iterator

__all__ = ["KINDS", "broken_values"]

KINDS = (
    "not JSON",
    "cut short",
    "wrong types",
    "infinity",
    "huge numbers",
    "wrong width",
    "empty",
    "one megabyte",
    "bad UTF-8",
    "deep nesting",
    "neither features nor a label",
    "label for nobody",
)


def broken_values(n: int, *, seed: int, large: int = 50) -> Iterator[tuple[str, bytes]]:
    """``n`` kinds and values, at most ``large`` of them of a megabyte.

    "wrong width" is a list of another width than the two numbers that good events of its stream have.
    """
    source = random.Random(seed)
    for i in range(n):
        kind = KINDS[i % len(KINDS)]
        if kind == "one megabyte" and i // len(KINDS) >= large:
            kind = "not JSON"
        yield kind, _value(kind, source)


def _value(kind: str, source: random.Random) -> bytes:
    word = "".join(source.choices('abcxyz{}[]",: \\é☃', k=source.randint(1, 40)))
    number = source.random()
    good = json.dumps({"x": [number, 1.0], "y": 1}).encode()
    choices: dict[str, list[bytes]] = {
        "not JSON": [b"<" + word.encode(), source.randbytes(source.randint(1, 200)), b"x=1&y=2", b"\x80\x04K\x01."],
        "cut short": [good[: source.randint(1, len(good) - 1)]],
        "wrong types": [
            json.dumps(
                {"x": source.choice(["text", 3, True, {"a": [1]}, {"a": {"b": 1}}, [[1]], ["a", "b"]])}
            ).encode(),
            json.dumps({"x": [1, 2], "y": source.choice([[1], {"a": 1}])}).encode(),
            json.dumps({"x": [1, 2], "y": 1, "task": source.choice([[1], {"a": 1}, 1.5, True])}).encode(),
            json.dumps(source.choice([1, None, [], "x", [{"x": 1}]])).encode(),
            json.dumps({"x": [1, 2], "y": 1, "ts": "yesterday"}).encode(),
        ],
        "infinity": [
            b'{"x": [1, %s], "y": 1}' % source.choice([b"Infinity", b"-Infinity", b"1e999"]),
            b'{"x": [1, 2], "y": %s}' % source.choice([b"Infinity", b"-1e999"]),
        ],
        "huge numbers": [b'{"x": [1, 1e%d], "y": 1}' % source.randint(39, 5000), b'{"x": [1, %s]}' % (b"9" * 400)],
        "wrong width": [json.dumps({"x": [1.0] * source.choice([1, 3, 50]), "y": 1}).encode()],
        "empty": [b"", b"{}", b" ", b"\n"],
        "one megabyte": [b'{"x": [' + b"1," * 499_990 + b'1], "y": 1}', b"\x00" * 1_000_000],
        "bad UTF-8": [b'{"x": [1, 2], "task": "\xff%d"}' % source.randint(0, 9), b"\xfe\xff" + good],
        "deep nesting": [b'{"x": ' + b"[" * 20_000 + b"]" * 20_000 + b"}", b'{"z": ' + b'{"a":' * 20_000],
        "neither features nor a label": [b'{"task": "a"}', b'{"id": "a"}', b'{"x": null}'],
        "label for nobody": [json.dumps({"id": word, "y": 1}).encode()],
    }
    return source.choice(choices[kind])
