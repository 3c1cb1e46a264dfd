"""A port that processes of ours share, and others do not get."""

import socket

import pytest

from stepup.process.workers import reserved_port


def listening(port, *, shares):
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(shares))
    try:
        listener.bind(("127.0.0.1", port))
    except OSError:
        listener.close()
        raise
    listener.listen()
    return listener


def test_any_number_listens_on_it():
    with (
        reserved_port("127.0.0.1", 0) as port,
        listening(port, shares=True) as one,
        listening(port, shares=True) as another,
    ):
        assert one.getsockname() == another.getsockname()


def test_who_does_not_share_is_refused_before_anybody_listens():
    with reserved_port("127.0.0.1", 0) as port, pytest.raises(OSError, match="in use"):
        listening(port, shares=False)


def test_it_is_reserved_once():
    with (
        reserved_port("127.0.0.1", 0) as port,
        pytest.raises(OSError, match="in use"),
        reserved_port("127.0.0.1", port),
    ):
        pass


@pytest.mark.parametrize("shares", [True, False])
def test_a_port_that_is_listened_on_is_not_reserved(shares):
    with (
        listening(0, shares=shares) as listener,
        pytest.raises(OSError, match="in use"),
        reserved_port("127.0.0.1", listener.getsockname()[1]),
    ):
        pass


def test_what_is_left_of_closed_connections_is_no_hindrance():
    with reserved_port("127.0.0.1", 0) as port, listening(port, shares=True) as listener:
        client = socket.create_connection(("127.0.0.1", port))
        listener.accept()[0].close()  # it is the server's side that the kernel keeps for a while
        client.recv(1)
        client.close()
    with reserved_port("127.0.0.1", port) as again:
        assert again == port


@pytest.mark.parametrize("host", ["localhost", "::1", "0.0.0.0"])  # noqa: S104
def test_a_host_may_be_a_name_or_an_address(host):
    with reserved_port(host, 0) as port:
        assert port


def test_an_address_of_another_machine_is_an_error():
    with pytest.raises(OSError, match="assign"), reserved_port("192.0.2.1", 0):
        pass
