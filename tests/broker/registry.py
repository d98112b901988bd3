"""A real schema registry for tests, one for the whole session, with TLS and basic authentication.

`from tests.broker.registry import registry` in a test module; what the tests of `tests/formats` have is a stand-in,
which fails when it is told to.
"""

import atexit
import functools
import json
import os
import ssl
import tempfile
import urllib.request
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from deploy.broker import BrokerError
from deploy.registry import Access, SchemaRegistry
from tests.certificates import authority, signed

__all__ = ["RunningRegistry", "registry"]

_USER, _PASSWORD = "meta", "s3cret"


@dataclass(frozen=True)
class RunningRegistry:
    url: str
    ca_file: Path
    process: SchemaRegistry

    @property
    def settings(self) -> dict[str, str]:
        """`[input.registry]`, for whoever may ask it."""
        return {"url": self.url, "username": _USER, "password": _PASSWORD, "ca_file": str(self.ca_file)}

    def add(
        self, subject: str, schema: Any, *, kind: str = "AVRO", references: Sequence[tuple[str, str, int]] = ()
    ) -> int:
        """Register a schema, as a producer's serializer would; returns its id.

        Args:
            subject: its name here.
            schema: as JSON, or as text.
            kind: "AVRO", "JSON" or "PROTOBUF".
            references: the name by which it refers to another, that one's subject and version.
        """
        named = [{"name": name, "subject": other, "version": version} for name, other, version in references]
        text = schema if isinstance(schema, str) else json.dumps(schema)
        content = {"schema": text, "schemaType": kind, "references": named}
        return int(self.ask(f"/subjects/{quote(subject, safe='')}/versions", content)["id"])

    @functools.cached_property
    def _context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.ca_file)

    def ask(self, path: str, content: object = None, *, method: str | None = None) -> Any:
        """What it answers, as a client of its own would see it."""
        secret = b64encode(f"{_USER}:{_PASSWORD}".encode()).decode()
        headers = {"Authorization": f"Basic {secret}", "Content-Type": "application/vnd.schemaregistry.v1+json"}
        data = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(self.url + path, data, headers, method=method)  # noqa: S310 (https)
        with urllib.request.urlopen(request, timeout=30.0, context=self._context) as answer:  # noqa: S310 (https)
            return json.loads(answer.read() or b"null")


@functools.cache
def _running() -> RunningRegistry:
    folder = tempfile.TemporaryDirectory(prefix="streammeta-registry-certificates-")
    atexit.register(folder.cleanup)
    trusted = authority(Path(folder.name))
    pair = signed(Path(folder.name), "registry", trusted)
    process = SchemaRegistry(access=Access(_USER, _PASSWORD, pair.certificate, pair.key)).start()
    return RunningRegistry(process.url, trusted.certificate, process)


@pytest.fixture(scope="session")
def registry() -> RunningRegistry:
    """A registry; without one the test skips and says why, but in CI it fails."""
    try:
        return _running()
    except BrokerError as err:
        if os.environ.get("CI"):
            pytest.fail(f"no schema registry: {err}")
        pytest.skip(f"no schema registry: {err}")
