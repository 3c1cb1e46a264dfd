"""Elevations and recorded outcomes in Redis or Valkey."""
