"""Of two primaries a process believes one (S28). With real servers: test_database_failover.py."""

import pytest
from structlog.testing import capture_logs

from stepup.domain.errors import StoreUnavailableError
from stepup.stores.sql.pool import PrimaryFence, ServerRun

OLD, PROMOTED = ServerRun("7", 1, "100"), ServerRun("7", 2, "200")


@pytest.fixture
def fence():
    return PrimaryFence()


def assert_refused(fence, server):
    with pytest.raises(StoreUnavailableError):
        fence.admit(server)
    assert fence.current != server


def test_s28_connections_to_the_server_of_before_do_not_count_any_more(fence):
    fence.admit(OLD)
    assert fence.current == OLD
    fence.admit(PROMOTED)
    assert fence.current == PROMOTED
    assert fence.current != OLD


@pytest.mark.parametrize("back", [OLD, OLD._replace(started="300")], ids=["running", "restarted"])
def test_s28_a_lower_timeline_is_never_believed_again(fence, back):
    fence.admit(OLD)
    fence.admit(PROMOTED)
    assert_refused(fence, back)
    assert fence.current == PROMOTED


def test_s28_nor_is_it_after_another_system(fence):
    for server in PROMOTED, ServerRun("8", 1, "300"):
        fence.admit(server)
    assert_refused(fence, OLD)


def test_s28_of_two_that_answer_in_turn_on_one_timeline_the_later_one_stays(fence):
    copy = OLD._replace(started="50")
    fence.admit(OLD)
    fence.admit(copy)
    assert_refused(fence, OLD)
    fence.admit(copy)


def test_s28_a_restarted_server_and_a_restored_one_are_believed(fence):
    for server in OLD, OLD._replace(started="300"), ServerRun("8", 1, "400"):
        fence.admit(server)
        assert fence.current == server


def test_s28_a_refused_server_is_logged_once(fence):
    fence.admit(PROMOTED)
    with capture_logs() as lines:
        for _ in range(3):
            assert_refused(fence, OLD)
    assert [line["event"] for line in lines] == ["database_server_refused"]
