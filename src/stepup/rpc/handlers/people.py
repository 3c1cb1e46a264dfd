"""The handlers of `PeopleService`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PeopleHandlers:
    """Lists people, ends locks, forgets people who left, and imports authenticators."""
