"""The sections of the configuration, as models: what each setting is, its default and its range."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, Field, PrivateAttr, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from streammeta.engine.drift.settings import DriftSettings
from streammeta.engine.extraction.settings import FeatureSettings
from streammeta.engine.settings import (
    INTERVAL_LEVELS,
    AppKind,
    DecideSettings,
    EngineSettings,
    MetaSettings,
    OnSecond,
)
from streammeta.engine.tasks import MemorySettings
from streammeta.errors import ConfigError
from streammeta.event import TaskFrom
from streammeta.formats.csv_lines import CsvSettings
from streammeta.formats.fields import Fields
from streammeta.formats.objects import Format
from streammeta.formats.protobuf import ProtobufSettings
from streammeta.formats.registry import RegistrySettings
from streammeta.meta.settings import LearnerSettings
from streammeta.service.log import LogFormat, LogLevel
from streammeta.transport.kafka.settings import KafkaSettings, OnLostOffset, check_name, read_secret

__all__ = [
    "BETWEEN",
    "PREFIX",
    "AppSettings",
    "HttpSettings",
    "InputSettings",
    "LabelSettings",
    "LogSettings",
    "OutputSettings",
    "Settings",
    "StateSettings",
]

PREFIX = "STREAMMETA_"
BETWEEN = "__"


class AppSettings(BaseModel, frozen=True, extra="forbid"):
    """What this service is."""

    name: str = Field(
        "streammeta",
        description="Names the consumer group and the topics NAME-predictions, NAME-signals, NAME-dead-letters, "
        "NAME-state, NAME-weights and NAME-episodes. Up to 200 of a-z, A-Z, 0-9, '.', '_', '-'.",
    )
    kind: AppKind = Field(
        "classification",
        description='What is predicted: "classification" or "regression"; or "decision": an action is chosen, see '
        "[decide], and labels are rewards.",
    )
    seed: int = Field(0, ge=0, lt=2**31, description="Fixes every random choice.")

    @field_validator("name")
    @classmethod
    def _names_topics(cls, value: str) -> str:
        return check_name("name", value)


class InputSettings(BaseModel, frozen=True, extra="forbid"):
    """Where events come from and how they are read."""

    topic: str = Field("events", min_length=1, description="The topic that is read.")
    task_from: TaskFrom = Field(
        "field", description='Where the task tag stands: "field" (JSON field `task`), "key" (record key) or "header".'
    )
    task_header: str = Field("task", min_length=1, description='The header\'s name, when task_from = "header".')
    max_record_bytes: int = Field(262_144, ge=64, description="Longer records go to the dead letters unread.")
    max_poll_records: int = Field(1_000, ge=1, le=100_000, description="Records taken in one turn of the loop.")
    repartition: bool = Field(
        default=False,
        description="Whether records are first sent on to NAME-repartition, keyed by task; wanted where producers do "
        "not key them so.",
    )
    on_lost_offset: OnLostOffset = Field(
        "stop",
        description="Where records were deleted before they were read, at the start or because of a long backlog: "
        '"stop", or go on at "earliest" or "latest".',
    )
    tombstones: Literal["dead-letter", "ignore"] = Field(
        "dead-letter",
        description='What becomes of records without a value, as of a compacted topic: "dead-letter", or "ignore".',
    )
    topics: tuple[str, ...] = Field(
        (),
        description='More topics, read beside it: names, or patterns for whole names ("orders-*", of '
        "those that are there at the start); wants repartition = true.",
    )
    format: Format = Field(
        "json",
        description='How records are written: "json", "msgpack", "csv" (a row each), or with a schema registry "avro" '
        '(wants the extra streammeta[avro]), "json-schema", or "protobuf" (streammeta[protobuf]; a file will do).',
    )
    fields: Fields = Field(default_factory=Fields, description="Which fields of a record are what.")
    topic_fields: dict[str, Fields] = Field(
        {},
        description="Of topics of another shape, their own fields, by their name or a pattern: a table "
        '[input.topic_fields."returns-*"] with the settings of [input.fields], instead of those there.',
    )
    registry: RegistrySettings = Field(default_factory=RegistrySettings, description="Where the schemas are.")
    csv: CsvSettings = Field(default_factory=CsvSettings, description="How rows are written.")
    protobuf: ProtobufSettings = Field(default_factory=ProtobufSettings, description="What messages are.")
    _is_mapped: bool = PrivateAttr(default=False)

    def as_mapped(self) -> Self:
        """The same for records that a source has brought into the README's shape; features have the names they had."""
        other = self.model_copy(update={"format": "json"})
        other._is_mapped = True
        return other

    @property
    def is_plain(self) -> bool:
        """Whether records are JSON of the README's shape."""
        return self._is_mapped or (self.format == "json" and self.fields.is_default and not self.topic_fields)


class LabelSettings(BaseModel, frozen=True, extra="forbid"):
    """A topic with labels only, where events and labels are not in one; wants [input] repartition = true."""

    topic: str | None = Field(None, min_length=1, description="The topic that is read for labels.")
    format: Format = Field("json", description="How its records are written, as [input] format.")
    fields: Fields = Field(default_factory=Fields, description="Which fields of its records are label, id and task.")
    join: Literal["task", "id"] = Field(
        "task",
        description='How a label finds its event: by "task" and id, or by "id" where labels name no task: then ids are '
        "unique in the whole stream, and the topic NAME-ids knows the task of each.",
    )
    on_second: OnSecond = Field(
        "ignore",
        description='A second label of the same event: it is set aside ("ignore"), or it takes the place of the first, '
        'and the task learns its last [memory] window labelled events again ("relearn").',
    )
    registry: RegistrySettings = Field(default_factory=RegistrySettings, description="Where the schemas are.")
    csv: CsvSettings = Field(default_factory=CsvSettings, description="How rows are written.")
    protobuf: ProtobufSettings = Field(default_factory=ProtobufSettings, description="What messages are.")


class StateSettings(BaseModel, frozen=True, extra="forbid"):
    """How what was learned is kept: in the compacted topics NAME-state and NAME-weights."""

    every_seconds: float = Field(
        1.0,
        gt=0,
        le=300,
        description="Time between two commits; results are visible to others after it, and a crash repeats so much.",
    )
    frozen: bool = Field(
        default=False, description="Whether θ and the normalization stay as NAME-weights has them; tasks still learn."
    )


class OutputSettings(BaseModel, frozen=True, extra="forbid"):
    """What predictions say, and how they are written."""

    format: Literal["json", "avro"] = Field(
        "json",
        description='"json", or "avro" in the wire format of a schema registry (wants the extra streammeta[avro]): the '
        "schemas are registered as NAME-predictions-value and NAME-signals-value.",
    )
    interval: float | None = Field(
        None,
        ge=INTERVAL_LEVELS[0],
        le=INTERVAL_LEVELS[1],
        description="Of a regression: each has the central interval, `lower` and `upper`, that this share of labels "
        "lies in, 0.9 for instance; recalibrated by every label. By default none.",
    )
    explain: bool = Field(
        default=False,
        description="Whether each says what its features contributed, as `streammeta explain` does: some "
        "milliseconds an event.",
    )
    explain_orders: int = Field(
        4,
        ge=2,
        le=1_000,
        multiple_of=2,
        description="Orders of features that are drawn for it, of more than five; an event costs so many predictions "
        "times its features.",
    )
    registry: RegistrySettings = Field(default_factory=RegistrySettings, description="Where the schema is registered.")


class HttpSettings(BaseModel, frozen=True, extra="forbid", hide_input_in_errors=True):
    """The server for /metrics, /livez and /readyz."""

    enabled: bool = Field(default=True, description="Whether to serve at all.")
    host: str = Field(
        "0.0.0.0",  # noqa: S104 a container's probes and scrapers come from outside; the pages hold no data of tasks
        min_length=1,
        description="Address to listen on: 0.0.0.0 for probes and scrapers from other machines, 127.0.0.1 for none.",
    )
    port: int = Field(9464, ge=0, le=65535, description="Port to listen on; 0 takes any free one and logs it.")
    token: SecretStr | None = Field(
        None, description="Who reads /metrics must send it as `Authorization: Bearer TOKEN`; probes need none."
    )
    token_file: Path | None = Field(
        None, description="A file that holds the token and nothing else, instead of token; it is read for each request."
    )
    tls_certfile: Path | None = Field(
        None, description="With it, all pages are by TLS only: the certificate, PEM; read again when the file changes."
    )
    tls_keyfile: Path | None = Field(None, description="The certificate's private key, PEM, without a password.")

    @model_validator(mode="after")
    def _security_is_whole(self) -> Self:
        if (self.tls_certfile is None) != (self.tls_keyfile is None):
            raise ValueError("TLS wants tls_certfile and tls_keyfile, and only one of them is set")
        if self.token is not None and self.token_file is not None:
            raise ValueError("got both token and token_file, wanted one of them")
        if self.token is not None and not self.token.get_secret_value().strip():
            raise ValueError("token: is empty, which would let nobody in; leave it out to let everybody in")
        if self.token_file is not None:
            read_secret("token_file", self.token_file)
        return self

    @property
    def wanted_token(self) -> Callable[[], str] | None:
        """What returns the token; a file is read again each time, so that a token that was changed holds from then on.

        Calling it raises ConfigError when the file cannot be read any more.
        """
        given, file = self.token, self.token_file
        if given is not None:
            return given.get_secret_value
        if file is None:
            return None

        def read() -> str:
            try:
                return read_secret("token_file", file)
            except ValueError as err:
                raise ConfigError(f"[http] {err}") from err

        return read


class LogSettings(BaseModel, frozen=True, extra="forbid"):
    """Logs, on standard error."""

    level: LogLevel = Field("info", description='"debug", "info", "warning" or "error".')
    format: LogFormat = Field(
        "auto", description='"console", "json", or "auto": console on a terminal, json elsewhere.'
    )


class Settings(BaseSettings):
    """The whole tree."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter=BETWEEN, extra="forbid", frozen=True, env_parse_none_str="null"
    )

    app: AppSettings = Field(default_factory=AppSettings)
    input: InputSettings = Field(default_factory=InputSettings)
    labels: LabelSettings = Field(default_factory=LabelSettings)
    kafka: KafkaSettings = Field(default_factory=KafkaSettings)
    learner: LearnerSettings = Field(default_factory=LearnerSettings)
    meta: MetaSettings = Field(default_factory=MetaSettings)
    drift: DriftSettings = Field(default_factory=DriftSettings)
    memory: MemorySettings = Field(default_factory=MemorySettings)
    features: FeatureSettings = Field(default_factory=FeatureSettings)
    output: OutputSettings = Field(default_factory=OutputSettings)
    decide: DecideSettings = Field(default_factory=DecideSettings)
    state: StateSettings = Field(default_factory=StateSettings)
    http: HttpSettings = Field(default_factory=HttpSettings)
    log: LogSettings = Field(default_factory=LogSettings)

    def engine(self) -> EngineSettings:
        """What the engine needs to know of it."""
        return EngineSettings(
            kind="regression" if self.app.kind == "decision" else self.app.kind,
            decide=self.decide if self.app.kind == "decision" else None,
            seed=self.app.seed,
            learner=self.learner,
            meta=self.meta,
            drift=self.drift,
            memory=self.memory,
            features=self.features,
            interval=self.output.interval if self.app.kind == "regression" else None,
            elapsed=self._elapsed(),
            on_second="ignore" if self.app.kind == "decision" else self.labels.on_second,
        )

    def _elapsed(self) -> str | None:
        """The name of the feature of the time since a task's event before; None: there is none."""
        fields = self.input.fields
        return f"{fields.time}.elapsed" if "elapsed" in fields.time_features and self.app.kind != "decision" else None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 the base class passes it
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 not read: a file too many
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 not read
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over the file."""
        return env_settings, init_settings
