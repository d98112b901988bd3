"""Kafka by librdkafka, where the extra ``confluent`` is installed."""
