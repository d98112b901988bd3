"""Every error streammeta raises on purpose.

StreammetaError
├── ConfigError      a setting is missing, unknown or out of range: found before the first poll
├── EventError       one record cannot be used: it is set aside with its reason, the rest goes on
├── TransportError   a source or sink cannot be reached, or refuses: broker, topic, file
└── SnapshotError    saved state cannot be read, or belongs to other settings

A message says where, what came, what was wanted, and what to do.
"""

__all__ = ["ConfigError", "EventError", "SnapshotError", "StreammetaError", "TransportError"]


class StreammetaError(Exception):
    """What streammeta raises on purpose; the command line prints its message without a traceback."""


class ConfigError(StreammetaError):
    """A setting is missing, unknown, or out of its range."""


class EventError(StreammetaError):
    """One record is not an event the engine can use."""


class TransportError(StreammetaError):
    """A source or a sink cannot be reached, or refuses."""


class SnapshotError(StreammetaError):
    """Saved state cannot be read, or does not belong to these settings."""
