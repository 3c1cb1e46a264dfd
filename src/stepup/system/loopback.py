"""Addresses that only programs on this machine can reach. Calls to them use no proxy.

A proxy of the environment (`http_proxy`) could read calls to loopback, which are in plain text, and
could not reach the loopback interface of this machine anyway.
"""

import ipaddress
import re
from typing import Final

NO_GRPC_PROXY: Final = (("grpc.enable_http_proxy", 0),)
"""The gRPC channel option that turns the proxy off."""
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
    if target.startswith(_UNIX):
        return True
    addresses = _SCHEME.sub("", target, count=1).split(",")
    return all(is_loopback(_host_of(address)) for address in addresses)


def _host_of(address: str) -> str:
    in_brackets = re.fullmatch(r"\[([^]]*)\](:\d+)?", address)
    return in_brackets[1] if in_brackets else address.partition(":")[0]
