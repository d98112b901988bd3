"""Every error streammeta raises on purpose.

StreammetaError
├── ConfigError      a setting is missing, unknown or out of range: found before the first poll
├── EventError       one record cannot be used: it is set aside with its reason, the rest goes on
├── TransportError   a source or sink cannot be reached, or refuses: broker, topic, file
│   ├── MissingTopicError  a topic does not exist, or is hidden from us
│   └── TransactionError  results were not committed, or nobody knows: abort, restore and go on
├── SnapshotError    saved state cannot be read, or belongs to other settings
└── ThreadError      a thread of the service ended unexpectedly: the service ends with its reason

A message says where, what came, what was wanted, and what to do.
"""

__all__ = [
    "ConfigError",
    "EventError",
    "MissingTopicError",
    "SnapshotError",
    "StreammetaError",
    "ThreadError",
    "TransactionError",
    "TransportError",
]


class StreammetaError(Exception):
    """What streammeta raises on purpose; the command line prints its message without a traceback."""


class ConfigError(StreammetaError):
    """A setting is missing, unknown, or out of its range."""


class EventError(StreammetaError):
    """One record is not an event the engine can use."""


class TransportError(StreammetaError):
    """A source or a sink cannot be reached, or refuses."""


class MissingTopicError(TransportError):
    """A topic does not exist, or our rights do not let us see it."""


class TransactionError(TransportError):
    """A transaction was not committed, or its end is unknown.

    What was learned since the last one counts for nothing; after a reset the work goes on from what is committed.
    """


class SnapshotError(StreammetaError):
    """Saved state cannot be read, or does not belong to these settings."""


class ThreadError(StreammetaError):
    """A thread of the service ended unexpectedly."""
