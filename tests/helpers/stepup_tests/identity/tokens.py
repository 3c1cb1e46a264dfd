"""An issuer of tokens that is not ours, and a place where it publishes its keys."""

import hmac
import json
from base64 import urlsafe_b64encode
from functools import cache

from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc import jws
from joserfc.jwk import ECKey, OKPKey, RSAKey

from stepup.rpc.engine import Invocation
from stepup.rpc.identity.jwks import JwksError

ISSUER = "https://issuer.example"
AUDIENCE = "stepup"


@cache
def key(kid, kind="EC"):
    """A private key, the same one for the whole session."""
    parameters = {"kid": kid}
    if kind == "RSA":
        # Not by joserfc, which would warn of the short one.
        bits = 1024 if kid == "short" else 2048
        private = rsa.generate_private_key(65537, bits)
        return RSAKey(private, private, parameters)
    if kind == "Ed25519":
        return OKPKey.generate_key("Ed25519", parameters)
    return ECKey.generate_key({"EC": "P-256"}.get(kind, kind), parameters)


def public(*keys, **parameters):
    """A JWKS of the keys' public halves."""
    return json.dumps({"keys": [{**k.as_dict(private=False), **parameters} for k in keys]}).encode()


def signed(claims, by, alg="ES256", **header):
    """A token; the claims may be bytes, which are taken as they are."""
    payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    header = {"alg": alg, "kid": by.kid, **header}
    header = {name: value for name, value in header.items() if value is not None}
    registry = jws.JWSRegistry(algorithms=[alg], strict_check_header=False)
    if alg == "EdDSA":  # joserfc warns of the name
        signature = jws.JWSRegistry.algorithms[alg].sign(_input(header, payload), by)
        return (_input(header, payload) + b"." + _encoded(signature)).decode()
    return jws.serialize_compact(header, payload, by, registry=registry)


def put_together(header, claims, signature=b""):
    """A token of which nobody says that it is right."""
    segments = [json.dumps(part).encode() for part in (header, claims)]
    return b".".join(map(_encoded, (*segments, signature))).decode()


def hmac_signed(claims, secret, **header):
    """A token that is signed with what is no secret. joserfc would not do it."""
    signing_input = _input({"alg": "HS256", **header}, json.dumps(claims).encode())
    signature = hmac.digest(secret, signing_input, "sha256")
    return (signing_input + b"." + _encoded(signature)).decode()


def _encoded(octets):
    return urlsafe_b64encode(octets).rstrip(b"=")


def _input(header, payload):
    return _encoded(json.dumps(header).encode()) + b"." + _encoded(payload)


def claims_at(clock, **changes):
    """Good claims, with changes; None takes a claim away."""
    now = int(clock.now().timestamp())
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "soar", "iat": now, "exp": now + 600}
    return {name: value for name, value in {**claims, **changes}.items() if value is not None}


def bearing(*values):
    """A call with these values of `authorization`."""
    return Invocation("peer", tuple(("authorization", value) for value in values))


class Published:
    """A source whose document and failures a test decides on."""

    refresh_seconds = 300.0

    def __init__(self, document, name="published"):
        self.document = document
        self.name = name
        self.fetches = 0
        self.problem = None

    def __str__(self):
        return self.name

    async def fetch(self):
        self.fetches += 1
        if self.problem:
            raise JwksError(self.problem)
        return self.document
