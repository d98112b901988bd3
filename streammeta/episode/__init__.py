"""Task families: sources of episodes to meta-learn from."""
