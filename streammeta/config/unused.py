"""Settings that were made and that the others leave without effect: a line for each."""

from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from streammeta.config.places import where
from streammeta.config.sections import InputSettings, LabelSettings, OutputSettings, Settings
from streammeta.engine.drift.settings import DriftSettings
from streammeta.engine.settings import DecideSettings
from streammeta.formats.mapping import Mapper
from streammeta.meta.settings import METHOD_NAMES, USES_INNER_RATE, USES_INNER_STEPS, LearnerSettings

__all__ = ["unused_settings"]

_EXPLORATIONS = {  # by which settings are used
    "epsilon": ("epsilon_greedy",),
    "width": ("inverse_gap", "upper_confidence"),
    "cost": ("inverse_gap",),
}
_DEFAULT_METHOD = LearnerSettings.model_fields["method"].default


def unused_settings(settings: Settings, path: Path | None) -> Iterator[str]:
    """Settings that were made and that the others leave without effect."""
    chosen, meta = settings.input, settings.meta
    if "task_header" in chosen.model_fields_set and chosen.task_from != "header":
        place = where(("input", "task_header"), path)
        yield (
            f"{place}: [input] task_header: is not used with task_from = {chosen.task_from!r}; set "
            "task_from = 'header', or leave it out"
        )
    if chosen.task_from != "field" and "task" in chosen.fields.model_fields_set:
        place = where(("input", "task_from"), path)
        there = "key" if chosen.task_from == "key" else f"header:{chosen.task_header}"
        yield (
            f"{place}: [input] task_from: is not used with [input.fields] task = {chosen.fields.task!r}; leave out one "
            f"of the two (task = {there!r} says what task_from does)"
        )
    yield from _unused_registry("input", chosen, path)
    yield from _unused_registry("labels", settings.labels, path)
    yield from _unused_output(settings, path)
    yield from _unused_labels(settings, path)
    for pattern in chosen.topic_fields:
        names = (chosen.topic, *chosen.topics)  # these may be patterns as well
        if not any(name == pattern or fnmatchcase(name, pattern) or fnmatchcase(pattern, name) for name in names):
            place = where(("input", "topic_fields"), path)
            yield (
                f"{place}: [input.topic_fields] {pattern!r}: fits none of [input] topic and topics "
                f"({', '.join(names)}); wanted one of these, or a topic or pattern that fits one"
            )
    yield from _unused_elapsed(settings, path)
    yield from _left_out(settings, path)
    if chosen.topics and not chosen.repartition:
        place = where(("input", "topics"), path)
        yield f"{place}: [input] topics: are sent on to NAME-repartition; set [input] repartition = true"
    if "background_share" in meta.model_fields_set and "mode" in meta.model_fields_set and meta.mode != "background":
        place = where(("meta", "background_share"), path)
        yield (
            f"{place}: [meta] background_share: is not used with mode = {meta.mode!r}; set mode = 'background', or "
            "leave it out"
        )
    unused = (
        *_unused_of_sharing(settings),
        *_unused_of_learner(settings),
        *_unused_of_drift(settings.drift),
        *_unused_of_decisions(settings),
    )
    for section, names, reason in unused:
        for name in names:
            if name in getattr(settings, section).model_fields_set:
                yield f"{where((section, name), path)}: [{section}] {name}: is not used {reason}; leave it out"


def _unused_of_sharing(settings: Settings) -> Iterator[tuple[str, tuple[str, ...], str]]:
    if settings.meta.share == "episodes":
        names = "local_steps", "update_norm", "outer_rate", "outer_momentum", "round_seconds", "privacy"
        yield "meta", names, "with share = 'episodes'"


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
    yield "labels", ("on_second",), "with [app] kind = 'decision'"
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


def _unused_elapsed(settings: Settings, path: Path | None) -> Iterator[str]:
    """Of the time feature that is kept with the task."""
    if "elapsed" in settings.input.fields.time_features and settings.app.kind == "decision":
        place = where(("input", "fields", "time_features"), path)
        yield f"{place}: [input.fields] time_features 'elapsed': is not made with [app] kind = 'decision'; leave it out"
    if any("elapsed" in one.time_features for one in settings.input.topic_fields.values()):
        place = where(("input", "topic_fields"), path)
        yield f"{place}: [input.topic_fields] time_features 'elapsed': is of all topics; name it in [input.fields]"


def _left_out(settings: Settings, path: Path | None) -> Iterator[str]:
    """Features that others are to be made of, and that no record's mapping takes."""
    chosen, made = settings.input, settings.features
    fields = (chosen.fields, *chosen.topic_fields.values())
    of = {"rolling": [one.feature for one in made.rolling if not one.is_of_labels]}
    of |= {"text": list(made.text), "encoders": list(made.encoders)}
    for option, names in of.items():
        for name in names:
            if not any(Mapper(one).takes(name) or name.startswith(f"{one.time}.") for one in fields):
                place = where(("features", option), path)
                yield (
                    f"{place}: [features] {option}: {name!r} is no feature by [input.fields] include and exclude; take "
                    "it in there, or leave it out here"
                )


def _unused_output(settings: Settings, path: Path | None) -> Iterator[str]:
    yield from _unused_registry("output", settings.output, path)
    if settings.output.format != "json" and settings.app.kind == "decision":
        place = where(("output", "format"), path)
        yield f"{place}: [output] format: is not used with [app] kind = 'decision', which has JSON; leave it out"
    if settings.output.interval is not None and settings.app.kind != "regression":
        place = where(("output", "interval"), path)
        yield (
            f"{place}: [output] interval: is of a predicted target, and [app] kind = {settings.app.kind!r}; set kind = "
            "'regression', or leave it out"
        )


def _unused_registry(
    section: str, chosen: InputSettings | LabelSettings | OutputSettings, path: Path | None
) -> Iterator[str]:
    """Of the tables that belong to a format: those of others, and what is missing."""
    form, uses = chosen.format, {"registry": ("avro", "protobuf"), "csv": ("csv",), "protobuf": ("protobuf",)}
    for name, formats in uses.items():
        if name in type(chosen).model_fields and getattr(chosen, name).model_fields_set and form not in formats:
            place, wanted = where((section, name), path), " or ".join(map(repr, formats))
            yield (
                f"{place}: [{section}.{name}]: is not used with [{section}] format = {form!r}; set format = {wanted}, "
                "or leave it out"
            )
    if form == "avro" and chosen.registry.url is None:
        place = where((section, "registry", "url"), path)
        yield f"{place}: [{section}.registry] url: is not set, and format = 'avro' needs it; wanted http://host:port"
    if isinstance(chosen, OutputSettings):
        return
    if form == "csv" and not chosen.csv.columns:
        place = where((section, "csv", "columns"), path)
        yield f"{place}: [{section}.csv] columns: is not set, and format = 'csv' needs it; wanted the cells' names"
    if form == "protobuf" and chosen.registry.url is None and chosen.protobuf.descriptor is None:
        place = where((section, "registry", "url"), path)
        yield (
            f"{place}: [{section}.registry] url: is not set, and format = 'protobuf' needs it, or [{section}.protobuf] "
            "descriptor and message"
        )


def _unused_labels(settings: Settings, path: Path | None) -> Iterator[str]:
    labels, place = settings.labels, where(("labels", "topic"), path)
    if labels.topic is None:
        if labels.model_fields_set - {"on_second"}:
            yield f"{place}: [labels] topic: is not set, and nothing of [labels] but on_second is used without it"
    elif labels.topic == settings.input.topic:
        yield f"{place}: [labels] topic: got {labels.topic!r}, which is [input] topic; its labels are read there"
    elif not settings.input.repartition:
        yield (
            f"{place}: [labels] topic: labels are sent after their events, to NAME-repartition; set [input] "
            "repartition = true"
        )
