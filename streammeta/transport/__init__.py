"""Sources and sinks: memory, files, Kafka."""
