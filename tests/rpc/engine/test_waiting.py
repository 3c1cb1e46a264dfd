"""S26: which calls end when too many wait for their client."""

from contextlib import ExitStack

import pytest
from stepup_tests.metrics import metric

from stepup.domain.errors import OverloadedError
from stepup.rpc.engine.waiting import NetworkShare, Refusals, WaitingCalls, network_of


class Call:
    def __init__(self, peer="ipv4:192.0.2.1:5000"):
        self.peer = peer
        self.status = None

    def end_early(self, status):
        self.status = status


def of(host, number):
    return [Call(f"ipv4:{host}:{port}") for port in range(number)]


def waiting(limit, seconds=5.0):
    return WaitingCalls("half_open", limit, seconds, Refusals())


def ended(calls):
    return [call.status is not None for call in calls]


def test_s26_one_client_cannot_end_the_calls_of_another():
    calls = waiting(limit=10)
    honest, flood = of("192.0.2.1", 2), of("192.0.2.2", 100)
    for call in (*honest, *flood):
        calls.add(call, 0.0)
    assert ended(honest) == [False, False]
    assert ended(flood[:90]) == [True] * 90
    assert len(calls) <= 10


def test_s26_of_a_network_the_oldest_calls_end():
    calls = waiting(limit=4)
    flood = of("192.0.2.1", 5)
    for call in flood:
        calls.add(call, 0.0)
    assert ended(flood) == [True, True, False, False, False]
    assert flood[0].status.reason == "OVERLOADED"


def test_s26_where_no_network_stands_out_the_oldest_calls_end():
    calls = waiting(limit=64)
    flood = [call for host in range(65) for call in of(f"192.0.2.{host}", 1)]
    for call in flood:
        calls.add(call, 0.0)
    assert ended(flood) == [True] * 4 + [False] * 61


def test_s26_calls_end_when_their_time_is_over():
    calls = waiting(limit=4)
    first, second, gone = of("192.0.2.1", 3)
    calls.add(gone, 0.0)
    calls.add(first, 0.0)
    calls.add(second, 1.0)
    calls.discard(gone)
    calls.end_overdue(5.0)
    assert ended([first, second, gone]) == [True, False, False]
    assert first.status.reason == "CLIENT_TOO_SLOW"
    assert len(calls) == 1


def test_s26_calls_without_a_deadline_wait_as_long_as_they_like():
    calls = waiting(limit=4, seconds=None)
    [call] = of("192.0.2.1", 1)
    calls.add(call, 0.0)
    calls.end_overdue(1e9)
    assert ended([call]) == [False]


@pytest.mark.parametrize(
    ("peer", "network"),
    [
        ("ipv4:192.0.2.1:5000", "192.0.2.1"),
        ("ipv6:%5B2001:db8::1%5D:5000", "2001:db8::/64"),
        ("ipv6:[2001:db8::2]:5001", "2001:db8::/64"),
        ("ipv6:%5Bfe80::1%25eth0%5D:5000", "fe80::/64"),
        ("ipv6:%5B::ffff:192.0.2.1%5D:5000", "192.0.2.1"),
        ("unix:", ""),
        ("unix:/run/socket", ""),
    ],
)
def test_s26_a_client_is_an_ipv4_address_or_a_64_of_ipv6(peer, network):
    assert network_of(peer) == network


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
