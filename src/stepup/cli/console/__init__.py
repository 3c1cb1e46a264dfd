"""`stepup console`."""
