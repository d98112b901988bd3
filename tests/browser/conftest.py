"""A browser: the report is looked at where people look at it."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
Browse = Callable[..., str]


def _found() -> str | None:
    named = os.environ.get("STREAMMETA_BROWSER")
    return named or next((path for name in _NAMES if (path := shutil.which(name))), None)


@pytest.fixture(scope="session")
def browse(tmp_path_factory: pytest.TempPathFactory) -> Browse:
    """Run headless Chromium with these options on a page; returns what it says. Without a browser the test skips and
    says so, but in CI it fails.
    """
    browser = _found()
    if browser is None:
        reason = f"no browser; wanted one of {', '.join(_NAMES)}, or its path in STREAMMETA_BROWSER (`make browser`)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    profile = tmp_path_factory.mktemp("chromium")

    def run(page: Path, *options: str) -> str:
        fixed = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]
        offline = ["--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={profile}", "--no-first-run"]
        command = [browser, *fixed, *offline, *options, page.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
        return done.stdout

    return run
