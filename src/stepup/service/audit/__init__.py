"""Audit events and their chains."""
