"""How a program proves to the server which caller it is, and to whom it speaks."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, TypeAlias

import grpc

from stepup.system.file_watch import FileWatch

Token: TypeAlias = str | Path | Callable[[], str | Awaitable[str]]
"""A bearer token, a file with one (read again when it changes), or a function that returns one.

The function is called for each call: it keeps its token until the token expires. Only the
asynchronous client takes a function that returns an awaitable.
"""

_LOG: Final = logging.getLogger("stepup.client")


class CallerCredentials:
    """A client certificate, a bearer token, or both. The connection always uses TLS.

    Args:
        certificate: a PEM file with the caller's certificate chain.
        private_key: a PEM file with the key of the certificate.
        authorities: a PEM file with the authorities that the server's certificate may be from. None
            means the authorities that grpc brings.
        token: see `Token`.

    All files are read again when they change, at most a second later. While files do not fit
    together, for example in the middle of a renewal, the previous ones stay in use, and the logger
    `stepup.client` warns.

    Raises:
        ValueError: neither a certificate with its key nor a token is given, or the files cannot be
            used. The message has no content of a file.
    """

    def __init__(
        self,
        *,
        certificate: str | Path | None = None,
        private_key: str | Path | None = None,
        authorities: str | Path | None = None,
        token: Token | None = None,
    ) -> None:
        if (certificate is None) != (private_key is None):
            raise ValueError("certificate and private_key belong together: give both or neither")
        if certificate is None and token is None:
            raise ValueError("give a certificate with its private_key, a token, or both")
        self._certificate = None if certificate is None else Path(certificate)
        self._private_key = None if private_key is None else Path(private_key)
        self._authorities = None if authorities is None else Path(authorities)
        self._paths = [
            path for path in (self._certificate, self._private_key, self._authorities) if path
        ]
        self._pem_files = FileWatch(*self._paths)
        self._channel = self._read()
        self._token = checked_token(token) if isinstance(token, str) else token
        self._token_file = FileWatch(*([token] if isinstance(token, Path) else []))
        self._token_text = _text_of(token) if isinstance(token, Path) else ""

    @property
    def channel(self) -> grpc.ChannelCredentials:
        """What grpc opens a channel with: the files as they were last read."""
        return self._channel

    @property
    def has_token(self) -> bool:
        """Whether calls carry a bearer token."""
        return self._token is not None

    def token(self) -> str | Awaitable[str]:
        """Return the token for a call, or an awaitable of it; empty if there is none."""
        if callable(self._token):
            return self._token()
        return self._token_text if isinstance(self._token, Path) else self._token or ""

    def renew(self) -> bool:
        """Look at the files, and read the files that changed.

        Returns:
            Whether new channels differ from earlier ones.
        """
        try:
            if isinstance(self._token, Path) and self._token_file.look():
                self._token_text = _text_of(self._token)
            if not self._pem_files.look():
                return False
            self._channel = self._read()
        except ValueError as error:
            _LOG.warning("credentials of the stepup client stay as they were: %s", error)
            return False
        return True

    def _read(self) -> grpc.ChannelCredentials:
        authorities, key, chain = (
            None if path is None else _bytes_of(path)
            for path in (self._authorities, self._private_key, self._certificate)
        )
        # grpc would only say that it cannot connect. OpenSSL says which files do not fit together.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            if authorities is not None:
                context.load_verify_locations(self._authorities)
            if self._certificate is not None:
                # Without a password, OpenSSL would ask the terminal for that of an encrypted key.
                context.load_cert_chain(self._certificate, self._private_key, lambda: "")
        except (ssl.SSLError, OSError) as error:
            files = ", ".join(map(str, self._paths))
            raise ValueError(f"{files}: not usable together for TLS: {error}") from error
        return grpc.ssl_channel_credentials(authorities, key, chain)


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error


def _text_of(path: Path) -> str:
    try:
        return checked_token(_bytes_of(path).decode("ascii", "replace").strip())
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def checked_token(token: object) -> str:
    """Return the token, if it can be one. The message of the error does not contain it (S11).

    Raises:
        ValueError: it is not a token.
    """
    if isinstance(token, str) and token.isascii() and token.isprintable() and token:
        return token
    raise ValueError("not a token: it is empty, or has characters that no token has")
