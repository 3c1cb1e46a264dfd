"""The command `stepup web`, and the web process of a trial."""
