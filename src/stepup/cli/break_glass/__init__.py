"""`stepup break-glass`."""
