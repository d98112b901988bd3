"""The loops around the engine, on files and on Kafka, with what a service needs: health, metrics, logs."""

from streammeta.service.loop import Observe, Options, Service, Summary, restore

__all__ = ["Observe", "Options", "Service", "Summary", "restore"]
