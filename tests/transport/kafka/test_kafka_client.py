"""What is asked of a broker that is not ready yet."""

import pytest
from kafka.errors import CoordinatorNotAvailableError, GroupAuthorizationFailedError, KafkaError

from streammeta.transport.kafka.client import patiently


def asked(*answers: KafkaError | int) -> tuple[list[int], object]:
    """A question, with what it is answered in turn, and how often it was asked."""
    left, times = list(answers), [0]

    def ask() -> int:
        times[0] += 1
        found = left.pop(0)
        if isinstance(found, KafkaError):
            raise found
        return found

    return times, ask


def test_a_coordinator_that_is_only_being_made_is_waited_for() -> None:
    """As on a new cluster, into which somebody restores a savepoint: it has no group yet."""
    times, ask = asked(CoordinatorNotAvailableError(), CoordinatorNotAvailableError(), 7)

    assert patiently(ask, 60.0) == 7  # type: ignore[arg-type]
    assert times == [3]


@pytest.mark.parametrize(
    ("error", "seconds"), [(GroupAuthorizationFailedError(), 60.0), (CoordinatorNotAvailableError(), 0.0)]
)
def test_what_asking_again_does_not_help_is_raised_at_once(error: KafkaError, seconds: float) -> None:
    """A missing right stays missing; and every wait has an end."""
    times, ask = asked(error, 7)

    with pytest.raises(type(error)):
        patiently(ask, seconds)  # type: ignore[arg-type]
    assert times == [1]
