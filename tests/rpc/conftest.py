from stepup_tests.fixtures import advance, client, clock, running, template, worker, world

__all__ = ["advance", "client", "clock", "running", "template", "worker", "world"]
