"""A TCP proxy on the loopback between Kafka's clients and a broker, that does harm when a transaction is to end."""

import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Literal, TypeAlias

__all__ = ["Harm", "Proxy"]

Harm: TypeAlias = Literal["none", "cut before", "cut after", "silence"]
_END_TXN = 26  # Kafka's number of that request
_HEADER = struct.Struct(">ih")  # length, number of the request


class Proxy:
    """Passes everything on, except that each request to end a transaction asks ``harm`` what happens to it.

    "cut before": the connection ends, the broker never hears of it. "cut after": the broker hears it, the connection
    ends before its answer. "silence": the broker hears it, and no answer comes on this connection any more.
    """

    def __init__(self, target: tuple[str, int], harm: Callable[[], Harm]) -> None:
        self._target, self._harm = target, harm
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for one in [self._listener, *self._open]:
            _end(one)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    broker = socket.create_connection(self._target, timeout=10)
                except OSError:
                    client.close()
                    continue
                broker.settimeout(None)
                self._open += [client, broker]
                silent = threading.Event()
                threading.Thread(target=self._requests, args=(client, broker, silent), daemon=True).start()
                threading.Thread(target=self._answers, args=(broker, client, silent), daemon=True).start()

    def _requests(self, client: socket.socket, broker: socket.socket, silent: threading.Event) -> None:
        with suppress(OSError, EOFError):
            while True:
                header = _exactly(client, _HEADER.size)
                length, number = _HEADER.unpack(header)
                frame = header + _exactly(client, length - 2)
                harm = self._harm() if number == _END_TXN else "none"
                if harm == "cut before":
                    break
                if harm in ("silence", "cut after"):
                    silent.set()
                broker.sendall(frame)
                if harm == "cut after":
                    threading.Event().wait(0.2)  # the broker takes it up
                    break
        _end(client)
        _end(broker)

    def _answers(self, broker: socket.socket, client: socket.socket, silent: threading.Event) -> None:
        with suppress(OSError):
            while data := broker.recv(65_536):
                if not silent.is_set():
                    client.sendall(data)
        _end(client)
        _end(broker)


def _exactly(connection: socket.socket, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        data = connection.recv(count - len(parts))
        if not data:
            raise EOFError
        parts += data
    return bytes(parts)


def _end(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    with suppress(OSError):
        connection.close()
