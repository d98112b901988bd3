import logging
import os
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter

from streammeta.app.parts import http_security
from streammeta.config import HttpSettings, load
from streammeta.errors import ConfigError
from streammeta.service.http import Health, HttpServer
from tests.certificates import Pair, authority, signed

TOKEN = "s3cret-of-the-test"  # noqa: S105


def serving(settings: HttpSettings) -> HttpServer:
    registry = CollectorRegistry()
    Counter("streammeta_things_total", "Things.", registry=registry).inc(3)
    return HttpServer("127.0.0.1", 0, registry, Health(time.monotonic), http_security(settings))


def get(server: HttpServer, path: str, *, token: str | None = None, trust: Path | None = None) -> tuple[int, str]:
    context = None if trust is None else ssl.create_default_context(cafile=str(trust))
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    request = urllib.request.Request(server.url + path, headers=headers)  # noqa: S310 the address is our own
    try:
        with urllib.request.urlopen(request, timeout=10, context=context) as answer:  # noqa: S310
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as err:
        with err:
            return err.code, err.headers.get("WWW-Authenticate", "")


def test_metrics_want_the_token_and_probes_do_not(tmp_path: Path) -> None:
    """An orchestrator has no token to send, and a metrics page shows how much business there is."""
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")

    with serving(HttpSettings(token_file=file)) as server:
        assert get(server, "/metrics") == (401, 'Bearer realm="streammeta"')
        assert get(server, "/metrics", token=TOKEN[:-1])[0] == 401
        status, body = get(server, "/metrics", token=TOKEN)
        assert (status, "streammeta_things_total 3.0" in body) == (200, True)
        assert (get(server, "/livez")[0], get(server, "/readyz")[0], get(server, "/")[0]) == (200, 503, 200)

        file.write_text("another\n")

        assert get(server, "/metrics", token=TOKEN)[0] == 401
        assert get(server, "/metrics", token="another")[0] == 200  # noqa: S106

        file.unlink()

        assert get(server, "/metrics", token="another")[0] == 503  # noqa: S106


@pytest.fixture
def certified(tmp_path: Path) -> tuple[Pair, Pair]:
    root = authority(tmp_path)
    return root, signed(tmp_path, "server", root)


def test_with_a_certificate_all_pages_are_by_tls_only(certified: tuple[Pair, Pair], tmp_path: Path) -> None:
    """Plain text beside it would be what everybody goes on using."""
    root, pair = certified

    with serving(HttpSettings(tls_certfile=pair.certificate, tls_keyfile=pair.key)) as server:
        assert server.url.startswith("https://127.0.0.1:")
        assert "streammeta_things_total 3.0" in get(server, "/metrics", trust=root.certificate)[1]
        assert get(server, "/livez", trust=root.certificate)[0] == 200
        with pytest.raises((urllib.error.URLError, ConnectionError, OSError)):
            urllib.request.urlopen(server.url.replace("https", "http") + "/livez", timeout=10)  # noqa: S310
        stranger = authority(tmp_path, "stranger")
        with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
            get(server, "/livez", trust=stranger.certificate)
        assert get(server, "/livez", trust=root.certificate)[0] == 200


def test_clients_that_never_speak_do_not_keep_a_probe_from_its_answer(certified: tuple[Pair, Pair]) -> None:
    """Half-open connections are what a port scanner leaves; a probe without an answer would restart the service."""
    root, pair = certified

    with serving(HttpSettings(tls_certfile=pair.certificate, tls_keyfile=pair.key)) as server:
        silent = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(40)]
        try:
            assert get(server, "/livez", trust=root.certificate)[0] == 200
        finally:
            for one in silent:
                one.close()


def test_a_renewed_certificate_is_served_without_a_restart(certified: tuple[Pair, Pair], tmp_path: Path) -> None:
    """Certificates live for weeks, services for months; a broken file must not take away what works."""
    root, pair = certified
    other = authority(tmp_path, "next")
    fresh = signed(tmp_path, "renewed", other)

    with serving(HttpSettings(tls_certfile=pair.certificate, tls_keyfile=pair.key)) as server:
        assert get(server, "/livez", trust=root.certificate)[0] == 200

        pair.key.write_text("no key\n")
        assert get(server, "/livez", trust=root.certificate)[0] == 200
        os.replace(fresh.key, pair.key)
        os.replace(fresh.certificate, pair.certificate)

        assert get(server, "/livez", trust=other.certificate)[0] == 200


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda folder: {"TLS_CERTFILE": str(folder / "a.pem")}, "only one of them is set"),
        (lambda folder: {"TOKEN": TOKEN, "TOKEN_FILE": str(folder / "t")}, "got both token and token_file"),
        (lambda folder: {"TOKEN_FILE": str(folder / "absent")}, "cannot be read"),
        (lambda _: {"TOKEN": " "}, "is empty"),
    ],
)
def test_settings_that_would_not_protect_are_refused_without_the_secret(
    write: Callable[[Path], dict[str, str]], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of a protection looks like one. And messages go to logs, which many read."""
    for name, value in write(tmp_path).items():
        monkeypatch.setenv(f"STREAMMETA_HTTP__{name}", value)

    with pytest.raises(ConfigError, match=said) as refused:
        load()

    assert TOKEN not in str(refused.value)


def test_a_key_that_does_not_fit_is_refused_before_anything_starts(certified: tuple[Pair, Pair]) -> None:
    """Else the first to notice is a scraper, at night."""
    root, pair = certified

    with pytest.raises(ConfigError, match="cannot be used"):
        http_security(HttpSettings(tls_certfile=pair.certificate, tls_keyfile=root.key))


def test_the_token_is_in_no_text_about_the_settings_or_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Settings are printed when somebody looks for a fault."""
    settings = HttpSettings(token=TOKEN)
    caplog.set_level(logging.DEBUG)

    with serving(settings) as server:
        get(server, "/metrics", token=TOKEN)

    assert TOKEN not in repr(settings) + str(settings) + settings.model_dump_json() + caplog.text
