"""One small HTTP server beside the loop: `/metrics` for Prometheus, `/livez` and `/readyz` for an orchestrator."""

import errno
import json
import socket
import ssl
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from streammeta.errors import ConfigError, StreammetaError, TransportError
from streammeta.service.http_security import HttpSecurity, is_allowed
from streammeta.service.threads import MAIN

__all__ = ["Health", "HttpServer", "Verdict"]


_log = structlog.get_logger(__name__)
_INDEX = """<!doctype html><title>streammeta</title><h1>streammeta</h1>
<ul><li><a href="/metrics">/metrics</a>: for Prometheus<li><a href="/livez">/livez</a>: does the loop turn?
<li><a href="/readyz">/readyz</a>: is the state restored and the input assigned?</ul>
"""
_Answer = tuple[int, str, bytes]  # status, content type, body
_PREPARE_SECONDS: Final = 300.0  # a broker that is just coming back, on a slow machine
_MOST_REQUESTS: Final = 16  # at a time, each in a thread
_LEAVE_SECONDS: Final = 1.0  # for a request that is ended to let go of its thread
_UNAUTHORIZED: Final = 401
_OPEN: Final = HttpSecurity()
_BUSY: Final = b"HTTP/1.0 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Verdict(NamedTuple):
    """The answer to a probe."""

    ok: bool
    reason: str


class Health:
    """What the probes answer. The loops write it, HTTP threads read it; each write is one assignment.

    Args:
        clock: monotonic seconds.
        stall_seconds: a loop that has not turned for longer is reported as not alive.
    """

    def __init__(self, clock: Callable[[], float], *, stall_seconds: float = 60.0) -> None:
        self._clock = clock
        self._stall_seconds = stall_seconds
        self._turned = {MAIN: clock()}  # when each loop last came round
        self._preparing: str | None = None  # what is made ready before the first turn
        self._causes: dict[str, str] = {}  # why a loop does not work, by loop
        self._restored = False
        self._partitions = 0
        self._stopping = False

    def preparing(self, what: str) -> None:
        """The main loop has not begun: this is made ready first, which may take minutes."""
        self._preparing = what

    def turned(self, loop: str = MAIN) -> None:
        """The loop came round once more."""
        self._turned[loop] = self._clock()
        if loop == MAIN:
            self._preparing = None

    def ended(self, loop: str) -> None:
        """The loop ended as it was to, and will not turn again."""
        self._turned.pop(loop, None)
        self._causes.pop(loop, None)

    def failing(self, reason: str, loop: str = MAIN) -> None:
        """The loop turns, but what it is for does not work, for this reason."""
        self._causes[loop] = reason

    def working(self, loop: str = MAIN) -> None:
        """What the loop is for works, again or still."""
        self._causes.pop(loop, None)

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
        """Whether the loops turn; if not, only a restart helps."""
        now, most = self._clock(), self._stall_seconds
        if self._preparing is not None:
            most = max(most, _PREPARE_SECONDS)
        for loop, at in list(self._turned.items()):
            if now - at > most:
                name = "loop" if loop == MAIN else f"{loop} loop"
                reason = f"the {name} has not turned for {now - at:.0f} s, wanted at most {most:.0f} s"
                return Verdict(False, reason)
        if self._preparing is not None:
            return Verdict(True, f"preparing: {self._preparing}")
        return Verdict(True, f"the loop turned {now - self._turned[MAIN]:.1f} s ago")

    def ready(self) -> Verdict:
        """Whether records are being read."""
        causes = "; ".join(list(self._causes.values()))
        if self._stopping:
            return Verdict(False, "stopping: no more records are read" + (f" ({causes})" if causes else ""))
        if causes:
            return Verdict(False, causes)
        if self._preparing is not None:
            return Verdict(False, f"preparing: {self._preparing}")
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
        security: TLS for all pages, and a token for `/metrics`; probes need none, and say nothing that is secret.

    Raises:
        TransportError: somebody else listens there, or listening is not allowed.
        ConfigError: there is no such address on this machine.
    """

    def __init__(
        self, host: str, port: int, registry: CollectorRegistry, health: Health, security: HttpSecurity = _OPEN
    ) -> None:
        try:
            self._server = _Server(host, port, registry, health, security)
        except OSError as err:
            raise _refusal(host, port, err) from err
        self._scheme = "http" if security.certificate is None else "https"
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
        return f"{self._scheme}://{f'[{name}]' if ':' in name else name}:{self.port}"

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
    """A plain TCP server: http.server's own would look up the host's name, which can take seconds.

    Requests have a bounded number of threads. Where all are taken, by clients that are slow or say nothing, the oldest
    request is ended for the new one: an orchestrator's probe must be answered, or the service would be restarted.
    """

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128  # more that come at once would wait for a second try of their system

    def __init__(
        self, host: str, port: int, registry: CollectorRegistry, health: Health, security: HttpSecurity
    ) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.registry = registry
        self.health = health
        self.security = security
        self._free = threading.BoundedSemaphore(_MOST_REQUESTS)
        self._open: dict[int, Any] = {}  # sockets of the requests under way, the oldest first
        super().__init__((host, port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 (as the base class has them)
        """Answer in a thread of its own, once one may be started."""
        if not self._free.acquire(blocking=False):
            self._end_oldest()
            if not self._free.acquire(timeout=_LEAVE_SECONDS):
                with suppress(OSError):
                    request.sendall(_BUSY)
                self.shutdown_request(request)
                return
        self._open[id(request)] = request
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread can be started
            self._leave(request)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        """Answer, then let the next one in."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._leave(request)

    def finish_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        """Answer; with TLS, the handshake is here too, in the request's own thread."""
        certificate = self.security.certificate
        if certificate is None:
            super().finish_request(request, client_address)
            return
        name = id(request)
        with certificate.wrap(request) as encrypted:
            if name in self._open:
                self._open[name] = encrypted  # by which a request that takes too long can be ended
            super().finish_request(encrypted, client_address)
            with suppress(OSError):
                encrypted.shutdown(socket.SHUT_WR)

    def _leave(self, request: object) -> None:
        self._open.pop(id(request), None)
        self._free.release()

    def _end_oldest(self) -> None:
        for request in list(self._open.values())[:1]:
            self._open.pop(id(request), None)
            with suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002 the base class calls it
        """Log faults of ours; a scraper that hangs up early is no news."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError | ssl.SSLError):  # nor who speaks no TLS
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
        if status == _UNAUTHORIZED:
            self.send_header("WWW-Authenticate", 'Bearer realm="streammeta"')
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815

    def _answer(self, path: str) -> _Answer:
        match path:
            case "/metrics":
                refusal = self._refusal()
                if refusal is not None:
                    return refusal
                encode, content_type = choose_encoder(self.headers.get("Accept", ""))
                return 200, content_type, encode(self.server.registry)
            case "/livez":
                return _verdict(self.server.health.live())
            case "/readyz":
                return _verdict(self.server.health.ready())
            case "/":
                return 200, "text/html; charset=utf-8", _INDEX.encode()
        return _json(404, {"error": f"no page {path}", "pages": ["/", "/metrics", "/livez", "/readyz"]})

    def _refusal(self) -> _Answer | None:
        """What to answer to somebody who may not read metrics; None: this one may."""
        token = self.server.security.token
        if token is None:
            return None
        try:
            wanted = token()
        except StreammetaError as err:
            _log.error("the token for /metrics cannot be read; nobody is let in", reason=str(err))
            return _json(503, {"error": "the token cannot be read; see the log of the service"})
        if is_allowed(self.headers.get("Authorization"), wanted):
            return None
        return _json(_UNAUTHORIZED, {"error": "wanted the header `Authorization: Bearer TOKEN`; see [http] token_file"})

    def log_message(self, format: str, *args: object) -> None:
        """Probes every few seconds would drown the log."""


def _verdict(verdict: Verdict) -> _Answer:
    return _json(200 if verdict.ok else 503, {"status": "ok" if verdict.ok else "failing", "reason": verdict.reason})


def _json(status: int, body: object) -> _Answer:
    return status, "application/json", (json.dumps(body) + "\n").encode()
