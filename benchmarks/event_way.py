"""How many files and functions does one labelled event pass, from the poll to its answer? What a reader has to follow.

    python -m benchmarks.event_way [--list]

A service on the log in memory, with default settings but for meta-updates, which are off: they are no event's own. Its
301st event, of a task that it knows, is decoded, predicted, learned and answered alone (``Turn.take``); our functions
that are entered meanwhile are counted once each. The poll before it and the commit after it are a transport's.
"""

import argparse
import json
import random
import sys
from types import CodeType, FrameType
from typing import Any

from streammeta.service.turn import Turn
from streammeta.testing import Driver, MemoryLog

__all__ = ["main", "way"]

_PACKAGE, _DRIVER = "/streammeta/", "/streammeta/testing/"
_TASKS, _EVENTS = 4, 300


class _Calls:
    """Which functions of the package ``Turn.take`` enters, in order: a profile function of Python's."""

    def __init__(self) -> None:
        self.found: dict[CodeType, None] = {}
        self._is_on = False

    def __call__(self, frame: FrameType, event: str, _argument: object) -> None:
        code = frame.f_code
        if code is Turn.take.__code__ and event in ("call", "return"):
            self._is_on = event == "call"
        file, name = code.co_filename, code.co_name
        if self._is_on and event == "call" and _PACKAGE in file and _DRIVER not in file and not name.startswith("<"):
            self.found[code] = None


def way() -> dict[str, list[str]]:
    """Files of the package, each with the functions that one labelled event passes in it, in order."""
    log, draw = MemoryLog("events"), random.Random(1)
    for i in range(_EVENTS + 1):
        x: dict[str, Any] = {"a": draw.random(), "b": draw.random(), "colour": draw.choice(("red", "blue"))}
        record = {"id": str(i), "task": f"t{i % _TASKS}", "ts": float(i), "x": x, "y": int(x["a"] > 0.5)}
        log.append(json.dumps(record).encode(), 0, f"t{i % _TASKS}".encode())
    driver, calls = Driver(log, poll_records=1, commit_every_seconds=1e9), _Calls()
    driver.rounds(_EVENTS)
    sys.setprofile(calls)
    try:
        driver.rounds()
    finally:
        sys.setprofile(None)
    found: dict[str, list[str]] = {}
    for code in calls.found:
        found.setdefault(code.co_filename.rpartition(_PACKAGE)[2], []).append(code.co_qualname)
    return found


def main(arguments: list[str] | None = None) -> int:
    """Print the numbers, and the names when asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="name the functions, in the order of their calls")
    options = parser.parse_args(arguments)
    found = way()
    print(f"{len(found)} files, {sum(map(len, found.values()))} functions")
    if options.list:
        for file, functions in found.items():
            print(f"  {file}: {', '.join(functions)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
