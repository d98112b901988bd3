"""The field's words, one meaning each: those that this project has given up stay away (CONTRIBUTING.md, GLOSSARY.md)."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
GIVEN_UP = {
    r"laws?": "concept",
    r"rooms?": "module, package, capacity, workspace",
    r"foretold|foresee\w*|foretell\w*": "predicted, predict",
    r"told|tells?": "description, observe, says, reports",
    r"hears?|heard": "observe",
    r"settles?d?|settling": "the word for what it does",
    r"behind": "backlog, stale, after",
    r"anew": "again",
    r"whoever": "the caller, the member",
    r"rivals?": "baseline",
    r"contests?": "comparison",
    r"lessons?": "job",
    r"rehearsals?": "delayed labels",
    r"learned_to_learn|now_or_never|roomy|suspicion": "the word for what it is",
}
IS_PYTHONS_OWN = re.compile(r"\.tell\(\)")  # where a file is read
READ = ("streammeta", "benchmarks", "deploy", "docs", "examples", "simulators")
FRONT = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md")


def _lines() -> Iterator[tuple[str, str]]:
    files = [ROOT / name for name in FRONT]
    for folder in READ:
        files += [f for f in (ROOT / folder).rglob("*") if f.suffix in {".py", ".md", ".toml", ".j2"} and f.is_file()]
    for file in files:
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            yield f"{file.relative_to(ROOT)}:{number}", IS_PYTHONS_OWN.sub("", line)


@pytest.mark.parametrize("word", GIVEN_UP)
def test_words_that_were_given_up_stay_away(word: str) -> None:
    """Code, comments, docs, settings and messages: a reader should meet one word for one thing."""
    pattern = re.compile(rf"(?<![A-Za-z])(?:{word})(?![A-Za-z])", re.IGNORECASE)
    found = [f"{at}: {line.strip()[:80]}" for at, line in _lines() if pattern.search(line)]

    assert not found, f"write {GIVEN_UP[word]} instead"
