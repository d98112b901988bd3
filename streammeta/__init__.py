"""Meta-learning on event streams: every task learned from a handful of events, and again after every drift."""

__version__ = "0.1.0"

__all__ = ["__version__"]
