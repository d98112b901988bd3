"""Who may read `/metrics`, and by what connection: a bearer token, and TLS; both from files that may change."""

import hmac
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import structlog

from streammeta.errors import ConfigError

__all__ = ["Certificate", "HttpSecurity", "is_allowed"]

_log = structlog.get_logger(__name__)
_SCHEME = "bearer "
_NO_PASSWORD = ""  # else a key with one would be asked for on the terminal


class Certificate:
    """A server's certificate and key, loaded again when the files change: certificates are renewed while we run.

    Args:
        certfile: the certificate, and those of the authorities between, in PEM.
        keyfile: its private key, in PEM, without a password.

    Raises:
        ConfigError: they cannot be read, or do not belong together.
    """

    def __init__(self, certfile: Path, keyfile: Path) -> None:
        self._files = (certfile, keyfile)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._lock = threading.Lock()
        try:
            self._seen = self._stamps()
            self._context.load_cert_chain(certfile, keyfile, _NO_PASSWORD)
        except (OSError, ValueError) as err:  # ssl.SSLError is an OSError
            raise ConfigError(
                f"[http] tls_certfile, tls_keyfile: {certfile} and {keyfile} cannot be used ({err}); wanted a "
                "certificate and its private key, in PEM, without a password"
            ) from err

    def wrap(self, connection: Any) -> ssl.SSLSocket:  # noqa: ANN401 (a socket, as socketserver has it)
        """The connection as TLS; the handshake is left to the first read."""
        with self._lock:
            self._renew()
            return self._context.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False, suppress_ragged_eofs=True
            )

    def _renew(self) -> None:
        try:
            stamps = self._stamps()
            if stamps == self._seen:
                return
            self._seen = stamps  # also of a pair that cannot be used: it is said once
            self._context.load_cert_chain(*self._files, _NO_PASSWORD)
            _log.info("the certificate of the HTTP server was read again", file=str(self._files[0]))
        except OSError as err:
            _log.error("the certificate of the HTTP server cannot be read again; the one before stays", reason=str(err))

    def _stamps(self) -> tuple[tuple[int, int], ...]:
        found = (file.stat() for file in self._files)
        return tuple((one.st_mtime_ns, one.st_ino) for one in found)


class HttpSecurity(NamedTuple):
    """What the HTTP server asks for."""

    certificate: Certificate | None = None  # None: plain HTTP
    token: Callable[[], str] | None = None  # who wants /metrics must bring what this returns; None: nobody must


def is_allowed(header: str | None, token: str) -> bool:
    """Whether an Authorization header has this bearer token; takes equally long whatever it has.

    >>> is_allowed("Bearer abc", "abc"), is_allowed("Bearer abd", "abc"), is_allowed("Basic abc", "abc")
    (True, False, False)
    >>> is_allowed(None, "abc"), is_allowed("Bearer ", "abc")
    (False, False)
    """
    given = header or ""
    if given[: len(_SCHEME)].lower() != _SCHEME:
        return False
    return hmac.compare_digest(given[len(_SCHEME) :].strip().encode(errors="replace"), token.encode())
