"""How to reach Kafka, said once for every client: each adapter puts it into its client's own words."""

import re
from pathlib import Path
from typing import Final, Literal, Self, TypeAlias, get_args

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from streammeta.errors import TransportError

__all__ = ["KafkaSettings", "OnLostOffset", "check_name", "read_secret"]

_SUFFIX: Final = "-repartition"  # of an application's second group, and of the topic in between
_CHARACTERS: Final = "a-z, A-Z, 0-9, '.', '_' and '-'"
_OF_PASSWORDS: Final = ("sasl_username", "sasl_password", "sasl_password_file")
_NAME: Final = re.compile(r"[a-zA-Z0-9._-]+")

OnLostOffset: TypeAlias = Literal["stop", "earliest", "latest"]
_Protocol: TypeAlias = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
_Mechanism: TypeAlias = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"]
_Secret: TypeAlias = Literal["sasl_password", "sasl_token", "ssl_password"]


class KafkaSettings(BaseModel):
    """How to reach Kafka, and how to read from and write to it. Secrets are kept out of messages and logs."""

    # an error of this model must not repeat its input: the input holds the password
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    bootstrap_servers: str = Field(
        "localhost:9092", description="brokers to ask first: host:port, several separated by commas"
    )
    group_id: str | None = Field(
        None, min_length=1, max_length=249, description="consumer group; without it the application's name"
    )
    group_instance_id: str | None = Field(
        None,
        description="name of this member within the group: a restart within the session timeout keeps its partitions",
    )
    client_id: str = Field("streammeta", min_length=1, description="name under which the broker logs this client")
    client: Literal["auto", "kafka-python", "confluent"] = Field(
        "auto",
        description='which client library: "kafka-python", "confluent" (wants the extra streammeta[confluent]; several '
        'times faster), or "auto": confluent where it is installed',
    )
    rebalance: Literal["cooperative", "eager"] = Field(
        "cooperative",
        description='"cooperative": members keep what does not move; "eager": all give up everything first',
    )
    session_timeout_seconds: float = Field(
        10.0, ge=1, le=1800, description="a member that is silent for so long loses its partitions"
    )
    max_poll_interval_seconds: float = Field(
        300.0,
        ge=1,
        le=86_400,
        description="a member that does not ask for records for so long loses its partitions (never before the session "
        "timeout, with confluent)",
    )
    stuck_seconds: float = Field(
        300.0, gt=0, le=86_400, description="records that wait for so long, and do not come, end the service"
    )
    fetch_wait_seconds: float = Field(
        0.1, gt=0, le=10, description="how long the broker may wait for a fetch to become fetch_min_bytes large"
    )
    fetch_min_bytes: int = Field(1, ge=1, description="what a fetch waits for")
    fetch_partition_bytes: int = Field(4 * 2**20, ge=1024, description="most bytes of one partition in a fetch")
    linger_seconds: float = Field(0.01, ge=0, le=10, description="results are collected for so long and sent together")
    max_message_bytes: int = Field(
        4 * 2**20,
        ge=1024,
        description="longest result that is sent; created topics take it (a dead letter is longer than its record)",
    )
    connect_timeout_seconds: float = Field(
        10.0, gt=0, le=600, description="longest wait for a connection, for a commit, and for topics"
    )
    security_protocol: _Protocol = Field("PLAINTEXT", description='"PLAINTEXT", "SSL", "SASL_PLAINTEXT" or "SASL_SSL"')
    sasl_mechanism: _Mechanism | None = Field(
        None, description='with SASL: "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512" or "OAUTHBEARER"'
    )
    sasl_username: str | None = Field(None, description="with SASL: the user")
    sasl_password: SecretStr | None = Field(None, description="with SASL: the password")
    sasl_password_file: Path | None = Field(
        None, description="with SASL: a file that holds the password and nothing else, instead of sasl_password"
    )
    sasl_token_file: Path | None = Field(
        None,
        description="with OAUTHBEARER: a file that holds the token and nothing else, such as a service account token "
        "that Kubernetes projects; it is read again for each connection",
    )
    ssl_cafile: str | None = Field(None, description="with SSL: file of certificate authorities to trust")
    ssl_certfile: str | None = Field(None, description="with SSL: file of the client's certificate")
    ssl_keyfile: str | None = Field(None, description="with SSL: file of the client's private key")
    ssl_password: SecretStr | None = Field(None, description="with SSL: password of the private key")
    ssl_password_file: Path | None = Field(
        None, description="with SSL: a file that holds the private key's password, instead of ssl_password"
    )
    ssl_check_hostname: bool = Field(default=True, description="with SSL: whether the certificate must name the host")

    @field_validator("bootstrap_servers")
    @classmethod
    def _names_hosts_and_ports(cls, value: str) -> str:
        _addresses(value)
        return value

    @field_validator("group_id")
    @classmethod
    def _group_is_not_of_a_repartition(cls, value: str | None) -> str | None:
        if value is not None:
            _check_suffix("group_id", value)
        return value

    @field_validator("group_instance_id")
    @classmethod
    def _names_a_member(cls, value: str | None) -> str | None:
        if value is not None and (len(value) > 249 or _NAME.fullmatch(value) is None):
            raise ValueError(f"group_instance_id: got {value!r:.300}, wanted 1 to 249 of the characters {_CHARACTERS}")
        return value

    @model_validator(mode="after")
    def _secrets_can_be_had(self) -> Self:
        for name in ("sasl_password", "ssl_password"):
            file = getattr(self, f"{name}_file")
            if file is not None:
                if getattr(self, name) is not None:
                    raise ValueError(f"got both {name} and {name}_file, wanted one of them")
                read_secret(f"{name}_file", file)
        return self

    @model_validator(mode="after")
    def _sasl_is_whole(self) -> Self:
        if self.security_protocol.startswith("SASL") and self.sasl_mechanism == "OAUTHBEARER":
            others = [name for name in _OF_PASSWORDS if getattr(self, name) is not None]
            if self.sasl_token_file is None or others:
                raise ValueError(
                    f"OAUTHBEARER wants sasl_token_file alone, without {', '.join(others or _OF_PASSWORDS)}"
                )
            read_secret("sasl_token_file", self.sasl_token_file)
            return self
        if self.sasl_token_file is not None:
            raise ValueError(f"sasl_token_file is for OAUTHBEARER, and sasl_mechanism is {self.sasl_mechanism}")
        wanted = (self.sasl_mechanism, self.sasl_username, self.sasl_password or self.sasl_password_file)
        if self.security_protocol.startswith("SASL") and None in wanted:
            raise ValueError(
                f"{self.security_protocol} wants sasl_mechanism, sasl_username, and sasl_password or sasl_password_file"
            )
        return self

    @model_validator(mode="after")
    def _nothing_is_without_effect(self) -> Self:
        """Who gives a password or an authority believes that the connection is protected by it."""
        for prefix, kind in (("sasl", "SASL"), ("ssl", "SSL")):
            names = [name for name in type(self).model_fields if name.startswith(f"{prefix}_")]
            given = [name for name in names if getattr(self, name) != type(self).model_fields[name].default]
            if given and kind not in self.security_protocol:
                wanted = " or ".join(name for name in get_args(_Protocol) if kind in name)
                raise ValueError(
                    f"{given[0]} is not used with security_protocol = {self.security_protocol!r}; wanted {wanted}, or "
                    f"leave it out"
                )
        if self.ssl_keyfile is not None and self.ssl_certfile is None:
            raise ValueError("ssl_keyfile is not used without ssl_certfile; give the certificate, too")
        if (self.ssl_password or self.ssl_password_file) and self.ssl_certfile is None:
            raise ValueError("ssl_password is not used without ssl_certfile and its key; give them, or leave it out")
        return self

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Host and port of each broker that is asked first."""
        return _addresses(self.bootstrap_servers)

    @property
    def servers(self) -> list[str]:
        """The same as text; IPv6 addresses in brackets."""
        return [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.addresses]

    @property
    def milliseconds(self) -> int:
        """The longest wait."""
        return round(self.connect_timeout_seconds * 1000)

    def secret(self, name: _Secret) -> str | None:
        """A password or token in plain text; from a file it is read again, so that a changed one holds from then on.

        Raises:
            TransportError: the file cannot be read any more.
        """
        given: SecretStr | None = getattr(self, name, None)
        if given is not None:
            return given.get_secret_value()
        file: Path | None = getattr(self, f"{name}_file")
        if file is None:
            return None
        try:
            return read_secret(f"{name}_file", file)
        except ValueError as err:
            raise TransportError(f"kafka: {err}") from err


def check_name(setting: str, value: str) -> str:
    """An application's name, if topics and groups can be called after it; it cannot hold the "/" of transactional ids.

    Args:
        setting: whose value it is.
        value: the name.

    Returns:
        The name.

    Raises:
        ValueError: it cannot be one; pydantic passes that on.
    """
    if len(value) > 200 or _NAME.fullmatch(value) is None or value[0] in "._-":
        raise ValueError(
            f"{setting}: got {value!r:.300}, wanted 1 to 200 of the characters {_CHARACTERS}, beginning with a letter "
            "or a digit"
        )
    _check_suffix(setting, value)
    return value


def _check_suffix(setting: str, value: str) -> None:
    if value.endswith(_SUFFIX):
        raise ValueError(
            f"{setting}: got {value!r}, wanted a name that does not end with {_SUFFIX!r}: that is the group in which "
            f"{value.removesuffix(_SUFFIX)!r} sends records on"
        )


def read_secret(name: str, file: Path) -> str:
    """What the file holds, without the end of line that editors and shells add.

    Errors do not repeat the file's name: somebody may have put the password there.

    Raises:
        ValueError: it cannot be read, or holds another number of lines than one; pydantic passes that on.
    """
    try:
        secret = file.read_text("utf-8-sig").rstrip("\r\n")  # Windows writes a byte order mark, which is no secret
    except UnicodeDecodeError as err:
        raise ValueError(f"{name}: the file is not text in UTF-8, wanted a line with the secret") from err
    except OSError as err:
        raise ValueError(
            f"{name}: the file cannot be read ({err.strerror}), wanted the path of a secret's file"
        ) from err
    if not secret or "\n" in secret:
        raise ValueError(f"{name}: the file has {len(secret.splitlines())} lines, wanted one, with the secret")
    return secret


def _addresses(servers: str) -> list[tuple[str, int]]:
    found = []
    for server in servers.split(","):
        host, _, port = server.strip().rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise ValueError(
                f"bootstrap_servers: got {server.strip()!r}, wanted host:port, several separated by commas"
            )
        found.append((host.strip("[]"), int(port)))
    return found
