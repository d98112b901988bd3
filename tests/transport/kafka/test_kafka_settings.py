"""How to reach Kafka: passwords out of files, and the same settings for both clients."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from streammeta.config import Settings, example
from streammeta.errors import ConfigError, TransportError
from streammeta.transport import choice
from streammeta.transport.kafka.settings import KafkaSettings

SECRET = "hunter2-hunter2"  # noqa: S105
SASL = {"security_protocol": "SASL_SSL", "sasl_mechanism": "SCRAM-SHA-512", "sasl_username": "meta"}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_password_comes_from_its_file_without_the_end_of_line(encoding: str, tmp_path: Path) -> None:
    """Editors and `echo` end a file with a line, Windows begins it with a mark; brokers refuse a password with either."""
    file = tmp_path / "password"
    file.write_bytes(f"{SECRET}\r\n".encode(encoding))

    settings = KafkaSettings.model_validate({**SASL, "sasl_password_file": file})

    assert settings.secret("sasl_password") == SECRET
    assert settings.secret("ssl_password") is None
    assert SECRET not in repr(settings)
    assert SECRET not in settings.model_dump_json()


def test_a_password_that_was_changed_holds_from_the_next_connection_on(tmp_path: Path) -> None:
    """Secrets are rotated by replacing the mounted file; a service should not need a restart for it."""
    file = tmp_path / "password"
    file.write_text("old")
    settings = KafkaSettings.model_validate({**SASL, "sasl_password_file": file})

    file.write_text(SECRET)
    assert settings.secret("sasl_password") == SECRET

    file.unlink()
    with pytest.raises(TransportError, match="sasl_password_file: the file cannot be read"):
        settings.secret("sasl_password")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read"),
        (b"", "has 0 lines"),
        (SECRET.encode() + b"\nuser\n", "has 2 lines"),
        (b"\xff\xfe", "not text in UTF-8"),
    ],
)
def test_a_file_that_holds_no_password_is_refused_without_telling_what_it_holds(
    tmp_path: Path, content: bytes | None, said: str
) -> None:
    """Found at the broker, a wrong file is an hour of looking; told with its content, it is a leak."""
    file = tmp_path / SECRET  # a password where the file's name should be is the likeliest mistake
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(ValidationError) as caught:
        KafkaSettings.model_validate({**SASL, "sasl_password_file": file})

    assert said in str(caught.value)
    assert SECRET not in str(caught.value)


def test_one_place_for_a_password(tmp_path: Path) -> None:
    """With two of them nobody knows which one holds."""
    file = tmp_path / "password"
    file.write_text("one")

    with pytest.raises(ValidationError, match="got both sasl_password and sasl_password_file"):
        KafkaSettings.model_validate({**SASL, "sasl_password": SECRET, "sasl_password_file": file})


def test_sasl_without_a_password_says_which_settings_it_wants() -> None:
    """The broker's own answer would be a closed connection."""
    with pytest.raises(ValidationError, match="sasl_password or sasl_password_file"):
        KafkaSettings.model_validate(SASL)


def test_no_secret_is_printed_with_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    """`streammeta config` ends up in tickets and chats."""
    sasl = {"SECURITY_PROTOCOL": "SASL_SSL", "SASL_MECHANISM": "PLAIN", "SASL_USERNAME": "me", "SASL_PASSWORD": SECRET}
    for name, value in sasl.items():
        monkeypatch.setenv(f"STREAMMETA_KAFKA__{name}", value)

    assert SECRET not in example()
    assert SECRET not in repr(Settings())


def test_without_confluent_kafka_the_other_client_does_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an extra; and whoever asks for it by name must not get another one in silence."""
    monkeypatch.setattr(choice, "_MISSING", ImportError("No module named 'confluent_kafka'"))

    assert choice.client(KafkaSettings()) == "kafka-python"
    with pytest.raises(ConfigError, match=r"install streammeta\[confluent\]"):
        choice.client(KafkaSettings(client="confluent"))


def test_confluent_kafka_is_taken_where_it_is_installed() -> None:
    """It is several times faster."""
    assert choice.client(KafkaSettings()) == "confluent"
    assert choice.client(KafkaSettings(client="kafka-python")) == "kafka-python"
