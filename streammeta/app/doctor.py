"""`streammeta doctor`: would a service with these settings run well on this broker? What to change, if not.

What the broker says is read by `transport.kafka.cluster`; the rules here are pure functions of it.
"""

import shutil
import tempfile
import time
from collections.abc import Iterator
from typing import Final, Literal, NamedTuple, TypeAlias

from streammeta.app.parts import check_member, http_security, new_engine
from streammeta.config import Settings
from streammeta.errors import StreammetaError, TransportError
from streammeta.formats.registry import Registry, RegistrySettings
from streammeta.meta.privacy import Budget
from streammeta.service.repartition import CHANNEL as REPARTITION
from streammeta.service.result import CHANNELS, EPISODES, TABLES
from streammeta.service.threads import IDS, LABELS
from streammeta.transport.choice import client
from streammeta.transport.kafka.cluster import Cluster, Topic, look
from streammeta.transport.kafka.eviction import transactional_id

__all__ = ["Finding", "examine", "judge"]

Level: TypeAlias = Literal["ok", "warning", "failure"]
_SPILL_BYTES = 2**30  # free, for tasks that do not fit in memory
_DAY_MS = 86_400_000
_OLDEST: Final = (2, 5)  # of brokers: before it, a transaction cannot be tied to a member of a group (KIP-447)
_AHEAD_SECONDS: Final = 60.0  # that a record may be of the future: clocks are not that far apart


class Finding(NamedTuple):
    """One thing that was looked at."""

    level: Level
    what: str  # was looked at
    found: str
    advice: str = ""  # what to change; empty where all is well, and where ``found`` is a message that says it


def examine(settings: Settings) -> list[Finding]:
    """Look at the broker, its topics and this machine.

    A broker that does not answer is a finding, not an error: the message says why.
    """
    name, kafka = settings.app.name, settings.kafka
    here = [*_judge_settings(settings), *_judge_privacy(settings), *_judge_registries(settings)]
    here += _judge_machine(settings)
    id_ = transactional_id(name, kafka.group_instance_id or "doctor")
    try:
        cluster = look(kafka, _topics(settings), groups=_groups(settings), transactional_id=id_)
    except TransportError as err:
        return [Finding("failure", "broker", str(err)), *here]
    return [*judge(settings, cluster, time.time()), *here]


def judge(settings: Settings, cluster: Cluster, now: float = 0.0) -> list[Finding]:
    """What the settings and a cluster say of each other; ``now`` in seconds since 1970, 0: clocks are not compared."""
    return [
        *_judge_broker(cluster),
        *_judge_input(settings, cluster),
        *_judge_clock(settings, cluster, now),
        *_judge_outputs(settings, cluster),
        *_judge_rights(settings, cluster),
        *_judge_timeouts(settings, cluster),
        *_judge_sizes(settings, cluster),
    ]


def _topics(settings: Settings) -> list[str]:
    ours = (*CHANNELS, *TABLES, *_between(settings))
    return [*_read(settings), *(f"{settings.app.name}-{channel}" for channel in ours)]


def _read(settings: Settings) -> list[str]:
    """Topics of others that are read: events, and labels that have a topic of their own."""
    labels = settings.labels.topic
    return [settings.input.topic, *([] if labels is None else [labels])]


def _between(settings: Settings) -> list[str]:
    """Channels of our own that are written and read again on the way of a record."""
    if not settings.input.repartition:
        return []
    return [REPARTITION, IDS] if _joins_by_id(settings) else [REPARTITION]


def _joins_by_id(settings: Settings) -> bool:
    return settings.labels.topic is not None and settings.labels.join == "id"


def _groups(settings: Settings) -> list[str]:
    """All groups in which a member reads, but for those of ``[input] topics`` beside the first."""
    group = settings.kafka.group_id or settings.app.name
    if not settings.input.repartition:
        return [group]
    sends_on = f"{group}-{REPARTITION}"
    labels = [] if settings.labels.topic is None else [f"{sends_on}/{LABELS}"]
    return [group, sends_on, *labels, *([f"{sends_on}/{IDS}"] if _joins_by_id(settings) else [])]


def _judge_broker(cluster: Cluster) -> Iterator[Finding]:
    version = "" if cluster.version is None else f", of version {'.'.join(map(str, cluster.version))} or newer"
    found = f"{cluster.brokers} broker(s) answer{version}"
    if cluster.version is not None and cluster.version < _OLDEST:
        advice = "exactly once wants Kafka 2.5 or newer on each of them; upgrade them"
        yield Finding("failure", "broker", found, advice)
    else:
        yield Finding("ok", "broker", found)


def _judge_clock(settings: Settings, cluster: Cluster, now: float) -> Iterator[Finding]:
    """Records of the future: the clock of who wrote them, or ours, is wrong."""
    for name in _read(settings):
        topic = cluster.topics.get(name)
        if topic is None or topic.newest is None or not now:
            continue
        ahead = topic.newest - now
        if ahead > _AHEAD_SECONDS:
            found = f"its newest record is of {ahead:.0f} s from now"
            advice = "set this machine's clock, or the one of who writes there; retention and waiting labels go by it"
            yield Finding("warning", f"topic {name}", found, advice)


def _judge_input(settings: Settings, cluster: Cluster) -> Iterator[Finding]:
    for name in _read(settings):
        yield from _judge_read(name, cluster.topics.get(name))


def _judge_read(name: str, topic: Topic | None) -> Iterator[Finding]:
    """A topic of others, that has to be there."""
    if topic is None:
        yield Finding(
            "failure",
            f"topic {name}",
            "it does not exist",
            "create it, with as many partitions as members will ever share it",
        )
        return
    yield Finding("ok", f"topic {name}", f"{topic.partitions} partition(s), {topic.replicas} replica(s)")
    if topic.partitions == 1:
        advice = "with one partition one member does all the work; a new topic with more partitions lets others help"
        yield Finding("warning", f"topic {name}", "one partition", advice)
    yield from _judge_safety(name, topic)
    retention = topic.number("retention.ms")
    if 0 <= retention < _DAY_MS and "compact" not in topic.configs.get("cleanup.policy", ""):
        advice = "a service that is away for longer loses events; raise retention.ms, or see [input] on_lost_offset"
        yield Finding("warning", f"topic {name}", f"records are kept for {retention / 3_600_000:.1f} hours", advice)


def _judge_outputs(settings: Settings, cluster: Cluster) -> Iterator[Finding]:
    found = cluster.topics.get(settings.input.topic)
    between = _between(settings)
    for channel in (*CHANNELS, *TABLES, *between):
        name = f"{settings.app.name}-{channel}"
        topic = cluster.topics.get(name)
        if topic is None:
            yield Finding("ok", f"topic {name}", "not there yet; the service creates it, if it may")
            continue
        wanted = 1 if channel == "weights" else (found.partitions if found else topic.partitions)
        if channel in TABLES and topic.partitions != wanted:
            advice = "tasks would not find their state; take another [app] name"
            found_text = f"{topic.partitions} partition(s), wanted {wanted}"
            yield Finding("failure", f"topic {name}", found_text, advice)
        policy = topic.configs.get("cleanup.policy", "")
        if channel == EPISODES and set(policy.split(",")) != {"compact", "delete"}:
            advice = "it would grow with the stream; set cleanup.policy to compact,delete"
            yield Finding("warning", f"topic {name}", f"cleanup.policy is {policy!r}", advice)
        elif channel in TABLES and channel != EPISODES and policy != "compact":
            advice = "state would be gone some day; set cleanup.policy to compact"
            yield Finding("failure", f"topic {name}", f"cleanup.policy is {policy!r}", advice)
        if channel in between:
            yield from _judge_between(channel, name, topic)
        elif channel not in TABLES and "compact" in policy:
            advice = "results of one key would replace each other; set cleanup.policy to delete"
            yield Finding("warning", f"topic {name}", f"cleanup.policy is {policy!r}", advice)
        yield from _judge_safety(name, topic)


def _judge_between(channel: str, name: str, topic: Topic) -> Iterator[Finding]:
    """A topic of our own that is a queue: nothing in it may go before it was read, in NAME-ids also a while after."""
    policy, retention = topic.configs.get("cleanup.policy", ""), topic.number("retention.ms")
    if "compact" in policy:
        advice = "records of one key would replace each other before they are read; set cleanup.policy to delete"
        yield Finding("failure", f"topic {name}", f"cleanup.policy is {policy!r}", advice)
    if 0 <= retention < _DAY_MS:
        kept = f"records are kept for {retention / 3_600_000:.1f} hours"
        advice = "a service that is away for longer loses records; raise retention.ms"
        if channel == IDS:
            advice = "labels that come later than that find no event after a restart; raise retention.ms"
        yield Finding("warning", f"topic {name}", kept, advice)


def _judge_rights(settings: Settings, cluster: Cluster) -> Iterator[Finding]:
    """What our user may do with topics, group and transactions (ACLs)."""
    for refused in cluster.refused:
        yield Finding("failure", refused, "our user may not use it", "give it the rights (ACLs) to read, or to write")
    wanted: dict[str, tuple[str, ...]] = dict.fromkeys(_read(settings), ("READ",))
    wanted |= {f"{settings.app.name}-{channel}": ("WRITE",) for channel in CHANNELS}
    wanted |= {f"{settings.app.name}-{channel}": ("READ", "WRITE") for channel in (*TABLES, *_between(settings))}
    for name, rights in wanted.items():
        topic = cluster.topics.get(name)
        if topic is not None and topic.rights is not None and not topic.rights.issuperset(rights):
            missing = ", ".join(sorted(set(rights) - topic.rights))
            yield Finding("failure", f"topic {name}", f"our user lacks {missing}", "give it that right (an ACL)")
    absent = [name for name in wanted if name not in cluster.topics and name not in _read(settings)]
    if absent and cluster.rights is not None and "CREATE" not in cluster.rights:
        advice = (
            f"create {', '.join(absent)} yourself, or let our user create topics that begin with {settings.app.name}-"
        )
        yield Finding("warning", "right to create topics", "not on the whole cluster", advice)


def _judge_safety(name: str, topic: Topic) -> Iterator[Finding]:
    """Whether a broker may be lost."""
    in_sync = topic.number("min.insync.replicas")
    if topic.replicas == 1:
        yield Finding("warning", f"topic {name}", "one replica", "a lost disk loses it; for production take 3 replicas")
    elif in_sync < 2:
        advice = "what one broker alone has may be lost with it; set min.insync.replicas to 2"
        yield Finding("warning", f"topic {name}", f"min.insync.replicas is {in_sync}", advice)
    elif in_sync >= topic.replicas:
        advice = "no broker may be away then; have one replica more than that"
        yield Finding("warning", f"topic {name}", f"min.insync.replicas is {in_sync} of {topic.replicas}", advice)
    if topic.offline:
        advice = "their records cannot be read; bring the brokers back that have them"
        yield Finding("failure", f"topic {name}", f"{topic.offline} partition(s) without a leader", advice)


def _judge_timeouts(settings: Settings, cluster: Cluster) -> Iterator[Finding]:
    session = 1000 * settings.kafka.session_timeout_seconds
    least, most = cluster.number("group.min.session.timeout.ms"), cluster.number("group.max.session.timeout.ms")
    what = "[kafka] session_timeout_seconds"
    if 0 <= most < session or session < least:
        advice = f"the broker takes {least / 1000:g} to {most / 1000:g}; choose one between"
        yield Finding("failure", what, f"{session / 1000:g} s", advice)
    else:
        yield Finding("ok", what, f"{session / 1000:g} s, the broker takes {least / 1000:g} to {most / 1000:g}")
    if settings.kafka.group_instance_id is not None and session < 30_000:
        advice = "a static member that restarts has only so long before its partitions move; 45 is a good value"
        yield Finding("warning", what, f"{session / 1000:g} s, with a group_instance_id", advice)
    kept = cluster.number("offsets.retention.minutes")
    if 0 <= kept < 1440:
        advice = "a group that is away for longer reads from the start of the topic; raise offsets.retention.minutes"
        yield Finding("warning", "offsets.retention.minutes", f"{kept} minutes", advice)


def _judge_sizes(settings: Settings, cluster: Cluster) -> Iterator[Finding]:
    wanted = settings.kafka.max_message_bytes
    for channel in (*CHANNELS, *TABLES, *_between(settings)):
        topic = cluster.topics.get(f"{settings.app.name}-{channel}")
        most = -1 if topic is None else topic.number("max.message.bytes")
        if 0 <= most < wanted:
            advice = f"results up to [kafka] max_message_bytes, {wanted}, are sent; raise the topic's, or lower ours"
            yield Finding("failure", f"topic {settings.app.name}-{channel}", f"max.message.bytes is {most}", advice)
    topic = cluster.topics.get(settings.input.topic)
    longest = -1 if topic is None else topic.number("max.message.bytes")
    if settings.input.max_record_bytes < longest:
        found = f"{settings.input.max_record_bytes}, the input topic takes records of {longest} bytes"
        yield Finding("ok", "[input] max_record_bytes", f"{found}; longer ones become dead letters")


def _judge_settings(settings: Settings) -> Iterator[Finding]:
    """What the settings name on this machine: a client, θ, certificates."""
    try:
        found = f"client {client(settings.kafka)}, kind {settings.app.kind}"
        http_security(settings.http)
        check_member(settings)
        new_engine(settings).close()
    except StreammetaError as err:
        yield Finding("failure", "settings", str(err))
    else:
        yield Finding("ok", "settings", found)


def _judge_privacy(settings: Settings) -> Iterator[Finding]:
    """How long a budget of ε lasts, where members send changes of θ with noise."""
    meta, privacy = settings.meta, settings.meta.privacy
    if meta.share == "episodes" or not privacy.noise_multiplier:
        return
    what = "[meta.privacy] epsilon"
    try:
        change = privacy.cost(meta.local_steps)
        count = Budget(privacy.epsilon, privacy.delta).holds(change)
    except StreammetaError:  # the settings' finding says why
        return
    if count:
        yield Finding("ok", what, f"{privacy.epsilon:g} are {count:,} changes of θ by a member, then it sends no more")
    else:
        advice = "raise noise_multiplier, lower [meta] local_steps or sample_rate, or raise epsilon"
        yield Finding("failure", what, f"{privacy.epsilon:g} is less than one change of θ costs: none is sent", advice)


def _judge_registries(settings: Settings) -> Iterator[Finding]:
    """Whether each schema registry that is named answers."""
    named = {"input": settings.input.registry, "labels": settings.labels.registry, "output": settings.output.registry}
    seen: list[RegistrySettings] = []
    for section, registry in named.items():
        if registry.url is None or registry in seen:
            continue
        seen.append(registry)
        what = f"[{section}.registry] url"
        try:
            Registry(registry).check()
        except StreammetaError as err:
            yield Finding("failure", what, str(err))
        else:
            yield Finding("ok", what, f"{registry.url} answers")


def _judge_machine(settings: Settings) -> Iterator[Finding]:
    where = settings.memory.spill_directory or tempfile.gettempdir()
    try:
        free = shutil.disk_usage(where).free
    except OSError as err:
        advice = "the spill is made there; name a folder that exists, or one that can be made"
        yield Finding("warning", "[memory] spill_directory", f"{where}: {err.strerror}", advice)
        return
    level: Level = "ok" if free >= _SPILL_BYTES else "warning"
    advice = "" if level == "ok" else "tasks beyond [memory] max_tasks go there, 30 kB each; free some of the disk"
    yield Finding(level, "[memory] spill_directory", f"{where} has {free / 2**30:.1f} GiB free", advice)
