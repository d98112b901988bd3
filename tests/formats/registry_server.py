"""A schema registry over real HTTP, with as much of Confluent's interface as readers ask for, and ways to fail."""

import json
import ssl
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

__all__ = ["RegistryServer", "registry_server"]


class RegistryServer:
    """What it knows, what it was asked, and how it fails."""

    def __init__(self, user: str | None = None, password: str = "") -> None:
        self.by_id: dict[int, dict[str, Any]] = {}
        self.by_version: dict[tuple[str, int], dict[str, Any]] = {}
        self.asked: list[str] = []
        self.fail = 0  # of the next requests so many fail with status 503
        self.wanted = None if user is None else "Basic " + b64encode(f"{user}:{password}".encode()).decode()
        self.url = ""
        self.posted = ""  # the schema that was registered last
        self.refuses: tuple[int, Any] | None = None  # what it answers to a schema; None: its id

    def add(self, schema: Any, *, subject: str = "events-value", kind: str = "AVRO", references: Any = ()) -> int:
        number = len(self.by_id) + 1
        version = 1 + sum(name == subject for name, _ in self.by_version)
        answer = {"schema": json.dumps(schema)} | ({} if kind == "AVRO" else {"schemaType": kind})
        if references:
            named = [(one[0], *one) if len(one) == 2 else one for one in references]
            answer["references"] = [{"name": name, "subject": s, "version": v} for name, s, v in named]
        self.by_id[number] = answer
        self.by_version[subject, version] = answer | {"id": number, "version": version, "subject": subject}
        return number

    def add_file(self, descriptor: bytes, *, subject: str, references: Any = ()) -> int:
        """Protobuf: as text, which nobody here reads, unless it is asked for as a descriptor."""
        number = self.add("syntax = ...", subject=subject, kind="PROTOBUF", references=references)
        version = max(one for name, one in self.by_version if name == subject)
        for answer in (self.by_id[number], self.by_version[subject, version]):
            answer["serialized"] = b64encode(descriptor).decode()
        return number

    def _written(self, answer: dict[str, Any], query: str) -> dict[str, Any]:
        plain = {name: value for name, value in answer.items() if name != "serialized"}
        return plain | ({"schema": answer["serialized"]} if query == "format=serialized" else {})

    def answer(self, path: str, authorization: str | None) -> tuple[int, Any]:
        self.asked.append(path)
        if self.fail:
            self.fail -= 1
            return 503, {"error_code": 50301, "message": "away"}
        if self.wanted is not None and authorization != self.wanted:
            return 401, {"error_code": 401, "message": "Unauthorized"}
        path, _, query = path.partition("?")
        match path.strip("/").split("/"):
            case ["schemas", "types"]:
                return 200, ["AVRO", "JSON", "PROTOBUF"]
            case ["schemas", "ids", number] if int(number) in self.by_id:
                return 200, self._written(self.by_id[int(number)], query)
            case ["subjects", subject, "versions", version] if (unquote(subject), int(version)) in self.by_version:
                return 200, self._written(self.by_version[unquote(subject), int(version)], query)
        return 404, {"error_code": 40403, "message": "Schema not found"}


@contextmanager
def registry_server(
    known: RegistryServer, *, certificate: tuple[Path, Path] | None = None, port: int = 0
) -> Iterator[RegistryServer]:
    """Serve it until the end of the context, at ``known.url``."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, answer = known.answer(self.path, self.headers.get("Authorization"))
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            known.posted = json.loads(content)["schema"]
            subject = unquote(self.path.split("/")[2])
            status, answer = known.refuses or (200, {"id": known.add(json.loads(known.posted), subject=subject)})
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: a test's output is its own."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    known.url = (
        f"{'https' if certificate else 'http'}://{'localhost' if certificate else '127.0.0.1'}:{server.server_port}"
    )
    try:
        yield known
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
