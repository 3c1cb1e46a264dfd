"""Addresses that only programs on this machine, or on a private network, can reach.

Calls to this machine use no proxy: a proxy of the environment (`http_proxy`) could read them, since
they are in plain text, and could not reach the loopback interface of this machine anyway.
"""

import ipaddress
import re
import socket
from typing import Final

NO_GRPC_PROXY: Final = (("grpc.enable_http_proxy", 0),)
"""The gRPC channel option that turns the proxy off."""
# `is_private` also has addresses that name no host, such as 0.0.0.0 and 192.0.2.0/24.
_PRIVATE: Final = [
    ipaddress.ip_network(text)
    for text in (
        *("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"),
        *("::1/128", "fc00::/7", "fe80::/10"),
    )
]
_UNIX = ("unix:", "unix-abstract:")
_SCHEME = re.compile(r"(dns|ipv4|ipv6):(///)?")


def is_loopback(host: str) -> bool:
    """Whether only programs on this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_local_target(target: str) -> bool:
    """Whether a gRPC target is a unix socket, or has only loopback addresses.

    See https://github.com/grpc/grpc/blob/master/doc/naming.md. A target that names a DNS server is
    not local: the DNS server may return any address.
    """
    return target.startswith(_UNIX) or all(map(is_loopback, _hosts_of(target)))


def is_near(host: str) -> bool:
    """Whether all addresses of a host are loopback or private addresses. This looks names up."""
    try:
        found = {ipaddress.ip_address(host)}
    except ValueError:
        try:
            entries = socket.getaddrinfo(host, None)
        except (OSError, UnicodeError):
            return False
        found = {ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in entries}
    return all(map(_is_of_a_private_network, found))


def is_near_target(target: str) -> bool:
    """Whether a gRPC target is a unix socket, or `is_near` holds for all its hosts."""
    return target.startswith(_UNIX) or all(map(is_near, _hosts_of(target)))


def _is_of_a_private_network(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    address = getattr(address, "ipv4_mapped", None) or address
    return any(address in network for network in _PRIVATE)


def _hosts_of(target: str) -> list[str]:
    return [_host_of(address) for address in _SCHEME.sub("", target, count=1).split(",")]


def _host_of(address: str) -> str:
    in_brackets = re.fullmatch(r"\[([^]]*)\](:\d+)?", address)
    return in_brackets[1] if in_brackets else address.partition(":")[0]
