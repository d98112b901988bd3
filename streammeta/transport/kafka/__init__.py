"""Kafka by kafka-python; and what the adapter of librdkafka shares: settings, topics, eviction."""
