"""S26: few calls wait for one thing, and no network takes all of the places."""

from contextlib import ExitStack

import pytest
from stepup_tests.metrics import metric

from stepup.domain.errors import OverloadedError
from stepup.rpc.server.network_share import NetworkShare

REFUSALS = "stepup_overload_refusals_total"


def peer(network, port=1):
    return f"ipv4:192.0.2.{network}:{port}"


@pytest.fixture
def share():
    return NetworkShare("issuer_keys", 5, 2)


def refuses(share, *peers):
    for each in peers:
        with pytest.raises(OverloadedError), share.place(each):
            pass
    return True


def test_s26_a_network_has_a_share_and_others_theirs(share):
    before = metric(REFUSALS, cause="issuer_keys")
    with ExitStack() as stack:
        for port in range(2):
            stack.enter_context(share.place(peer(1, port)))
        assert refuses(share, peer(1, 7))
        stack.enter_context(share.place(peer(2)))
    assert metric(REFUSALS, cause="issuer_keys") == before + 1


def test_s26_the_calls_of_all_networks_are_bounded(share):
    with ExitStack() as stack:
        for network in range(5):
            stack.enter_context(share.place(peer(network)))
        assert refuses(share, peer(6))
    with share.place(peer(6)):
        pass


def test_a_place_is_free_again_after_an_error(share):
    for _ in range(5):
        with pytest.raises(ZeroDivisionError), share.place(peer(1)):
            raise ZeroDivisionError
