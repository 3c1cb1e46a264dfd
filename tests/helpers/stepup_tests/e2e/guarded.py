"""Servers whose callers need credentials, and what callers present."""

import json
import time
from dataclasses import dataclass, field
from pathlib import Path

from joserfc import jwt
from joserfc.jwk import ECKey
from stepup_tests.certificates import Credential, authority

SOAR = "spiffe://acme/ns/prod/sa/soar"
ISSUER = "https://issuer.example"
SERVERS, CLIENTS = authority("servers"), authority("clients")


def tls(directory: Path) -> str:
    """Write what a server with client certificates needs; returns its part of a configuration."""
    SERVERS.server().write(directory, "server")
    (directory / "clients.pem").write_bytes(CLIENTS.chain)
    return (
        f'[tls]\ncertificate = "{directory}/server.crt"\nkey = "{directory}/server.key"\n'
        f'client_ca = "{directory}/clients.pem"\n'
    )


def presenting(directory: Path, credential: Credential | None) -> tuple[str, ...]:
    """The options of a client with a certificate, or without one."""
    (directory / "servers.pem").write_bytes(SERVERS.chain)
    options = ("--cacert", f"{directory}/servers.pem")
    if credential is None:
        return options
    chain, key = credential.write(directory, "client")
    return (*options, "--cert", str(chain), "--key", str(key))


def trusting(source: str) -> str:
    """The part of a configuration that trusts the issuer, whose keys are at a source."""
    return f'[[token_issuers]]\nissuer = "{ISSUER}"\naudiences = ["stepup"]\n{source}\n'


@dataclass
class TokenIssuer:
    """Signs bearer tokens, and publishes its key in a file."""

    key: ECKey = field(default_factory=lambda: ECKey.generate_key("P-256", {"kid": "k1"}))

    def trusted(self, directory: Path) -> str:
        """Write its keys; returns the part of a configuration that trusts them."""
        file = directory / "jwks.json"
        file.write_text(json.dumps({"keys": [self.key.as_dict(private=False)]}))
        return trusting(f'jwks_file = "{file}"')

    def token(self, **claims: str | int) -> str:
        """A token that is good for five minutes, unless the claims say otherwise."""
        usual = {"iss": ISSUER, "aud": "stepup", "sub": "soar", "exp": int(time.time()) + 300}
        return jwt.encode({"alg": "ES256", "kid": "k1"}, usual | claims, self.key)


def bearing(token: str) -> tuple[str, ...]:
    """The options of a client with a bearer token."""
    return ("-H", f"authorization: Bearer {token}")


def configured(directory: Path, *parts: str) -> tuple[str, str]:
    """Write a configuration; returns the arguments that name it."""
    file = directory / "stepup.toml"
    file.write_text("\n".join(parts))
    return ("--config", str(file))
