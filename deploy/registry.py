"""A real schema registry on this machine, without Docker and without an installed Java: Apicurio Registry.

It speaks Confluent's interface under ``/apis/ccompat/v7``. Its archive (160 MB, once) comes from Maven's public
repository as Kafka's jars do, into the same folder, and is checked against its digest. Schemas are kept in memory.

``python -m deploy.registry --port 8081`` runs one until Ctrl-C; tests use :class:`SchemaRegistry`.
"""

import argparse
import atexit
import hashlib
import shutil
import signal
import ssl
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from deploy.broker import free_port, guard
from deploy.kafka_jars import BrokerError, cache_folder, fetched, java, optional, say

__all__ = ["REGISTRY_VERSION", "Access", "SchemaRegistry", "fetched_registry", "main"]

REGISTRY_VERSION = "3.3.3"
_DIGEST = "8bc6751c76d963734224b01d5e7f84ccb3cb61c87d3bd77c36c35f10a5cbed63"  # SHA-256 of its archive
_GROUP, _ARTIFACT, _CLASSIFIER, _PACKAGING = "io.apicurio", "apicurio-registry-app", "all", "tar.gz"
_HOST = "127.0.0.1"
_INTERFACE = "/apis/ccompat/v7"  # Confluent's, on Apicurio
_TAIL_LINES = 20


class Access(NamedTuple):
    """Who may ask, and how."""

    user: str
    password: str
    certificate: Path  # PEM files, for TLS
    key: Path


class SchemaRegistry:
    """One process that listens on the loopback interface only; as a context manager it starts on entry, ends on exit.

    Args:
        port: where clients connect; 0 chooses a free one.
        access: TLS and basic authentication; None: plain HTTP, and everybody.
        start_seconds: how long a start may take.
    """

    def __init__(self, *, port: int = 0, access: Access | None = None, start_seconds: float = 90.0) -> None:
        self._port, self._access, self._start_seconds = port, access, start_seconds
        self._data: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """What `[input.registry] url` is to be."""
        scheme = "http" if self._access is None else "https"
        return f"{scheme}://localhost:{self._port}{_INTERFACE}"

    @property
    def is_running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> "SchemaRegistry":
        """Start and wait until it answers.

        Raises:
            BrokerError: Java or the archive cannot be had, or it ends or stays silent.
        """
        runtime, program = java(), fetched_registry(cache_folder())
        atexit.register(self.close)
        self._port = self._port or free_port()
        self._data = Path(tempfile.mkdtemp(prefix="streammeta-registry-"))
        self._write_settings(self._data)
        flags = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xms64m", "-Xmx512m"]
        with self._log(self._data).open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 (our own java, our own arguments)
                [runtime, *flags, "-jar", str(program / "quarkus-run.jar")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._data,  # where it reads config/application.properties
                start_new_session=True,
            )
        self._guard = guard(self._process.pid)
        self._wait_until_ready()
        return self

    def pause(self, *, on: bool) -> None:
        """Let it answer nobody, as when it hangs, or let it go on."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP if on else signal.SIGCONT)

    def close(self) -> None:
        """End it, and remove what it wrote; may be called twice."""
        if self._guard is not None and self._guard.stdin is not None:
            self._guard.kill()
            self._guard.wait(10.0)
            self._guard.stdin.close()
        if self._process is not None:
            self._process.kill()  # it keeps nothing
            self._process.wait(10.0)
        self._guard = self._process = None
        atexit.unregister(self.close)
        if self._data is not None:
            shutil.rmtree(self._data, ignore_errors=True)
            self._data = None

    def __enter__(self) -> "SchemaRegistry":
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def log_tail(self) -> str:
        """The last lines of its log."""
        if self._data is None or not self._log(self._data).exists():
            return "(no log)"
        return "\n".join(self._log(self._data).read_text(errors="replace").splitlines()[-_TAIL_LINES:])

    def _write_settings(self, data: Path) -> None:
        settings = {
            "quarkus.http.host": _HOST,
            "quarkus.http.port": str(self._port),
            "quarkus.management.host": _HOST,
            "quarkus.management.port": "0",
            "quarkus.http.access-log.enabled": "false",
            'quarkus.log.category."io.apicurio".level': "WARN",
            "apicurio.datasource.jdbc.initial-size": "2",
            "apicurio.datasource.jdbc.min-size": "2",
        }
        if self._access is not None:
            settings |= {
                "quarkus.http.port": str(free_port()),  # it is closed, below
                "quarkus.http.ssl-port": str(self._port),
                "quarkus.http.insecure-requests": "disabled",
                "quarkus.http.ssl.certificate.files": str(self._access.certificate),
                "quarkus.http.ssl.certificate.key-files": str(self._access.key),
                "quarkus.http.auth.basic": "true",
                "quarkus.http.auth.permission.all.paths": "/*",
                "quarkus.http.auth.permission.all.policy": "authenticated",
                "quarkus.security.users.embedded.plain-text": "true",
                f"quarkus.security.users.embedded.users.{self._access.user}": self._access.password,
                f"quarkus.security.users.embedded.roles.{self._access.user}": "sr-admin",
            }
        (data / "config").mkdir()
        file = data / "config" / "application.properties"  # not arguments: others would see the password
        file.touch(mode=0o600)
        file.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + self._start_seconds
        while time.monotonic() < deadline:
            if not self.is_running:
                raise BrokerError(f"the registry ended while it started; its log ends with\n{self.log_tail()}")
            if self._answers():
                return
            time.sleep(0.1)
        raise BrokerError(
            f"no answer from {self.url} in {self._start_seconds:g} s; its log ends with\n{self.log_tail()}"
        )

    def _answers(self) -> bool:
        context = None
        if self._access is not None:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # whether it answers, nothing more
        try:
            with urllib.request.urlopen(f"{self.url}/subjects", timeout=2.0, context=context):  # noqa: S310 (http(s))
                return True
        except urllib.error.HTTPError as err:
            return err.code == 401
        except OSError:
            return False

    def _log(self, data: Path) -> Path:
        return data / "registry.log"


def fetched_registry(cache: Path) -> Path:
    """The folder with the program; fetched into a folder of its own and renamed, so that two at once do no harm.

    Raises:
        BrokerError: it is not there and cannot be fetched.
    """
    final = cache / f"apicurio-{REGISTRY_VERSION}"
    return fetched(final, _fetch, f"Apicurio Registry {REGISTRY_VERSION}", "registry")


def _fetch(final: Path) -> None:
    maven = optional("jgo.maven")
    if maven is None:
        raise BrokerError("jgo, which fetches it, is missing; `make setup` brings it")
    final.parent.mkdir(parents=True, exist_ok=True)
    say(f"registry: fetching Apicurio Registry {REGISTRY_VERSION} (160 MB, once)\n")
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=final.parent) as scratch:
        context = maven.MavenContext(
            resolver=maven.PythonResolver(), repo_cache=Path(scratch) / "repository", timeout=60
        )
        component = context.project(_GROUP, _ARTIFACT).at_version(REGISTRY_VERSION)
        archive = Path(component.artifact(classifier=_CLASSIFIER, packaging=_PACKAGING).resolve())
        with archive.open("rb") as content:
            found = hashlib.file_digest(content, "sha256").hexdigest()
        if found != _DIGEST:
            raise BrokerError(f"{archive.name} has the SHA-256 {found}, wanted {_DIGEST}")
        program = Path(scratch) / "program"
        with tarfile.open(archive) as files:
            files.extractall(program, filter="data")
        try:
            program.rename(final)
        except OSError:
            if not final.is_dir():  # otherwise another process was first, and its folder is as good
                raise


def main(arguments: list[str] | None = None) -> int:
    """Run a registry until Ctrl-C or SIGTERM; exit status 1 when it does not come up or ends by itself."""
    parser = argparse.ArgumentParser(prog="python -m deploy.registry", description="A real schema registry, in memory.")
    parser.add_argument("--port", type=int, default=8081, help="where clients connect; 0: any free port (default 8081)")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    registry = SchemaRegistry(port=options.port)
    try:
        registry.start()
        sys.stdout.write(
            f"Apicurio Registry {REGISTRY_VERSION}: [input.registry] url = {registry.url!r}. Ctrl-C stops it.\n"
        )
        sys.stdout.flush()
        while registry.is_running:
            time.sleep(0.2)
    except KeyboardInterrupt:
        return 0
    except BrokerError as err:
        say(f"registry: {err}\n")
        return 1
    else:
        say(f"registry: it ended by itself; its log ends with\n{registry.log_tail()}\n")
        return 1
    finally:
        registry.close()


if __name__ == "__main__":
    sys.exit(main())
