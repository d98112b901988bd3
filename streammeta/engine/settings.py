"""The engine's settings. Without PyTorch and River, so that settings are read in a moment."""

from typing import Any, Literal, Self, TypeAlias

from pydantic import BaseModel, Field, field_validator, model_validator

from streammeta.engine.drift.settings import DriftSettings
from streammeta.engine.extraction.settings import FeatureSettings
from streammeta.engine.tasks import MemorySettings
from streammeta.meta.privacy import Spent
from streammeta.meta.settings import Kind, LearnerSettings

__all__ = [
    "ACTION_OF",
    "INTERVAL_LEVELS",
    "OF_ACTION",
    "AppKind",
    "DecideSettings",
    "EngineSettings",
    "Exploration",
    "MetaSettings",
    "OnSecond",
    "PrivacySettings",
    "Sampling",
    "SegmentSettings",
]

INTERVAL_LEVELS = (0.5, 0.99)  # the least and the most that can be wanted of intervals
Sampling: TypeAlias = Literal["uniform", "recency", "loss", "nearest"]


class SegmentSettings(BaseModel, frozen=True, extra="forbid"):
    """What one meta-update learns from."""

    tasks: int = Field(
        2, ge=1, le=4096, description="Segments in one meta-update for each member of the ensemble, each of one task."
    )
    length: int = Field(128, ge=2, le=4096, description="Labelled events in a segment.")
    shortest: int = Field(8, ge=2, description="Tasks with fewer labelled events are not drawn.")
    burn_in_share: float = Field(
        0.5, ge=0, le=1, description="Share of segments whose first half is only learned from; the others start cold."
    )
    recent_events: int = Field(4096, ge=1, description="Tasks are drawn from those of this many last labelled events.")


class PrivacySettings(BaseModel, frozen=True, extra="forbid"):
    """Noise on what members send with share = "updates", so that little can be learned of any one task."""

    noise_multiplier: float = Field(
        10.0,
        ge=0,
        le=1_000,
        description="Standard deviations of the noise in each local step, in units of task_norm. 0: no noise, and "
        "nothing is private.",
    )
    task_norm: float = Field(0.1, gt=0, le=1e6, description="The norm to which each task's gradient is clipped.")
    sample_rate: float = Field(
        1.0, gt=0, le=1, description="The probability with which each task of a member is in a local step."
    )
    epsilon: float = Field(
        8.0,
        gt=0,
        le=1e6,
        description="The budget of every task, ever: a member that has spent it sends nothing more.",
    )
    delta: float = Field(
        1e-5, gt=0, lt=1, description="The probability with which ε may not hold; well below 1 / number of tasks."
    )

    def cost(self, steps: int) -> Spent:
        """What this many local steps cost; raises ConfigError where they have no noise."""
        return Spent(self.noise_multiplier, self.sample_rate, steps)


class MetaSettings(SegmentSettings, frozen=True, extra="forbid"):
    """When θ learns, and from what."""

    mode: Literal["sync", "background", "off"] = Field(
        "sync", description="In the step (repeatable), in a thread beside it (never stops polling), or not at all."
    )
    trainer: Literal["member", "separate"] = Field(
        "member",
        description='Of a service: who changes θ. One of the members, or a process of its own ("separate"), which '
        "`streammeta train` is: members then only serve.",
    )
    share: Literal["episodes", "updates"] = Field(
        "episodes",
        description='With trainer = "separate", what members send: segments of labelled events ("episodes"), or '
        'changes of θ that they found on their own events, which then stay where they are ("updates").',
    )
    local_steps: int = Field(
        16, ge=1, le=1_000, description="Of updates: meta-updates that a member makes by itself in a round."
    )
    update_norm: float = Field(
        2.0,
        gt=0,
        le=1e6,
        description="Of updates: the norm to which a member's change of θ is clipped, by it and by the trainer.",
    )
    outer_rate: float = Field(
        0.7, gt=0, le=1, description="Of updates: step size of the trainer along the mean of the members' changes."
    )
    outer_momentum: float = Field(0.9, ge=0, lt=1, description="Of updates: Nesterov's momentum of these steps.")
    round_seconds: float = Field(
        5.0,
        ge=0,
        le=86_400,
        description="Of updates: a member sends at most one in this time, and the trainer goes on so long after the "
        "first one without those that are missing.",
    )
    privacy: PrivacySettings = Field(PrivacySettings(), description="Of updates: noise, and the budget of it.")
    keep_versions: int = Field(
        12,
        ge=0,
        le=30,
        description="Of a service: versions of θ that are kept for `streammeta theta`, one a minute at most, the n-th "
        "about 2^n minutes old. 0: none.",
    )
    every_events: int = Field(16, ge=1, description="Events and labels between two meta-updates while θ changes.")
    stretch: int = Field(
        4,
        ge=1,
        le=1024,
        description="How many times longer that may become while the loss is steady; in a stream without tags it is "
        "also up to four times shorter, at first and when labels are predicted much worse than usual. 1: neither.",
    )
    background_share: float = Field(
        0.2,
        ge=0,
        le=1,
        description="Of mode background: while more records wait than can be taken, the share of the time in which a "
        "meta-update may be under way; it has all it wants while the service keeps up.",
    )
    rate: float = Field(5e-3, gt=0, le=1, description="Step size of the outer Adam.")
    pull: float = Field(
        2.0,
        ge=0,
        le=10,
        description="How strongly the encoder is pulled to its start (L2), against stuck units; 0: not.",
    )
    renew_every: int = Field(
        0,
        ge=0,
        description="Meta-updates after which each encoder's least useful hidden unit is made again, for the same; "
        "0: never.",
    )
    escalate_events: int = Field(
        0,
        ge=0,
        description="Labels after which a task that errs far more than others of its age gets more, and more frequent, "
        "meta-updates; 0: never.",
    )
    sampling: Sampling = Field(
        "uniform",
        description='Which tasks it learns from, of those alive: all alike ("uniform"), who spoke most and last '
        '("recency"), who errs most ("loss"), or who looks like a task whose concept is young ("nearest").',
    )


OnSecond: TypeAlias = Literal["ignore", "relearn"]  # what a second label of an event does
AppKind: TypeAlias = Literal["classification", "regression", "decision"]
Exploration: TypeAlias = Literal["inverse_gap", "thompson", "upper_confidence", "epsilon_greedy", "greedy"]
OF_ACTION = "action."  # before the names of an action's own features
ACTION_OF = "→"  # between a task's tag and an action: what is learned of the two is a task of the engine


class DecideSettings(BaseModel, frozen=True, extra="forbid"):
    """How actions are chosen, with [app] kind = "decision"."""

    actions: tuple[str, ...] = Field(
        (), description="What can be done, at least two; an event may bring `actions` of its own instead."
    )
    exploration: Exploration = Field(
        "inverse_gap",
        description='How: "inverse_gap" (among the actions that may be the best, the further below the more seldom), '
        '"thompson", "upper_confidence", "epsilon_greedy" or "greedy".',
    )
    epsilon: float = Field(0.05, ge=0, le=1, description="Of epsilon_greedy: the share of choices by chance.")
    width: float = Field(
        1.0,
        ge=0,
        le=100,
        description="Standard errors: of inverse_gap, within which an action may be the best; of upper_confidence, "
        "which are added.",
    )
    cost: float = Field(
        0.003,
        gt=0,
        le=100,
        description="Of inverse_gap: what a decision may give away by trying another action than the best, as a share "
        "of what could be gained by it, at most of a standard deviation of the rewards, by what is known.",
    )
    heads: Literal["each", "shared"] = Field(
        "each",
        description='What learns: a head for each action ("each"), or one for all, which sees the action and its '
        'features ("shared"), for actions that are many or change.',
    )
    crossed: int = Field(
        1_024,
        ge=0,
        le=65_536,
        description="Heads see the features of an event also crossed with the action (NAME→ACTION), so that what a "
        "feature means for an action is learned for all tasks at once, where that makes at most this many more: its "
        "own times the actions configured. There are slots for them beside [memory] max_features. 0: never.",
    )
    common: bool = Field(
        True,
        description="Expected rewards are those of heads together with those of a linear model of each configured "
        "action, of all tasks: the more, the less a head knows.",
    )
    rewards: Literal["reward", "label"] = Field(
        "reward",
        description='What a label `y` is: the reward of the action taken ("reward"), or the right action, for '
        'simulation with labelled streams: 1 where it was taken, else 0 ("label").',
    )

    @field_validator("actions")
    @classmethod
    def _are_actions(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        wrong = [name for name in value if not name or ACTION_OF in name or len(name) > 1_000]
        if len(value) == 1 or len(set(value)) < len(value) or wrong:
            raise ValueError(
                f"actions: got {list(value)!r:.200}; wanted two or more, all different, none empty, longer than 1,000 "
                f"characters or with {ACTION_OF!r} in it"
            )
        return value


class EngineSettings(BaseModel, frozen=True, extra="forbid"):
    """All of the engine's settings."""

    kind: Kind = "classification"
    seed: int = Field(0, ge=0, lt=2**31)
    learner: LearnerSettings = LearnerSettings()
    meta: MetaSettings = MetaSettings()
    drift: DriftSettings = DriftSettings()
    memory: MemorySettings = MemorySettings()
    features: FeatureSettings = FeatureSettings()
    on_second: OnSecond = "ignore"
    elapsed: str | None = None  # the feature with the seconds since the task's event before; None: there is none
    decide: DecideSettings | None = None  # of a regression: of rewards, by which actions are chosen
    # the share of labels that intervals of targets are to hold; None: there are no intervals
    interval: float | None = Field(None, ge=INTERVAL_LEVELS[0], le=INTERVAL_LEVELS[1])

    def __setstate__(self, state: dict[Any, Any]) -> None:
        """As it was pickled; a version before had fewer settings, and those that came since have their defaults."""
        super().__setstate__(state)
        _complete(self)

    @model_validator(mode="after")
    def _interval_is_of_a_target(self) -> Self:
        if self.interval is not None and (self.kind != "regression" or self.decide is not None):
            raise ValueError(f"interval: is of a predicted target, and kind is {self.kind!r}; leave it out")
        return self

    @model_validator(mode="after")
    def _decides_without_experts(self) -> Self:
        """Experts give no variance of what they expect, so those that are there by default are not, for decisions."""
        if self.decide is not None and "experts" not in self.learner.model_fields_set:
            object.__setattr__(self, "learner", self.learner.model_copy(update={"experts": ()}))
        return self


def _complete(section: BaseModel) -> None:
    """Give a section and those inside it what they lack, at its default."""
    values = vars(section)
    for name, field in type(section).model_fields.items():
        if name not in values:
            values[name] = field.get_default(call_default_factory=True)
        elif isinstance(values[name], BaseModel):
            _complete(values[name])
