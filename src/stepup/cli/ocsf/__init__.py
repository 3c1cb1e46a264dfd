"""Audit events and decisions in the Open Cybersecurity Schema Framework (OCSF) 1.8.0."""
