import io

from rich.console import Console

from streammeta.commands.live import shown
from streammeta.engine import Outcome
from streammeta.event import Event, Origin
from streammeta.report import Tally


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


OUTCOME = Outcome(Event([1.0], "a", Origin("f", 0, 0), y=1), prediction=1)


def test_elsewhere_than_on_a_terminal_there_is_a_plain_line_every_few_seconds() -> None:
    """A log file with a redrawn table in it is unreadable; a silent one looks dead."""
    out, clock, tally = io.StringIO(), Clock(), Tally("classification")
    console = Console(file=out, width=40)
    with shown(tally, lambda: 0.5, title="replay", console=console, clock=clock) as observe:
        for second in range(12):
            clock.now = float(second)
            tally.add([OUTCOME] * 1_000)
            observe([OUTCOME], 0)

    lines = out.getvalue().splitlines()
    assert len(lines) == 4  # the last one is how it ended
    assert lines[1] == "replay: read 50%, events 6,000, events/s 1,000, accuracy 1.0000, drifts 0, rejected 0"
    assert "\x1b" not in out.getvalue()


def test_on_a_terminal_there_is_a_table_that_goes_away() -> None:
    """The report stays; what was shown on the way does not."""
    out, clock, tally = io.StringIO(), Clock(), Tally("regression")
    console = Console(file=out, force_terminal=True, width=100)
    with shown(tally, lambda: None, title="replay", console=console, clock=clock) as observe:
        tally.add([OUTCOME])
        observe([OUTCOME], 0)

    assert "mean absolute error" in out.getvalue()
    assert out.getvalue().endswith("\x1b[2K")
