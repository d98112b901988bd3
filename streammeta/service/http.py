"""One small HTTP server beside the loop: `/metrics` for Prometheus, `/livez` and `/readyz` for an orchestrator."""

import errno
import json
import socket
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from types import TracebackType
from typing import NamedTuple, Self

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from streammeta.errors import ConfigError, TransportError

__all__ = ["Health", "HttpServer", "Verdict"]

_log = structlog.get_logger(__name__)
_INDEX = """<!doctype html><title>streammeta</title><h1>streammeta</h1>
<ul><li><a href="/metrics">/metrics</a>: for Prometheus<li><a href="/livez">/livez</a>: does the loop turn?
<li><a href="/readyz">/readyz</a>: is the state restored and the input assigned?</ul>
"""
_Answer = tuple[int, str, bytes]  # status, content type, body


class Verdict(NamedTuple):
    """What a probe is told."""

    ok: bool
    reason: str


class Health:
    """What the probes answer. The loop writes it, HTTP threads read it; each write is one assignment.

    Args:
        clock: monotonic seconds.
        stall_seconds: a loop that has not turned for longer is reported as not alive.
    """

    def __init__(self, clock: Callable[[], float], *, stall_seconds: float = 60.0) -> None:
        self._clock = clock
        self._stall_seconds = stall_seconds
        self._turned_at = clock()
        self._restored = False
        self._partitions = 0
        self._stopping = False

    def turned(self) -> None:
        """The loop came round once more."""
        self._turned_at = self._clock()

    def reading(self, partitions: int) -> None:
        """This many partitions are read."""
        self._partitions = partitions

    def restored(self) -> None:
        """Saved state, if there was any, is back in the engine."""
        self._restored = True

    def stopping(self) -> None:
        """No more records will be read."""
        self._stopping = True

    def live(self) -> Verdict:
        """Whether the loop turns; if not, only a restart helps."""
        idle = self._clock() - self._turned_at
        if idle > self._stall_seconds:
            return Verdict(
                False, f"the loop has not turned for {idle:.0f} s, wanted at most {self._stall_seconds:.0f} s"
            )
        return Verdict(True, f"the loop turned {idle:.1f} s ago")

    def ready(self) -> Verdict:
        """Whether records are being read."""
        if self._stopping:
            return Verdict(False, "stopping: no more records are read")
        if not self._restored:
            return Verdict(False, "restoring the saved state")
        if self._partitions == 0:
            reason = "no partition is assigned: joining the group, or there are more workers than partitions"
            return Verdict(False, reason)
        return Verdict(True, f"state restored, reading {self._partitions} partition(s)")


class HttpServer:
    """Serves until closed; use it as a context manager.

    >>> from prometheus_client import CollectorRegistry
    >>> with HttpServer("127.0.0.1", 0, CollectorRegistry(), Health(clock=lambda: 0.0)) as server:
    ...     server.url.startswith("http://127.0.0.1:")
    True

    Args:
        host: the address to listen on; "0.0.0.0" or "::" for all.
        port: the port; 0 takes any free one, see ``url``.
        registry: what `/metrics` shows.
        health: what `/livez` and `/readyz` answer.

    Raises:
        TransportError: somebody else listens there, or listening is not allowed.
        ConfigError: there is no such address on this machine.
    """

    def __init__(self, host: str, port: int, registry: CollectorRegistry, health: Health) -> None:
        try:
            self._server = _Server(host, port, registry, health)
        except OSError as err:
            raise _refusal(host, port, err) from err
        self._host = host
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="http", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The port it listens on, also when 0 was asked for."""
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """Where a browser on this machine finds it."""
        name = {"0.0.0.0": "localhost", "": "localhost", "::": "localhost"}.get(self._host, self._host)  # noqa: S104 a comparison, nothing is bound here
        return f"http://[{name}]:{self.port}" if ":" in name else f"http://{name}:{self.port}"

    def close(self) -> None:
        """Stop listening; may be called twice."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5)

    def __enter__(self) -> Self:
        """Return itself: it listens already."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()


def _refusal(host: str, port: int, err: OSError) -> ConfigError | TransportError:
    if err.errno == errno.EADDRINUSE:
        return TransportError(
            f"http: {host}:{port} is in use by another process; wanted a free port: stop that process, "
            "or set [http] port to another one (0 takes any free port, [http] enabled = false turns the server off)"
        )
    if isinstance(err, socket.gaierror) or err.errno == errno.EADDRNOTAVAIL:
        return ConfigError(
            f"[http] host is {host!r}, which is no address of this machine ({err}); "
            "wanted 0.0.0.0 (all interfaces), 127.0.0.1 (this machine only) or one of its own addresses"
        )
    return TransportError(f"http: cannot listen on {host}:{port} ({err}); set [http] host and port to others")


class _Server(ThreadingMixIn, TCPServer):
    """A plain TCP server: http.server's own would look up the host's name, which can take seconds."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False

    def __init__(self, host: str, port: int, registry: CollectorRegistry, health: Health) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.registry = registry
        self.health = health
        super().__init__((host, port), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002 the base class calls it
        """Tell of faults of ours; a scraper that hangs up early is no news."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            _log.error("an HTTP request failed", client=str(client_address), exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = "streammeta"
    timeout = 10  # seconds a silent client may hold a thread

    def do_GET(self) -> None:  # http.server finds handlers by these names
        status, content_type, body = self._answer(self.path.partition("?")[0])
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815

    def _answer(self, path: str) -> _Answer:
        match path:
            case "/metrics":
                encode, content_type = choose_encoder(self.headers.get("Accept", ""))
                return 200, content_type, encode(self.server.registry)
            case "/livez":
                return _verdict(self.server.health.live())
            case "/readyz":
                return _verdict(self.server.health.ready())
            case "/":
                return 200, "text/html; charset=utf-8", _INDEX.encode()
        return _json(404, {"error": f"no page {path}", "pages": ["/", "/metrics", "/livez", "/readyz"]})

    def log_message(self, format: str, *args: object) -> None:
        """Probes every few seconds would drown the log."""


def _verdict(verdict: Verdict) -> _Answer:
    return _json(200 if verdict.ok else 503, {"status": "ok" if verdict.ok else "failing", "reason": verdict.reason})


def _json(status: int, body: object) -> _Answer:
    return status, "application/json", (json.dumps(body) + "\n").encode()
