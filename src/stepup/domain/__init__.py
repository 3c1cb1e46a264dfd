"""The product's rules, pure and synchronous: no I/O, no wire format, no storage."""

from sys import version_info

if version_info < (3, 11):  # noqa: UP036  # the client, which has the same wheel, runs on 3.10
    raise ImportError("the server needs Python 3.11 or newer; stepup.client runs on 3.10")
