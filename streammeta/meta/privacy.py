"""What private steps cost: ε at a δ, by Google's `dp-accounting`, which is imported only where something is private.

The unit is a task: ε bounds how much a reader of all that was sent can learn of whether all events of one task were
there. A step that samples each task with probability q and has noise of z standard deviations is a Poisson-sampled
Gaussian mechanism; steps compose by Rényi differential privacy.

Sources: Mironov, Talwar & Zhang (2019), arXiv:1908.10530 (sampled Gaussian); Canonne, Kamath & Steinke (2020),
arXiv:2004.00010, Proposition 12 (from Rényi's to ε and δ).
"""

import math
from collections.abc import Iterable
from functools import lru_cache
from typing import Annotated, Any, TypeAlias

import msgspec

from streammeta.errors import ConfigError, SnapshotError

__all__ = ["INSTALL", "Budget", "Spent", "added", "epsilon", "require"]

INSTALL = "pip install 'streammeta[private]'"
_ORDERS = (*(2 + k / 4 for k in range(36)), *range(11, 64), 64, 80, 96, 128, 192, 256, 512, 1024)  # α, of Rényi's
_Positive: TypeAlias = Annotated[float, msgspec.Meta(gt=0, le=1e6)]
_Rate: TypeAlias = Annotated[float, msgspec.Meta(gt=0, le=1)]
_Count: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=2**53)]


class Spent(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """Private steps of one kind; raises ConfigError where there are none such, as they would seem to cost nothing."""

    multiplier: _Positive  # z
    rate: _Rate  # q
    steps: _Count

    def __post_init__(self) -> None:
        is_count = type(self.steps) is int and self.steps >= 1
        if not (_is_in(self.multiplier, 0, 1e6) and _is_in(self.rate, 0, 1) and is_count):
            raise ConfigError(f"got {self}; wanted 0 < multiplier <= 1e6, 0 < rate <= 1, steps a whole number >= 1")


class Budget(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """What every task of a partition may cost, ever, and what it has.

    Keep ``encode`` where a restart finds it **before** anything is sent of the steps that it includes: so a step that
    is made again after a crash, with other noise, is paid for twice, and none is ever free.

    Raises:
        ConfigError: ε or δ bounds nothing.
    """

    epsilon: _Positive
    delta: Annotated[float, msgspec.Meta(gt=0, lt=1)]
    spent: tuple[Spent, ...] = ()

    def __post_init__(self) -> None:
        if not (_is_in(self.epsilon, 0, 1e6) and _is_in(self.delta, 0, 1) and self.delta < 1):
            raise ConfigError(f"got {self}; wanted 0 < epsilon <= 1e6, 0 < delta < 1")

    @property
    def cost(self) -> float:
        """ε of all steps so far; raises ConfigError where `dp-accounting` is not installed."""
        return epsilon(self.spent, self.delta)

    def after(self, more: Spent) -> "Budget | None":
        """The budget with these steps, too; None where they would exceed it: then they must not be made."""
        after = Budget(self.epsilon, self.delta, added(self.spent, more))
        return after if after.cost <= self.epsilon else None

    def holds(self, more: Spent, most: int = 2**20) -> int:
        """How many times these steps may be made, one after another; ``most``, if that is fewer.

        >>> Budget(8.0, 1e-5).holds(Spent(0.001, 1.0, 1))
        0
        """
        begin, end = 0, most + 1  # begin times they may be made, end times not
        while end - begin > 1:
            middle = (begin + end) // 2
            if self.after(Spent(more.multiplier, more.rate, middle * more.steps)) is None:
                end = middle
            else:
                begin = middle
        return begin

    def encode(self) -> bytes:
        """As bytes."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def decode(cls, value: bytes, at: str) -> "Budget":
        """What ``encode`` gave; raises SnapshotError, which begins with ``at``, where it is something else."""
        try:
            return msgspec.msgpack.decode(value, type=cls)
        except (msgspec.DecodeError, RecursionError) as err:
            raise SnapshotError(
                f"{at}: {len(value)} bytes that are no budget ({err}); none is taken for unspent"
            ) from err


def _is_in(value: object, above: float, most: float) -> bool:
    return isinstance(value, int | float) and above < value <= most


def require() -> None:
    """Raise ConfigError where the package is not installed."""
    _accounting()


def added(before: Iterable[Spent], more: Spent) -> tuple[Spent, ...]:
    """Steps of before and more of them, each kind once, in the order in which they first came.

    >>> added([Spent(1.0, 0.1, 5)], Spent(1.0, 0.1, 2))
    (Spent(multiplier=1.0, rate=0.1, steps=7),)
    """
    steps: dict[tuple[float, float], int] = {}
    for one in (*before, more):
        kind = one.multiplier, one.rate
        steps[kind] = steps.get(kind, 0) + one.steps
    return tuple(Spent(*kind, count) for kind, count in steps.items())


@lru_cache(256)
def epsilon(spent: tuple[Spent, ...], delta: float) -> float:
    """ε of all these steps together at ``delta``; 0 of none.

    Args:
        spent: of one task: of the partition that it is in.
        delta: in (0, 1).

    Raises:
        ConfigError: `dp-accounting` is not installed.
    """
    if not spent:
        return 0.0
    accounting = _accounting()
    accountant = accounting.rdp.RdpAccountant(_ORDERS, accounting.NeighboringRelation.ADD_OR_REMOVE_ONE)
    for one in spent:
        step = accounting.PoissonSampledDpEvent(one.rate, accounting.GaussianDpEvent(one.multiplier))
        accountant.compose(step, one.steps)
    found = float(accountant.get_epsilon(delta))
    return found if math.isfinite(found) else math.inf


def _accounting() -> Any:  # noqa: ANN401  a module, which is not installed everywhere
    try:
        import dp_accounting  # noqa: PLC0415  an extra
        from dp_accounting import rdp  # noqa: F401, PLC0415
    except ImportError as err:
        raise ConfigError(
            f"[meta.privacy]: noise is accounted by dp-accounting, which is not installed; {INSTALL}, or set "
            "noise_multiplier = 0, and then nothing is private"
        ) from err
    return dp_accounting
