"""Who writes which column of the task table: one module each, by verbs; all others ask it."""

import ast
from pathlib import Path

import streammeta.engine

ROOT = Path(streammeta.engine.__file__).parent
OWNERS = {  # the column, or how it begins, with a mark at its end -> the modules that may write it
    "version": {"staleness.py"},
    "rebuild_cooldown": {"staleness.py"},
    "window_": {"taskrow.py", "handover/taking.py", "buffer.py"},  # and the kernel of `buffer.push`
    "labels_": {"columns.py"},
    "drifts": {"columns.py"},
    "drift_at": {"columns.py"},
    "events": {"judge.py"},
    "labelled": {"judge.py"},
    "error": {"judge.py"},
    "scale_": {"scale.py"},
    "past.": {"concepts.py", "responses/recall.py"},
    "last.": {"experts/persistence.py", "handover/taking.py"},
}


def written_columns(path: Path) -> set[str]:
    """Names of columns that this module writes to: ``columns.name[row] = …`` or ``columns["name"][row] = …``."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        for target in targets:
            for one in target.elts if isinstance(target, ast.Tuple) else [target]:
                column = one.value if isinstance(one, ast.Subscript) else None  # columns.name
                if isinstance(column, ast.Subscript) and isinstance(column.slice, ast.Constant):
                    found.add(str(column.slice.value))
                elif isinstance(column, ast.Attribute) and (path.name == "columns.py" or not _is_own(column)):
                    found.add(column.attr)
    return found


def _is_own(attribute: ast.Attribute) -> bool:
    """``self.name``: of the module's own class, which is no column."""
    return isinstance(attribute.value, ast.Name) and attribute.value.id == "self"


def test_each_column_is_written_by_its_owner_alone() -> None:
    """Nine modules once wrote the same arrays by string keys; who broke an invariant was found by reading all nine."""
    strangers = {
        f"{path.relative_to(ROOT)} writes {column!r}"
        for path in ROOT.rglob("*.py")
        for column in written_columns(path)
        for begin, owners in OWNERS.items()
        if (column.startswith(begin) if begin[-1] in "_." else column == begin)
        and str(path.relative_to(ROOT)) not in owners
    }

    assert strangers == set()


def test_what_is_written_is_seen() -> None:
    """A test that sees no assignment would pass on everything."""
    assert {"drifts", "drift_at", "labels_since_drift"} <= written_columns(ROOT / "columns.py")
    assert "window_count" in written_columns(ROOT / "taskrow.py")
    assert "version" in written_columns(ROOT / "staleness.py")
