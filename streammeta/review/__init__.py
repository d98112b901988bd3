"""Replays beside other learners, compared and drawn: what `streammeta replay` and `compare` show."""
