"""Logs, metrics, spans and probes."""
