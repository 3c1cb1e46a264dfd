"""`stepup keys`."""
