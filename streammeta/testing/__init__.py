"""For tests of what is built on streammeta: a log in memory, a driver that goes round by round, and contract checks.

* `MemoryLog` is a broker with transactions and groups in this process; `Crashes` lets a process die at a point of it.
* `Driver` is one member of a service on that log, moved round by round: no broker, no thread, no clock.
* `check_learner` holds a meta-learner, `check_expert` an expert of a task's mixture, to what the engine relies on.

    log = MemoryLog("events", at=Crashes({("before commit", 3): Crash()}))
    for event in events:
        log.append(event, partition=0, key=b"a")
    with pytest.raises(Crash):
        Driver(log, "first").finish()
    log.leave("first")
    Driver(log, "second").finish()
    assert len(Driver(log).predictions()) == len(events)
"""

from streammeta.testing.crash import CRASH_POINTS, Crash, Crashes
from streammeta.testing.driver import Driver
from streammeta.testing.expert import check_expert
from streammeta.testing.learner import check_learner
from streammeta.transport.memory_log import MemoryLog

__all__ = ["CRASH_POINTS", "Crash", "Crashes", "Driver", "MemoryLog", "check_expert", "check_learner"]
