"""`stepup doctor`: try each thing that a server, or a connection of `stepup ctl`, needs."""
