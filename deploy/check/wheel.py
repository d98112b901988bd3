"""A wheel brings one top-level package, its type marker, and no test: `python deploy/check/wheel.py FILE.whl`."""

import sys
from zipfile import ZipFile

__all__ = ["complaints", "main"]


def complaints(names: list[str]) -> list[str]:
    """What is wrong with a wheel of these files."""
    tops = {name.split("/")[0] for name in names}
    wrong = [
        f"{top}: a top-level name beside streammeta; a user's module of that name would break"
        for top in sorted(tops)
        if top not in {"streammeta", "streammeta.libs"} and not top.endswith(".dist-info")
    ]
    if "streammeta/py.typed" not in names:
        wrong.append("streammeta/py.typed is not there; users' type checkers would not see our types")
    return wrong + [f"{name}: a test in the wheel" for name in names if "/tests/" in name or "test_" in name]


def main(path: str) -> int:
    """Say what is wrong; 1 when something is."""
    with ZipFile(path) as wheel:
        wrong = complaints(wheel.namelist())
    for line in wrong:
        sys.stderr.write(f"{path}: {line}\n")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
