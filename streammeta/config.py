"""Every setting, in one tree: defaults, then a TOML file, then the environment (`STREAMMETA_META__MODE=sync`).

Settings are checked whole, before anything is connected; each problem is one line that names the key, what came and
what was wanted.
"""

import difflib
import json
import os
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias, get_args, get_origin

from pydantic import BaseModel, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from streammeta.engine.drift.settings import DriftSettings
from streammeta.engine.settings import AppKind, DecideSettings, EngineSettings, MetaSettings
from streammeta.engine.tasks import MemorySettings
from streammeta.errors import ConfigError
from streammeta.event import TaskFrom
from streammeta.formats.csv_lines import CsvSettings
from streammeta.formats.fields import Fields
from streammeta.formats.objects import Format
from streammeta.formats.protobuf import ProtobufSettings
from streammeta.formats.registry import RegistrySettings
from streammeta.meta.settings import METHOD_NAMES, USES_INNER_RATE, USES_INNER_STEPS, LearnerSettings
from streammeta.service.log import LogFormat, LogLevel
from streammeta.transport.kafka.settings import KafkaSettings, OnLostOffset, check_name, read_secret

__all__ = [
    "AppSettings",
    "HttpSettings",
    "InputSettings",
    "LabelSettings",
    "LogSettings",
    "OutputSettings",
    "Settings",
    "StateSettings",
    "example",
    "load",
]

_DEFAULT_METHOD = LearnerSettings.model_fields["method"].default
_PREFIX = "STREAMMETA_"
_BETWEEN = "__"
_EXPLORATIONS = {  # by which settings are used
    "epsilon": ("epsilon_greedy",),
    "width": ("inverse_gap", "upper_confidence"),
    "cost": ("inverse_gap",),
}
_OF_KUBERNETES = ("tcp://", "udp://", "sctp://")  # values of the variables that it sets for each Service
_SECRET = ("password", "secret", "token")
_Place: TypeAlias = tuple[int | str, ...]  # a setting's path, as pydantic gives it


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
    """What predictions say."""

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
        env_prefix=_PREFIX, env_nested_delimiter=_BETWEEN, extra="forbid", frozen=True, env_parse_none_str="null"
    )

    app: AppSettings = Field(default_factory=AppSettings)
    input: InputSettings = Field(default_factory=InputSettings)
    labels: LabelSettings = Field(default_factory=LabelSettings)
    kafka: KafkaSettings = Field(default_factory=KafkaSettings)
    learner: LearnerSettings = Field(default_factory=LearnerSettings)
    meta: MetaSettings = Field(default_factory=MetaSettings)
    drift: DriftSettings = Field(default_factory=DriftSettings)
    memory: MemorySettings = Field(default_factory=MemorySettings)
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
        )

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


def load(path: Path | None = None) -> Settings:
    """Read the settings from a TOML file, if there is one, and from the environment.

    Raises:
        ConfigError: one line for each problem.
    """
    table = {} if path is None else _read(path)
    problems = [*_unknown_sections(table, path), *_unknown_variables(os.environ)]
    if problems:
        raise ConfigError("\n".join(problems))
    try:
        settings = Settings(**table)
    except ValidationError as err:
        raise ConfigError("\n".join(_problems(err.errors(include_url=False), path))) from err
    except SettingsError as err:
        raise ConfigError(f"environment: {err}; wanted JSON there, or one variable a setting") from err
    unused = list(_unused(settings, path))
    if unused:
        raise ConfigError("\n".join(unused))
    return settings


def example() -> str:
    """Every setting with its default and its description, as TOML with all settings commented out."""
    lines = [
        "# streammeta: every setting with its default. Remove the # before a setting to change it.",
        f"# Each is also an environment variable, which wins: [meta] mode is {_PREFIX}META{_BETWEEN}MODE.",
    ]
    for name, field in Settings.model_fields.items():
        lines += _example_section((name,), _model(field))
    return "\n".join(lines) + "\n"


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError as err:
        raise ConfigError(f"{path}: no such file; wanted a TOML file (`streammeta config` prints an example)") from err
    except (OSError, UnicodeDecodeError) as err:
        raise ConfigError(f"{path}: cannot be read ({err}); wanted a TOML file in UTF-8") from err
    except tomllib.TOMLDecodeError as err:
        raise ConfigError(f"{path}: not TOML: {err}") from err


def _unknown_sections(table: Mapping[str, Any], path: Path | None) -> Iterator[str]:
    for name, value in table.items():
        if name in Settings.model_fields:
            continue
        owners = [s for s, field in Settings.model_fields.items() if name in _model(field).model_fields]
        if owners and not isinstance(value, dict):
            hint = "; did you mean " + " or ".join(f"[{owner}] {name}" for owner in owners) + "?"
        else:
            hint = _did_you_mean(name, Settings.model_fields)
        yield f"{path}: [{name}]: no such section{hint}"


def _unknown_variables(environment: Mapping[str, str]) -> Iterator[str]:
    """Variables that look like ours and name no section.

    Names without the double underscore are let be, unless that is all that keeps them from being a setting: Kubernetes
    sets STREAMMETA_PORT and its like for a service.
    """
    meant = {f"{_PREFIX}{s}_{key}".upper(): f"{_PREFIX}{s}{_BETWEEN}{key}".upper() for s, key in _plain_settings()}
    for name, value in environment.items():
        if name.upper() in meant and not value.startswith(_OF_KUBERNETES):
            yield f"environment {name}: is no setting; did you mean {meant[name.upper()]}?"
        section, between, _ = name.upper().removeprefix(_PREFIX).partition(_BETWEEN)
        if name.upper().startswith(_PREFIX) and between and section.lower() not in Settings.model_fields:
            yield f"environment {name}: no such section{_did_you_mean(section.lower(), Settings.model_fields)}"


def _plain_settings() -> Iterator[tuple[str, str]]:
    """Section and key of every setting that is not in a section within a section."""
    for section, field in Settings.model_fields.items():
        for key in _model(field).model_fields:
            yield section, key


def _problems(details: Sequence[ErrorDetails], path: Path | None) -> list[str]:
    """One line for each setting that is wrong: where, which key, what came, what was wanted."""
    wishes: dict[str, list[str]] = {}
    for detail in details:
        place, siblings = _known_part(detail["loc"])
        name = str(place[-1])
        key = f"{_where(place, path)}: " + (f"[{'.'.join(map(str, place[:-1]))}] {name}" if place[1:] else f"[{name}]")
        match detail["type"]:
            case "extra_forbidden":
                wishes[f"{key}: no such setting{_did_you_mean(name, siblings)}"] = []
            case "value_error":  # a validator of ours, whose message says it all
                wishes[f"{key}: {detail['msg'].removeprefix('Value error, ').removeprefix(f'{name}: ')}"] = []
            case _:
                wishes.setdefault(f"{key}: {_came(name, detail)}wanted ", []).append(_wanted(detail["msg"]))
    return [key + " or ".join(dict.fromkeys(wished)) for key, wished in wishes.items()]


def _unused(settings: Settings, path: Path | None) -> Iterator[str]:
    """Settings that were made and that the others leave without effect."""
    chosen, meta = settings.input, settings.meta
    if "task_header" in chosen.model_fields_set and chosen.task_from != "header":
        place = _where(("input", "task_header"), path)
        yield (
            f"{place}: [input] task_header: is not used with task_from = {chosen.task_from!r}; set "
            "task_from = 'header', or leave it out"
        )
    if chosen.task_from != "field" and "task" in chosen.fields.model_fields_set:
        place = _where(("input", "task_from"), path)
        there = "key" if chosen.task_from == "key" else f"header:{chosen.task_header}"
        yield (
            f"{place}: [input] task_from: is not used with [input.fields] task = {chosen.fields.task!r}; leave out one "
            f"of the two (task = {there!r} says what task_from does)"
        )
    yield from _unused_registry("input", chosen, path)
    yield from _unused_registry("labels", settings.labels, path)
    yield from _unused_labels(settings, path)
    for pattern in chosen.topic_fields:
        if not any(name == pattern or fnmatchcase(name, pattern) for name in (chosen.topic, *chosen.topics)):
            place = _where(("input", "topic_fields"), path)
            yield (
                f"{place}: [input.topic_fields] {pattern!r}: fits none of [input] topic and topics "
                f"({', '.join((chosen.topic, *chosen.topics))}); wanted one of these, or a pattern that fits one"
            )
    if chosen.topics and not chosen.repartition:
        place = _where(("input", "topics"), path)
        yield f"{place}: [input] topics: are sent on to NAME-repartition; set [input] repartition = true"
    if "background_share" in meta.model_fields_set and "mode" in meta.model_fields_set and meta.mode != "background":
        place = _where(("meta", "background_share"), path)
        yield (
            f"{place}: [meta] background_share: is not used with mode = {meta.mode!r}; set mode = 'background', or "
            "leave it out"
        )
    unused = *_unused_of_learner(settings), *_unused_of_drift(settings.drift), *_unused_of_decisions(settings)
    for section, names, reason in unused:
        for name in names:
            if name in getattr(settings, section).model_fields_set:
                yield f"{_where((section, name), path)}: [{section}] {name}: is not used {reason}; leave it out"


def _unused_of_learner(settings: Settings) -> Iterator[tuple[str, tuple[str, ...], str]]:
    method = settings.learner.method
    with_it = f"with method = {method!r}"
    if method == _DEFAULT_METHOD:
        yield "learner", ("support", "inner_rate", "inner_steps", "start_from"), with_it
    else:
        yield "learner", ("members", "hidden", "encoded", "memories", "chunk", "many_classes"), with_it
        if method in METHOD_NAMES and method not in USES_INNER_RATE:
            yield "learner", ("inner_rate",), f"{with_it}, which takes no step of such a size"
        if method in METHOD_NAMES and method not in USES_INNER_STEPS:
            yield "learner", ("inner_steps",), f"{with_it}, which takes no steps"
    if settings.app.kind != "classification" and method == _DEFAULT_METHOD:
        yield "learner", ("many_classes",), f"with [app] kind = {settings.app.kind!r}"


def _unused_of_decisions(settings: Settings) -> Iterator[tuple[str, tuple[str, ...], str]]:
    if settings.app.kind != "decision":
        yield "decide", tuple(DecideSettings.model_fields), f"with [app] kind = {settings.app.kind!r}"
        return
    yield "learner", ("experts",), "with [app] kind = 'decision'"
    yield "output", ("explain", "explain_orders"), "with [app] kind = 'decision'"
    how = settings.decide.exploration
    for name, users in _EXPLORATIONS.items():
        if how not in users:
            yield "decide", (name,), f"with exploration = {how!r}"


def _unused_of_drift(drift: DriftSettings) -> Iterator[tuple[str, tuple[str, ...], str]]:
    if drift.response != "recall":
        yield "drift", ("concepts", "concept_events"), f"with response = {drift.response!r}"
        if drift.detector == "none":
            yield (
                "drift",
                ("response", "keep_events", "warm_up_labels"),
                "with detector = 'none', which signals no drift",
            )
    if drift.response == "reset" and drift.detector != "none":
        yield "drift", ("keep_events",), "with response = 'reset', which keeps nothing"


def _unused_registry(section: str, chosen: InputSettings | LabelSettings, path: Path | None) -> Iterator[str]:
    """Of the tables that belong to a format: those of others, and what is missing."""
    form, uses = chosen.format, {"registry": ("avro", "protobuf"), "csv": ("csv",), "protobuf": ("protobuf",)}
    for name, formats in uses.items():
        if getattr(chosen, name).model_fields_set and form not in formats:
            place, wanted = _where((section, name), path), " or ".join(map(repr, formats))
            yield (
                f"{place}: [{section}.{name}]: is not used with [{section}] format = {form!r}; set format = {wanted}, "
                "or leave it out"
            )
    if form == "avro" and chosen.registry.url is None:
        place = _where((section, "registry", "url"), path)
        yield f"{place}: [{section}.registry] url: is not set, and format = 'avro' needs it; wanted http://host:port"
    if form == "csv" and not chosen.csv.columns:
        place = _where((section, "csv", "columns"), path)
        yield f"{place}: [{section}.csv] columns: is not set, and format = 'csv' needs it; wanted the cells' names"
    if form == "protobuf" and chosen.registry.url is None and chosen.protobuf.descriptor is None:
        place = _where((section, "registry", "url"), path)
        yield (
            f"{place}: [{section}.registry] url: is not set, and format = 'protobuf' needs it, or [{section}.protobuf] "
            "descriptor and message"
        )


def _unused_labels(settings: Settings, path: Path | None) -> Iterator[str]:
    labels, place = settings.labels, _where(("labels", "topic"), path)
    if labels.topic is None:
        if labels.model_fields_set:
            yield f"{place}: [labels] topic: is not set, and nothing else of [labels] is used without it"
    elif labels.topic == settings.input.topic:
        yield f"{place}: [labels] topic: got {labels.topic!r}, which is [input] topic; its labels are read there"
    elif not settings.input.repartition:
        yield (
            f"{place}: [labels] topic: labels are sent after their events, to NAME-repartition; set [input] "
            "repartition = true"
        )


def _wanted(message: str) -> str:
    wish = message.removeprefix("Input should be ")
    return wish.replace("String should match pattern", "text that matches").replace("String should", "text that should")


def _came(name: str, detail: ErrorDetails) -> str:
    """What came, unless it is a secret or may hold one."""
    if detail["type"] == "missing" or isinstance(detail["input"], Mapping):
        return ""
    return "got ***, " if any(word in name.lower() for word in _SECRET) else f"got {detail['input']!r:.200}, "


def _where(place: _Place, path: Path | None) -> str:
    variable = _PREFIX + _BETWEEN.join(map(str, place)).upper()
    if any(name.upper() == variable for name in os.environ):
        return f"environment {variable}"
    return str(path or "settings")


def _known_part(place: _Place) -> tuple[_Place, Mapping[str, FieldInfo]]:
    """The path down to the last setting we know of (pydantic adds tags of unions), and that setting's siblings."""
    fields: Mapping[str, FieldInfo] = Settings.model_fields
    for depth, name in enumerate(place):
        field = fields.get(str(name))
        model = None if field is None else _model(field)
        if model is None or not model.model_fields:
            return place[: depth + 1], fields
        if depth + 1 < len(place):
            fields = model.model_fields
    return place, fields


def _did_you_mean(name: str, known: Mapping[str, FieldInfo]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else f"; wanted one of {', '.join(known)}"


def _model(field: FieldInfo) -> type[BaseModel]:
    """The settings model a field holds; the empty model when it holds a plain value, or a table of any names."""
    if get_origin(field.annotation) is dict:
        return BaseModel
    held = (field.annotation, *get_args(field.annotation))
    return next((one for one in held if isinstance(one, type) and issubclass(one, BaseModel)), BaseModel)


def _example_section(place: tuple[str, ...], model: type[BaseModel]) -> list[str]:
    title = (model.__doc__ or "").strip().splitlines()[0].rstrip(".")
    lines = ["", f"[{'.'.join(place)}]  # {title}"]
    for name, field in model.model_fields.items():
        if _model(field).model_fields:
            continue
        default = field.get_default(call_default_factory=True, validated_data={})
        unset = default is None
        lines += [f"# {field.description}" + " (not set)" * unset, f"#{name} =" + f" {_toml(default)}" * (not unset)]
    for name, field in model.model_fields.items():
        if _model(field).model_fields:
            lines += _example_section((*place, name), _model(field))
    return lines


def _toml(value: object) -> str:
    if isinstance(value, SecretStr):
        return '""'
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(str(key))} = {_toml(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple | set | frozenset):
        return "[" + ", ".join(_toml(one) for one in value) + "]"
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    return json.dumps(str(value))
