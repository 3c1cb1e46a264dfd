from stepup_tests.fixtures import template

__all__ = ["template"]
