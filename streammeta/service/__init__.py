"""The loops around the engine, on files and on Kafka, with what a service needs: health, metrics, logs."""
