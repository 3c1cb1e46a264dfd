"""Identities that no credentials can prove are told of, and no others (S15)."""

import pytest

from stepup.settings import Settings
from stepup.settings.callers import CallerSettings, TlsSettings, TokenIssuerSettings
from stepup.wiring.credentials import unprovable

SPIFFE, TOKEN = "spiffe://acme/soar", "jwt:https://issuer.example#soar"
TLS = TlsSettings(certificate="c", key="k", client_ca="ca")
ISSUER = TokenIssuerSettings(
    issuer="https://issuer.example", audiences=["stepup"], jwks_file="jwks.json"
)


def problems(*identities, tls=None, issuers=()):
    caller = CallerSettings(name="soar", identities=identities)
    return list(unprovable(caller, Settings(tls=tls, token_issuers=issuers)))


@pytest.mark.parametrize(
    ("identities", "credentials"),
    [
        ([SPIFFE], {"tls": TLS}),
        ([TOKEN], {"issuers": [ISSUER]}),
        ([SPIFFE, TOKEN], {"tls": TLS, "issuers": [ISSUER]}),
        ([TOKEN], {"tls": TLS.model_copy(update={"client_ca": None}), "issuers": [ISSUER]}),
    ],
    ids=["certificate", "token", "both", "token over TLS"],
)
def test_identities_of_the_credentials_that_are_demanded_are_provable(identities, credentials):
    assert problems(*identities, **credentials) == []


def test_a_certificate_proves_nothing_where_none_is_demanded():
    assert problems(SPIFFE, TOKEN, issuers=[ISSUER]) == [
        f"without tls.client_ca no certificate proves {SPIFFE}"
    ]


@pytest.mark.parametrize(
    "identity",
    [
        "jwt:https://other.example#soar",
        "jwt:https://issuer.example#",
        "jwt:https://issuer.example",
        "https://issuer.example#soar",
        "spiffe://acme",
        "SPIFFE://acme/soar",
        "soar",
    ],
)
def test_what_is_no_identity_of_a_configured_kind_is_told_of(identity):
    [problem] = problems(identity, SPIFFE, TOKEN, tls=TLS, issuers=[ISSUER])
    assert problem.startswith(f"{identity} is neither ")


def test_where_both_credentials_are_demanded_a_caller_needs_an_identity_of_each():
    both = {"tls": TLS, "issuers": [ISSUER]}
    [without_token], [without_certificate] = problems(SPIFFE, **both), problems(TOKEN, **both)
    assert without_token.startswith("the server demands a token")
    assert without_certificate.startswith("the server demands a certificate")
