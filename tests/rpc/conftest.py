from support.fixtures import client, clock, running, template, worker, world

__all__ = ["client", "clock", "running", "template", "worker", "world"]
