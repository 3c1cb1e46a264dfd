"""The command `stepup`."""
