"""Checks, codes and elevations."""
