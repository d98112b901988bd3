"""The Grafana dashboards, made by code."""
