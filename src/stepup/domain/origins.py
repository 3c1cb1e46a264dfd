"""Web origins, and the addresses to which a page sends a person (S21: no open redirect)."""

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final, Self

from stepup.domain.errors import InvalidValueError
from stepup.system.loopback import is_loopback

MAX_URL_BYTES: Final = 2048
_DEFAULT_PORTS: Final = {"http": "80", "https": "443"}
_MAX_PORT: Final = 65535
_MAX_HOST: Final = 253
_LABEL: Final = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_ORIGIN: Final = re.compile(
    r"(?P<scheme>https?)://"
    rf"(?:(?P<name>{_LABEL}(?:\.{_LABEL})*)|\[(?P<ipv6>[0-9a-f:]+)\])"
    r"(?::(?P<port>[1-9][0-9]{0,4}))?"
)
# A browser takes a host for an IPv4 address if its last label is such a number (WHATWG URL, "ends
# in a number checker"), in whatever form: 127.1, 0x7f000001.
_NUMBER: Final = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
# The characters of RFC 3986 §2, without those that browsers read differently from what is written.
_REST: Final = re.compile(r"(?:[/?#][A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]*)?")


class WebOrigin(str):
    """An origin as browsers write it: `https://console.example`, `https://[2001:db8::1]:8443`.

    Scheme and host are in lower case, and a default port is left out (RFC 6454 §6.2). So two equal
    origins are equal texts. The scheme `http` is for loopback hosts.
    """

    __slots__ = ()

    def __new__(cls, value: str) -> Self:
        """Check the origin.

        Raises:
            InvalidValueError: it is something else, or http on a host of another machine.
        """
        matched = _ORIGIN.fullmatch(value)
        if matched is None or not _is_canonical(matched):
            raise InvalidValueError(
                "must be an origin as browsers write it, such as https://console.example or"
                " http://127.0.0.1:8080: no path, no user, lower case, and no default port"
            )
        if matched["scheme"] == "http" and not is_loopback(matched["name"] or matched["ipv6"]):
            raise InvalidValueError("must have https: http is for loopback hosts only")
        return super().__new__(cls, value)


def origin_of(url: str) -> WebOrigin:
    """The origin of an absolute URL that a browser reads exactly as it is written.

    What this function takes has no user, no white space, no backslash, and a host in lower case. So
    no browser finds another origin in the URL than this function does.

    Raises:
        InvalidValueError: the URL is not such a URL, or longer than 2,048 bytes.
    """
    if not url:
        raise InvalidValueError("is required")
    if len(url) > MAX_URL_BYTES:
        raise InvalidValueError(f"must be at most {MAX_URL_BYTES} bytes")
    matched = _ORIGIN.match(url)
    if matched is None or not _REST.fullmatch(url, matched.end()):
        raise InvalidValueError(
            "must be an absolute URL with https, or http on a loopback host: a host in lower case,"
            " no user, and the characters of RFC 3986 only"
        )
    return WebOrigin(matched[0])


def _is_canonical(matched: re.Match[str]) -> bool:
    """Whether host and port are written as browsers write them."""
    scheme, name, ipv6, port = matched.group("scheme", "name", "ipv6", "port")
    if port is not None and (int(port) > _MAX_PORT or port == _DEFAULT_PORTS[scheme]):
        return False
    try:
        if ipv6 is not None:
            return str(IPv6Address(ipv6)) == ipv6
        if _NUMBER.fullmatch(name):
            return str(IPv4Address(name)) == name
    except AddressValueError:
        return False
    return len(name) <= _MAX_HOST
