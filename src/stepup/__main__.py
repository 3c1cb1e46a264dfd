"""`python -m stepup` is the command `stepup`."""

from stepup.cli.main import app

app()
