"""Numbers of another process, as numbers here: what slots and classes in a record mean."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from streammeta.engine.checkpoint import OF_EXPERTS, check_fingerprint, experts_of
from streammeta.engine.factory import fingerprint
from streammeta.engine.handover.record import Schema, decode, schema_id
from streammeta.engine.memory import Memory
from streammeta.errors import SnapshotError

__all__ = ["Meaning", "Meanings"]


Doubles: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Meaning:
    """A schema, with the numbers that its slots and classes have here."""

    schema: Schema
    slots: npt.NDArray[np.int64]  # -1: no capacity
    classes: npt.NDArray[np.int64]
    own: npt.NDArray[np.int64]  # the place here of each second float32; -1: no capacity
    experts: tuple[str, ...]  # their names, in the order in which the records have them
    has_our_experts: bool
    same: bool = field(init=False)

    def __post_init__(self) -> None:
        same = all((numbers == np.arange(len(numbers))).all() for numbers in (self.slots, self.classes, self.own))
        object.__setattr__(self, "same", same)

    @property
    def size(self) -> int:
        """How many slots and classes there were."""
        return len(self.slots) + len(self.classes)

    def labels(self, ys: npt.NDArray[Any], at: str, *, classify: bool) -> npt.NDArray[Any]:
        """Labels as this engine numbers them."""
        with np.errstate(invalid="ignore"):  # a damaged record may hold NaNs that signal
            known = (ys >= 0) & (ys < len(self.classes)) & (ys == np.floor(ys)) if classify else np.isfinite(ys)
        if not known.all():
            raise SnapshotError(f"{at}: a window with label {ys[~known][0]}, which its schema does not have")
        return self.classes[ys.astype(np.int64)].astype(np.float32) if classify else ys

    def mean(self, data: bytes, at: str, *, classify: bool) -> Doubles:
        """A prediction, in this engine's order of classes."""
        most = len(self.classes) if classify else 1
        if len(data) % 8 or len(data) > 8 * most:
            raise SnapshotError(f"{at}: a prediction of {len(data)} bytes, wanted at most {most} numbers")
        found = np.frombuffer(data, np.float64)
        if not classify or self.same:
            return found
        mean = np.zeros(int(self.classes[: len(found)].max(initial=-1)) + 1)
        mean[self.classes[: len(found)]] = found
        return mean


class Meanings(NamedTuple):
    """The schemas of a partition, by their names."""

    known: Mapping[bytes, Meaning]
    at: str

    @classmethod
    def read(cls, schemas: Mapping[str, bytes], memory: Memory, at: str) -> "Meanings":
        """Read the schemas, and learn the features and classes that are new here."""
        found, ours = [], fingerprint(memory.settings)
        for tag, value in schemas.items():
            schema = decode(Schema, value, f"{at}, schema {tag}")
            id_ = schema_id(value)
            if id_.hex() != tag:
                raise SnapshotError(
                    f"{at}: schema {tag[:50]} holds another one ({id_.hex()}); wanted what its key says"
                )
            check_fingerprint(schema.settings, ours, but=OF_EXPERTS, what=f"{at}: it")
            found.append((len(schema.slots) + len(schema.classes), id_, schema))
        known = {}
        for _, id_, schema in sorted(found, key=lambda one: one[:2]):
            slots, classes = memory.features.merge(schema.slots, schema.width), memory.labels.merge(schema.classes)
            if -1 in classes:
                raise SnapshotError(f"{at}: holds {len(classes)} classes; raise [memory] max_classes so that all fit")
            if not all(slot < len(slots) for slot in schema.own):
                raise SnapshotError(f"{at}: own views of slots {schema.own}, wanted some of {len(slots)} slots")
            own_slots = [slots[slot] for slot in schema.own]
            memory.give_own_views([slot for slot in own_slots if slot >= 0])
            place = {slot: k for k, slot in enumerate(memory.shared.own)}
            own = [place.get(slot, -1) for slot in own_slots]
            at_slots, at_classes, at_own = (np.array(one, np.int64) for one in (slots, classes, own))
            experts = experts_of(schema.settings)
            are_ours = all(schema.settings.get(name) == ours[name] for name in OF_EXPERTS)
            known[id_] = Meaning(schema, at_slots, at_classes, at_own, experts, are_ours)
        memory.fit()
        return cls(known, at)

    def of(self, id_: bytes) -> Meaning:
        """What a record of this schema means."""
        found = self.known.get(id_)
        if found is None:
            raise SnapshotError(f"{self.at}: schema {id_.hex()} is not there; was the topic cleaned by hand?")
        return found
