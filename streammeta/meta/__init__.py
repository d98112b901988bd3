"""Meta-learning as tuples of pure functions over visible state: `exact` by default; `methods`, those of the field."""
