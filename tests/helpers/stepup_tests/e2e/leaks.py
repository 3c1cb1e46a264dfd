"""The canary for S11: every secret that was used, searched for in everything that was written."""

import json
import re
from base64 import b32decode, b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

_CODE_FIELDS = {"code"}
_SECRET_FIELDS = {"secret", "otpauth_uri", "reset_code", "receipt", "retry_receipt", "qr_png"}
# Six digits that stand in every line of a log, and sooner or later are those of a code.
_FRACTION_OF_SECOND = re.compile(rb"(?<=:[0-9]{2}\.)[0-9]{6}")


@dataclass
class Secrets:
    """What must not be written down: codes of six digits, and everything that is longer."""

    codes: set[str] = field(default_factory=set)
    others: set[bytes] = field(default_factory=set)

    def note(self, message: Any) -> None:
        """Note the secrets of a message, request or response, as a person or program sees them."""
        match message:
            case dict():
                for name, value in message.items():
                    self._note_field(name, value)
            case list():
                for element in message:
                    self.note(element)

    def note_keys(self, keys_file: Path) -> None:
        """Note the key material of a key ring."""
        for entry in json.loads(keys_file.read_text())["keys"].values():
            self._note_octets(b64decode(entry["key"]))

    def note_token(self, token: str) -> None:
        """Note a bearer token by its signature: without that it is good for nothing."""
        _, _, signature, *_ = token.split(".")
        self.others.add(signature.encode())

    def note_private_key(self, pem: bytes) -> None:
        """Note a private key, by the lines of its file."""
        self.others |= {line for line in pem.splitlines() if line and not line.startswith(b"-----")}

    def found_in(self, octets: bytes) -> set[str]:
        """The secrets, longer than codes, that stand somewhere in a file of any kind."""
        return {secret.decode("latin-1") for secret in self.others if secret in octets}

    def found_in_text(self, text: bytes) -> set[str]:
        """The secrets that stand in a text; codes count as whole words."""
        words = set(re.findall(rb"\b[0-9]{6}\b", _FRACTION_OF_SECOND.sub(b"", text)))
        return self.found_in(text) | {code for code in self.codes if code.encode() in words}

    def _note_field(self, name: str, value: Any) -> None:
        if name in _CODE_FIELDS and isinstance(value, str):
            self.codes.add(value)
        elif name in _SECRET_FIELDS and isinstance(value, str) and value:
            self.others.add(value.encode())
            if name in {"secret", "reset_code"}:
                bare = value.replace("-", "").upper()
                self.others.add(bare.encode())
                self._note_octets(b32decode(bare + "=" * (-len(bare) % 8)))
            elif name == "otpauth_uri":
                for secret in parse_qs(urlsplit(value).query).get("secret", ()):
                    self._note_field("secret", secret)
        else:
            self.note(value)

    def _note_octets(self, octets: bytes) -> None:
        self.others |= {octets, octets.hex().encode(), b64encode(octets).rstrip(b"=")}


def leaks(
    secrets: Secrets, data_dir: Path, texts: Mapping[str, bytes], others: Iterable[Path] = ()
) -> Iterator[tuple[str, str]]:
    """Where a secret stands that must not: the place, and the secret.

    Args:
        secrets: what to look for.
        data_dir: its files are searched, all but the key ring; logs as texts.
        texts: further texts, by a name for each.
        others: further files: what stores wrote that are elsewhere.
    """
    for place, text in texts.items():
        for secret in secrets.found_in_text(text):
            yield place, secret
    for file in sorted([*data_dir.rglob("*"), *others]):
        if not file.is_file() or file.name == "keys.json":
            continue
        search = secrets.found_in_text if _is_log(file) else secrets.found_in
        for secret in search(file.read_bytes()):
            yield str(file), secret


def _is_log(file: Path) -> bool:
    return file.suffix in {".jsonl", ".log"} or file.name == "log"
