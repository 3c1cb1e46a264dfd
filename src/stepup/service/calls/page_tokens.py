"""Page tokens: where the next page of a list begins, under a MAC."""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Sequence
from dataclasses import dataclass

from stepup.domain.errors import InvalidFieldError
from stepup.service.ports import Keys


@dataclass(frozen=True, slots=True)
class PageTokens:
    """Makes and opens page tokens. Only this service can make one, for one list each.

    A list is known by its scope: the tenant and every filter, as texts without NUL. Two lists MUST
    have different scopes.
    """

    keys: Keys

    def make(self, scope: Sequence[str], position: str) -> str:
        """Make the token of the page that follows a position."""
        return self._make(self.keys.page_tokens.primary, scope, position)

    def position(self, scope: Sequence[str], token: str) -> str:
        """Return the position in a token.

        Raises:
            InvalidFieldError: the token was not made for this list.
        """
        position = expected = ""
        try:
            key_id, _, rest = urlsafe_b64decode(token).decode().partition(".")
            position = rest.rpartition(".")[0]
            self.keys.refresh_for(key_id)
            if "\0" not in position:  # else texts of another scope could pass for a position
                expected = self._make(key_id, scope, position)
        except (Base64Error, ValueError, KeyError):
            pass
        # The whole text is compared: base64 has several spellings of one value.
        if not expected or not hmac.compare_digest(token.encode(), expected.encode()):
            raise InvalidFieldError("page_token", "was not given for this tenant and filter")
        return position

    def _make(self, key_id: str, scope: Sequence[str], position: str) -> str:
        key = self.keys.page_tokens.keys[key_id]
        mac = hmac.digest(key, "\0".join((*scope, position)).encode(), "sha256").hex()
        return urlsafe_b64encode(f"{key_id}.{position}.{mac}".encode()).decode()
