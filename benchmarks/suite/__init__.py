"""The wide suite: many kinds of streams, all learners, one table. See ``python -m benchmarks.suite --help``."""
