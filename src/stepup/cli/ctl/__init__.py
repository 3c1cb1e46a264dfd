"""`stepup ctl`: calls a running server, as an operator of the platform."""
