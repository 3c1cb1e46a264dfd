from stepup_tests.fixtures import clock, running, template, worker, world

__all__ = ["clock", "running", "template", "worker", "world"]
