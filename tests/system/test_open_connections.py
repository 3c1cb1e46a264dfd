"""S18: the connections of a small listener that others displace."""

import pytest

from stepup.system.open_connections import OpenConnections


@pytest.fixture
def opened():
    return OpenConnections(3)


def added(opened, *connections):
    """The connections that others displace; a connection is named by host and time."""
    return [closing for host, now in connections for closing in opened.add((host, now), host, now)]


def test_s18_up_to_the_limit_no_connection_gives_way(opened):
    assert added(opened, ("a", 1), ("a", 2), ("a", 3)) == []


def test_s18_the_oldest_connection_of_the_busiest_host_gives_way(opened):
    assert added(opened, ("b", 1), ("a", 2), ("a", 3), ("c", 4)) == [("a", 2)]


def test_s18_one_host_closes_its_own_connections_only(opened):
    added(opened, ("b", 1))
    closed = added(opened, *(("a", now) for now in range(2, 100)))
    assert {host for host, _ in closed} == {"a"}


def test_a_removed_connection_makes_room(opened):
    added(opened, ("a", 1), ("a", 2), ("a", 3))
    opened.remove(("a", 1))
    opened.remove(("a", 1))
    assert added(opened, ("a", 4)) == []


def test_connections_that_last_too_long_are_found(opened):
    added(opened, ("a", 1), ("b", 2), ("c", 3))
    assert opened.opened_before(3) == [("a", 1), ("b", 2)]
