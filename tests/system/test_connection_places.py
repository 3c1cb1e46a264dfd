"""S18: which connections of a small listener give way."""

import pytest

from stepup.system.connection_places import ConnectionPlaces


@pytest.fixture
def places():
    return ConnectionPlaces(3)


def taken(places, *connections):
    """Which connections have to be closed for others; a connection is named by host and time."""
    return [closing for host, now in connections for closing in places.take((host, now), host, now)]


def test_s18_up_to_the_limit_nobody_gives_way(places):
    assert taken(places, ("a", 1), ("a", 2), ("a", 3)) == []


def test_s18_the_oldest_connection_of_the_busiest_host_gives_way(places):
    assert taken(places, ("b", 1), ("a", 2), ("a", 3), ("c", 4)) == [("a", 2)]


def test_s18_one_host_closes_its_own_connections_only(places):
    taken(places, ("b", 1))
    closed = taken(places, *(("a", now) for now in range(2, 100)))
    assert {host for host, _ in closed} == {"a"}


def test_a_connection_that_has_left_makes_room(places):
    taken(places, ("a", 1), ("a", 2), ("a", 3))
    places.leave(("a", 1))
    places.leave(("a", 1))
    assert taken(places, ("a", 4)) == []


def test_those_that_last_too_long_are_found(places):
    taken(places, ("a", 1), ("b", 2), ("c", 3))
    assert places.opened_before(3) == [("a", 1), ("b", 2)]
