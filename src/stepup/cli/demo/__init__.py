"""`stepup demo`."""
