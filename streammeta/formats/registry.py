"""A schema registry, asked by its REST interface (Confluent's, which Apicurio, Karapace and Redpanda speak, too).

Schemas never change under their id, so each is asked for once, and the last thousand are kept. A registry that does not
answer is no fault of a record: it is asked again for a while, and then the transaction fails, so that nothing is lost.
"""

import json
import ssl
import time
import urllib.error
import urllib.request
from base64 import b64decode, b64encode
from collections import OrderedDict
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from streammeta.errors import ConfigError, EventError, TransactionError

__all__ = ["Registry", "RegistrySettings", "Schema"]

_MOST_SCHEMAS = 1_000
_MOST_REFERENCES = 100
_LONGEST_SCHEMA = 4 * 2**20  # bytes of an answer
_UNKNOWN_SECONDS = 30.0  # an id that is not known is asked for again after it
_REFUSED = (401, 403)
_NOT_TAKEN = (409, 422)  # a schema that may not follow the one before, or is none
_LONGEST_REASON = 500  # bytes of an answer that a message repeats
_CONTENT = "application/vnd.schemaregistry.v1+json"
_ACCEPT = "application/vnd.schemaregistry.v1+json, application/json"


class RegistrySettings(BaseModel):
    """Where the schemas of records are: a registry with Confluent's interface."""

    # an error of this model must not repeat its input: the input holds the password
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    url: str | None = Field(None, description='Its address, as "http://registry:8081".')
    username: str | None = Field(None, description="For basic authentication: the user, or the API key.")
    password: SecretStr | None = Field(None, description="For basic authentication: the password, or the secret.")
    ca_file: Path | None = Field(None, description="A PEM file with the authorities to trust, beside the system's.")
    timeout_seconds: float = Field(
        10.0, gt=0, le=300, description="How long it is asked, again and again, for a schema."
    )

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, value: str | None) -> str | None:
        if value is None:
            return None
        address = urlsplit(value)
        if address.scheme not in ("http", "https") or not address.hostname:
            raise ValueError("url: wanted http://host:port or https://host:port")
        if address.username or address.password:
            raise ValueError("url: user names and secrets belong into username and password")
        return value.rstrip("/")


class Schema(NamedTuple):
    """A schema as the registry has it."""

    kind: str  # "AVRO", "JSON" or "PROTOBUF"
    text: str
    references: tuple["Schema", ...] = ()  # what it refers to, the innermost first
    name: str = ""  # by which another one refers to it

    @property
    def serialized(self) -> bytes:
        """Of Protobuf, asked for so: the descriptor of its file."""
        return b64decode(self.text, validate=True)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would take the password to another host."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401, ARG002 the base class's own
        return None


class Registry:
    """Finds schemas by their id.

    Args:
        settings: where it is.
        clock: monotonic seconds.
        sleep: waits for a number of seconds.

    Raises:
        ConfigError: there is no address, or the file with authorities cannot be read.
    """

    def __init__(
        self,
        settings: RegistrySettings,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if settings.url is None:
            raise ConfigError(
                '[input.registry] url: is not set; wanted the registry\'s address, "http://registry:8081"'
            )
        self._url, self._settings, self._now, self._sleep = settings.url, settings, clock, sleep
        self._known: OrderedDict[int, Schema] = OrderedDict()
        self._unknown: OrderedDict[int, float] = OrderedDict()  # ids, and when they were asked for
        self._headers = {"Accept": _ACCEPT}
        if settings.username is not None:
            secret = "" if settings.password is None else settings.password.get_secret_value()
            self._headers["Authorization"] = "Basic " + b64encode(f"{settings.username}:{secret}".encode()).decode()
        handlers: list[urllib.request.BaseHandler] = [_NoRedirects()]
        if settings.url.startswith("https:"):
            handlers.append(urllib.request.HTTPSHandler(context=self._trust()))
        self._opener = urllib.request.build_opener(*handlers)

    def schema(self, number: int, at: object, *, serialized: bool = False) -> Schema:
        """The schema of this id.

        Args:
            number: its id.
            at: the record that names it, for messages.
            serialized: whether Protobuf is to come as a descriptor rather than as text; always so for one registry.

        Raises:
            EventError: the registry does not know it.
            TransactionError: the registry does not answer, or refuses us: what needs it has to be read again.
        """
        known = self._known.get(number)
        if known is not None:
            self._known.move_to_end(number)
            return known
        if self._now() - self._unknown.get(number, -_UNKNOWN_SECONDS) < _UNKNOWN_SECONDS:
            raise self._not_known(number, at)
        form = "?format=serialized" if serialized else ""
        answer = self._ask(f"/schemas/ids/{number}{form}")
        if answer is None:
            self._remember(self._unknown, number, self._now())
            raise self._not_known(number, at)
        schema = self._made(answer, at, form)
        self._remember(self._known, number, schema)
        return schema

    def register(self, subject: str, text: str) -> int:
        """The id of an Avro schema under this subject; one that is registered already keeps its id.

        Raises:
            ConfigError: the registry does not take it: it is another one than was there, and no other may follow.
            TransactionError: the registry does not answer, or refuses us.
        """
        answer = self._ask(f"/subjects/{quote(subject, safe='')}/versions", json.dumps({"schema": text}).encode())
        number = None if answer is None else answer.get("id")
        if not isinstance(number, int):
            raise ConfigError(f"schema registry {self._url}: takes no schema for the subject {subject!r}")
        return number

    def check(self) -> None:
        """See whether a registry answers here, and lets us in.

        Raises:
            ConfigError: something else answers.
            TransactionError: nobody answers, or we are refused.
        """
        if self._ask("/schemas/types", wanted=list) is None:
            raise ConfigError(
                f"schema registry {self._url}: answers with HTTP status 404, wanted the interface of Confluent's "
                "registry; correct its url in the settings (Apicurio's ends in /apis/ccompat/v7)"
            )

    def _made(self, answer: dict[str, Any], at: object, form: str) -> Schema:
        """A schema with what it refers to, each once."""
        found: dict[tuple[str, int], Schema] = {}

        def collect(references: Any) -> None:  # noqa: ANN401 what the registry answers
            for one in references if isinstance(references, list) else ():
                try:
                    key = str(one["subject"]), int(one["version"])
                except (TypeError, KeyError, ValueError) as err:
                    raise EventError(f"{at}: its schema's references are {references!r:.200}, wanted subjects") from err
                if key in found:
                    continue
                if len(found) >= _MOST_REFERENCES:
                    raise EventError(f"{at}: its schema refers to more than {_MOST_REFERENCES} others")
                inner = self._ask(f"/subjects/{quote(key[0], safe='')}/versions/{key[1]}{form}")
                if inner is None:
                    raise EventError(
                        f"{at}: its schema refers to {key[0]!r}, version {key[1]}, which {self._url} lacks"
                    )
                found[key] = Schema("", "")  # so that a circle ends
                collect(inner.get("references"))
                del found[key]
                kind, text = str(inner.get("schemaType") or "AVRO"), str(inner.get("schema"))
                found[key] = Schema(kind, text, name=str(one.get("name") or ""))

        collect(answer.get("references"))
        return Schema(str(answer.get("schemaType") or "AVRO"), str(answer.get("schema")), tuple(found.values()))

    def _ask(self, path: str, content: bytes | None = None, *, wanted: type = dict) -> Any:  # noqa: ANN401 JSON
        """What it answers; None where it does not know. It is asked again, with pauses, until the time is over."""
        until, pause = self._now() + self._settings.timeout_seconds, 0.1
        while True:
            problem = ""
            try:
                headers = self._headers if content is None else self._headers | {"Content-Type": _CONTENT}
                request = urllib.request.Request(self._url + path, content, headers)  # noqa: S310 checked: http(s)
                with self._opener.open(request, timeout=max(0.1, until - self._now())) as response:
                    answer = json.loads(response.read(_LONGEST_SCHEMA))
                if isinstance(answer, wanted):
                    return answer
                problem = f"its answer is no JSON {'object' if wanted is dict else wanted.__name__}"
            except urllib.error.HTTPError as err:
                reason = err.read(_LONGEST_REASON).decode(errors="replace")
                err.close()
                if err.code in _NOT_TAKEN:
                    raise ConfigError(f"schema registry {self._url}: does not take {path}: {reason}") from None
                if err.code == 404:
                    return None
                problem = f"HTTP status {err.code}"
                if err.code in _REFUSED:
                    raise TransactionError(
                        f"schema registry {self._url}: refuses us ({problem}); check its username and password in the "
                        "settings"
                    ) from None
            except (OSError, HTTPException, ValueError) as err:  # not there, too slow, not HTTP, not JSON
                problem = str(getattr(err, "reason", err))
            if self._now() + pause > until:
                raise TransactionError(
                    f"schema registry {self._url}: cannot be asked for {path}: {problem}; is it running there? Start "
                    "it, or correct its url in the settings"
                ) from None
            self._sleep(pause)
            pause = min(2 * pause, 2.0)

    def _not_known(self, number: int, at: object) -> EventError:
        return EventError(f"{at}: its schema has the id {number}, which the registry {self._url} does not know")

    def _trust(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        if self._settings.ca_file is not None:
            try:
                context.load_verify_locations(self._settings.ca_file)
            except (OSError, ssl.SSLError) as err:
                raise ConfigError(f"[input.registry] ca_file {self._settings.ca_file}: cannot be read ({err})") from err
        return context

    def _remember(self, cache: OrderedDict[int, Any], number: int, value: object) -> None:
        cache[number] = value
        if len(cache) > _MOST_SCHEMAS:
            cache.popitem(last=False)
