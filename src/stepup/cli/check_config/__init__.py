"""`stepup check-config`."""
