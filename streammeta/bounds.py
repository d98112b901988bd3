"""The largest numbers and latest times that records may hold, of events and of what is kept."""

from typing import Annotated, Final, TypeAlias

import msgspec

__all__ = ["EXACT", "LARGEST", "LATEST", "Count", "Size"]

LARGEST: Final = 3.0e38  # features and targets live as float32; its largest finite value is 3.4e38
EXACT: Final = 2**53  # whole numbers from it on share floats: 2^53 is what 2^53 + 1 is read as, too
LATEST: Final = 1e11  # seconds since 1970: the year 5138; what is later are milliseconds

Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=EXACT)]  # in what is kept; as a float it is exact
Size: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=65_536)]  # in what is kept: of an axis of names
