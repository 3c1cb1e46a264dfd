"""What the tests of the wiring have in common."""

from stepup_tests.postgres import postgres

__all__ = ["postgres"]
