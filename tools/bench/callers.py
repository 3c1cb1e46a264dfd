"""The callers of a benchmark: their credentials, and a configuration file for each kind."""

import json
import time

import grpc
from joserfc import jwt
from joserfc.jwk import ECKey
from stepup_tests.certificates import DAY, authority

from tools.bench.variants import Access

_ISSUER = "https://issuer.example"
_SPIFFE = "spiffe://acme/ns/prod/sa/console"
_CONFIG = """
[storage]
data_dir = "{directory}/data"
redis_url = "redis://{store}/0"
{database}
[metrics]
listen = "127.0.0.1:0"

{credentials}
[[callers]]
name = "playbooks"
identities = ["spiffe://acme/ns/prod/sa/playbooks", "jwt:{issuer}#playbooks"]
[[callers.rules]]
methods = ["StepUpService/CheckStepUp"]
tenants = ["*"]
operations = ["response.*"]
claims = ["automatic_playbook"]

[[callers]]
name = "console"
identities = ["{spiffe}", "jwt:{issuer}#console"]
[[callers.rules]]
methods = ["EnrollmentService/*", "PolicyService/*", "StepUpService/*"]
tenants = ["*"]
operations = ["account.*", "iam.*", "response.*"]
claims = ["master_administrator"]
"""
_OTHER = """
[[callers]]
name = "service-{number}"
identities = ["jwt:{issuer}#service-{number}"]
[[callers.rules]]
methods = ["StepUpService/CheckStepUp"]
tenants = ["*"]
operations = ["response.*"]
"""
_TOKENS = """
[[token_issuers]]
issuer = "{issuer}"
audiences = ["stepup"]
jwks_file = "{directory}/jwks.json"
"""
_TLS = """
[tls]
certificate = "{directory}/server.crt"
key = "{directory}/server.key"
"""
_CREDENTIALS = {
    Access.TOKEN: _TOKENS,
    Access.TOKEN_OVER_TLS: _TLS + _TOKENS,
    Access.CERTIFICATE: _TLS + 'client_ca = "{directory}/clients.pem"\n',
}


class Console:
    """The service that asks, with every credential that it can have.

    Args:
        directory: for the files that servers read.
        store: its host and port.
        others: how many other callers there are, beside two.
        database_url: where the durable state lies; absent, it is SQLite in the data directory.
    """

    def __init__(self, directory, store, others=0, database_url=None) -> None:
        self._directory = directory
        self._key = ECKey.generate_key("P-256", {"kid": "bench"})
        self._token = self.token("console")
        self._write_files(store, others, database_url)

    def config(self, access):
        """The server's configuration file."""
        return self._directory / f"{access.value}.toml"

    def metadata(self, access):
        """What is sent beside a request."""
        if access is Access.CERTIFICATE:
            return ()
        return (("authorization", f"Bearer {self._token}"),)

    def channel(self, address, access):
        """A channel of grpcio's client."""
        if access is Access.TOKEN:
            return grpc.insecure_channel(address)
        roots = authority("servers").chain
        if access is Access.TOKEN_OVER_TLS:
            return grpc.secure_channel(address, grpc.ssl_channel_credentials(roots))
        own = authority("clients").client(_SPIFFE)
        credentials = grpc.ssl_channel_credentials(roots, own.key, own.chain)
        return grpc.secure_channel(address, credentials)

    def token(self, subject):
        """A token of a caller: `console`, or one of the others, `service-0` and so on."""
        expires_at = int(time.time() + DAY.total_seconds())
        claims = {"iss": _ISSUER, "aud": "stepup", "sub": subject, "exp": expires_at}
        return jwt.encode({"alg": "ES256", "kid": self._key.kid}, claims, self._key)

    def _write_files(self, store, others, database_url):
        directory = self._directory
        authority("servers").server().write(directory, "server")
        (directory / "clients.pem").write_bytes(authority("clients").chain)
        jwks = {"keys": [self._key.as_dict(private=False)]}
        (directory / "jwks.json").write_text(json.dumps(jwks))
        for access, credentials in _CREDENTIALS.items():
            config = _CONFIG.format(
                directory=directory,
                store=store,
                database=f'database_url = "{database_url}"\n' if database_url else "",
                issuer=_ISSUER,
                spiffe=_SPIFFE,
                credentials=credentials.format(directory=directory, issuer=_ISSUER),
            )
            further = (_OTHER.format(number=n, issuer=_ISSUER) for n in range(others))
            self.config(access).write_text(config + "".join(further))
