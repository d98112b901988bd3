"""Meta-learning without a stream: train θ on episodes, judge it on tasks it has not seen, keep it, search settings."""
