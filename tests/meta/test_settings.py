"""What the catalogue's methods read of a tuning is what settings say that they read."""

from typing import Any

import pytest

from streammeta.meta.catalogue import METHODS, Problem, build
from streammeta.meta.settings import METHOD_NAMES, USES_INNER_RATE, USES_INNER_STEPS, USES_OUTER


class Spy:
    """A tuning that notes what is read of it."""

    def __init__(self) -> None:
        self.read: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        self.read.add(name)
        return None


@pytest.mark.parametrize("name", METHOD_NAMES)
def test_a_method_uses_what_settings_say(name: str) -> None:
    """Else an option is refused that would have an effect, or one is taken that has none."""
    kind = "regression" if "regression" in METHODS[name][0] else "classification"
    spy = Spy()

    build(name, Problem(kind, inputs=2, outputs=1 if kind == "regression" else 3, hidden=(4,)), spy)  # type: ignore[arg-type]

    assert ("inner_rate" in spy.read, "inner_steps" in spy.read, "outer" in spy.read) == (
        name in USES_INNER_RATE,
        name in USES_INNER_STEPS,
        name in USES_OUTER or name == "mixture",  # its parts read it, and it steps over all of them by its own
    )
