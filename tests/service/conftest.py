from stepup_tests.fixtures import clock, template, worker, world

__all__ = ["clock", "template", "worker", "world"]
