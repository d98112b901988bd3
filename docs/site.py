"""A hook of mkdocs: pages from the top of the repository become pages of the site, and links between them hold."""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files  # type: ignore[import-not-found]

__all__ = ["on_files", "on_page_markdown"]

ROOT = Path(__file__).parents[1]
PAGES = {  # in the repository -> in the site
    "README.md": "index.md",
    "ARCHITECTURE.md": "ARCHITECTURE.md",
    "CHANGELOG.md": "CHANGELOG.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "GLOSSARY.md": "GLOSSARY.md",
    "SECURITY.md": "SECURITY.md",
    "benchmarks/README.md": "benchmarks.md",
    "examples/README.md": "examples.md",
    "simulators/README.md": "simulators.md",
}
_LINK = re.compile(r"\[([^\]]*)\]\(((?!\w+:|#)[^)#\s]+)((?:#[^)\s]*)?)\)")


def on_files(files: Files, config: Any) -> Files:  # noqa: ANN401 mkdocs' own type
    """Add the pages from the top of the repository."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:  # noqa: ANN401 mkdocs' own types
    """Rewrite links from where a page is in the repository to where it is in the site."""
    here = next(
        (source for source, target in PAGES.items() if target == page.file.src_uri), f"docs/{page.file.src_uri}"
    )

    def moved(link: re.Match[str]) -> str:
        label, path, anchor = link.groups()
        target = posixpath.normpath(posixpath.join(posixpath.dirname(here), path))
        if target in PAGES:
            return f"[{label}]({PAGES[target]}{anchor})"
        if target.startswith("docs/"):
            return f"[{label}]({target.removeprefix('docs/')}{anchor})"
        if (ROOT / target).is_file():  # a program, which is no page
            return label
        return link[0]  # mkdocs says what it does not find

    return _LINK.sub(moved, markdown)
