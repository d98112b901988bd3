"""What the commands do, for Python too: serve a topic, replay a stream, look into what was saved."""
