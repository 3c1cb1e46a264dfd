"""`stepup audit`."""
