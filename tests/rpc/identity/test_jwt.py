"""S15: a token of a configured issuer, or nothing (RFC 7519, RFC 8725)."""

import asyncio
import json
from base64 import urlsafe_b64encode

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws
from stepup_tests.clock import ManualClock
from stepup_tests.identity.door import doorkeeper, refusal, who
from stepup_tests.identity.tokens import (
    AUDIENCE,
    ISSUER,
    Published,
    bearing,
    claims_at,
    hmac_signed,
    key,
    public,
    put_together,
    signed,
)

from stepup.domain.errors import CallerUnauthenticatedError, OverloadedError, StoreUnavailableError
from stepup.rpc.engine import Invocation
from stepup.rpc.identity import jwt
from stepup.rpc.identity.certificate_files import CertificateFiles
from stepup.rpc.identity.jwt import Issuer, TokenIdentification
from stepup.rpc.identity.server_credentials import ServerCertificate
from stepup.rpc.identity.trusted_keys import TrustedKeys

KEY = key("k1")
OTHER = key("k2")
SOAR = f"jwt:{ISSUER}#soar"
KUBERNETES = "https://kubernetes.default.svc.cluster.local"


@pytest.fixture
def source():
    return Published(public(KEY))


@pytest.fixture
async def tokens(source, clock):
    return await accepting(source, clock)


async def accepting(source, clock, **options):
    """What accepts the tokens of one issuer."""
    keys = TrustedKeys(source, clock)
    tokens = TokenIdentification([Issuer(ISSUER, frozenset({AUDIENCE}), keys, **options)], clock)
    await tokens.poll()
    return tokens


async def identified(tokens, token):
    return await tokens.identify(bearing(f"Bearer {token}"))


async def refused(tokens, *values):
    with pytest.raises(CallerUnauthenticatedError) as error:
        await tokens.identify(bearing(*values))
    assert error.value.__cause__ is None
    assert error.value.__suppress_context__  # the library's text stays out of logs as well (S11)
    return str(error.value)


async def test_the_identity_is_issuer_and_subject(tokens, clock):
    assert await identified(tokens, signed(claims_at(clock), KEY)) == {SOAR}


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_the_scheme_is_taken_in_any_case(tokens, clock, scheme):
    token = signed(claims_at(clock), KEY)
    assert await tokens.identify(bearing(f"{scheme} {token}")) == {SOAR}


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": ["another", AUDIENCE]},
        {"iat": None},
        {"nbf": 0},
        {"exp": 4102444800.5},
        {"unknown": {"claims": ["are ignored"]}},
    ],
    ids=str,
)
async def test_claims_that_are_good(tokens, clock, changes):
    assert await identified(tokens, signed(claims_at(clock, **changes), KEY)) == {SOAR}


@pytest.mark.parametrize(
    "header",
    [
        {"typ": "JWT"},
        {"typ": "at+jwt"},
        {"typ": "application/AT+JWT"},
        {"kid": None},
        {"x5t": "ignored", "unknown": "ignored"},
    ],
    ids=str,
)
async def test_headers_that_are_good(tokens, clock, header):
    assert await identified(tokens, signed(claims_at(clock), KEY, **header)) == {SOAR}


@pytest.mark.parametrize(
    ("alg", "kind"),
    [
        ("RS256", "RSA"),
        ("PS256", "RSA"),
        ("ES256", "P-256"),
        ("ES384", "P-384"),
        ("EdDSA", "Ed25519"),
        ("Ed25519", "Ed25519"),
    ],
)
async def test_algorithms_that_are_good(clock, alg, kind):
    signing = key("k", kind)
    tokens = await accepting(Published(public(signing)), clock)
    assert await identified(tokens, signed(claims_at(clock), signing, alg)) == {SOAR}


EMBEDDED = {"jwk": OTHER.as_dict(private=False)}
PEM = KEY.as_bytes(private=False)


@pytest.mark.parametrize(
    ("forge", "message"),
    [
        (lambda c: put_together({"alg": "none"}, c), "algorithm"),
        (lambda c: put_together({"alg": "None"}, c), "algorithm"),
        (lambda c: put_together({"alg": "none", "kid": "k1"}, c, b"x"), "algorithm"),
        (lambda c: put_together({}, c, b"x"), "algorithm"),
        (lambda c: put_together({"alg": ["ES256"]}, c, b"x"), "algorithm"),
        (lambda c: hmac_signed(c, PEM, kid="k1"), "algorithm"),
        (lambda c: hmac_signed(c, public(KEY), kid="k1"), "algorithm"),
        (lambda c: put_together({"alg": "ES256", "kid": "k1"}, c), "signature"),
        (lambda c: put_together({"alg": "ES256", "kid": "k1"}, c, bytes(64)), "signature"),
        (lambda c: put_together({"alg": "ES256", "kid": "k1"}, c, b"x"), "signature"),
        (lambda c: put_together({"alg": "RS256", "kid": "k1"}, c, bytes(256)), "signature"),
        (lambda c: signed(c, OTHER, kid="k1"), "signature"),
        (lambda c: signed(c, OTHER, kid="k1", **EMBEDDED), "signature"),
        (lambda c: signed(c, OTHER), "a key that its issuer does not publish"),
        (lambda c: signed(c, OTHER, **EMBEDDED), "a key that its issuer does not publish"),
        (lambda c: put_together({"alg": "ES256", "kid": 1}, c, bytes(64)), "not a JWT"),
        (lambda c: signed(c, KEY, typ="logout+jwt"), "type"),
        (lambda c: put_together({"alg": "ES256", "kid": "k1", "typ": 7}, c, b"x"), "type"),
        (
            lambda c: put_together({"alg": "ES256", "kid": "k1", "crit": ["x"], "x": 1}, c, b"x"),
            "critical",
        ),
        (lambda c: put_together({"alg": "ES256", "kid": "k1", "b64": False}, c, b"x"), "critical"),
    ],
)
async def test_s15_a_forged_token_is_refused(tokens, clock, forge, message):
    assert message in await refused(tokens, f"Bearer {forge(claims_at(clock))}")


@pytest.mark.parametrize("part", [0, 1, 2], ids=["header", "payload", "signature"])
async def test_s15_a_token_of_which_one_part_was_changed_is_refused(tokens, clock, part):
    genuine = signed(claims_at(clock), KEY).split(".")
    other = signed(claims_at(clock, sub="master"), KEY, typ="JWT").split(".")
    genuine[part] = other[part]
    assert "signature" in await refused(tokens, f"Bearer {'.'.join(genuine)}")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"iss": "https://another.example"}, "the token's issuer is not one that is accepted here"),
        ({"iss": f"{ISSUER}/"}, "the token's issuer is not one that is accepted here"),
        ({"iss": None}, "the token's issuer is not one that is accepted here"),
        ({"iss": [ISSUER]}, "the token's issuer is not one that is accepted here"),
        ({"aud": "another"}, "the token is for another audience"),
        ({"aud": None}, "the token is for another audience"),
        ({"aud": []}, "the token is for another audience"),
        ({"aud": ["another", 5, [AUDIENCE]]}, "the token is for another audience"),
        ({"aud": {AUDIENCE: 1}}, "the token is for another audience"),
        ({"exp": None}, "the token has no expiry"),
        ({"exp": 1}, "the token has expired"),
        ({"exp": "4102444800"}, "the token has a time that is not a number"),
        ({"exp": True}, "the token has a time that is not a number"),
        ({"exp": float("nan")}, "the token has a time that is not a number"),
        ({"exp": float("inf")}, "the token has a time that is not a number"),
        pytest.param(
            {"exp": 10**400},
            "the token has a time that is not a number",
            id="exp beyond all floats",
        ),
        ({"nbf": 4102444800}, "the token is not valid yet"),
        ({"iat": 4102444800}, "the token is not valid yet"),
        ({"iat": "now"}, "the token has a time that is not a number"),
        ({"sub": None}, "the token has no subject"),
        ({"sub": ""}, "the token has no subject"),
        ({"sub": ["soar"]}, "the token has no subject"),
        ({"sub": "soar\n"}, "the token's subject is not printable ASCII of an acceptable length"),
        ({"sub": "söar"}, "the token's subject is not printable ASCII of an acceptable length"),
        ({"sub": "x" * 256}, "the token's subject is not printable ASCII of an acceptable length"),
    ],
    ids=str,
)
async def test_s15_a_token_with_wrong_claims_is_refused(tokens, clock, changes, message):
    token = signed(claims_at(clock, **changes), KEY)
    assert await refused(tokens, f"Bearer {token}") == message


@pytest.mark.parametrize("claim", ["nbf", "iat"])
async def test_an_issuers_clock_may_be_a_little_ahead(tokens, clock, claim):
    now = int(clock.now().timestamp())
    token = signed(claims_at(clock, **{claim: now + 30}), KEY)
    assert await identified(tokens, token) == {SOAR}
    late = signed(claims_at(clock, **{claim: now + 32}), KEY)
    assert await refused(tokens, f"Bearer {late}") == "the token is not valid yet"


async def test_s15_a_token_expires_on_the_second_remembered_or_not(tokens, clock):
    remembered = signed(claims_at(clock, exp=clock.now().timestamp() + 60), KEY)
    new = signed(claims_at(clock, exp=clock.now().timestamp() + 60, jti="2"), KEY)
    clock.advance(seconds=59.9)
    assert await identified(tokens, remembered) == {SOAR}
    clock.advance(seconds=0.1)
    assert await refused(tokens, f"Bearer {remembered}") == "the token has expired"
    assert await refused(tokens, f"Bearer {new}") == "the token has expired"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "a bearer token is required in the authorization metadata"),
        (["Bearer a", "Bearer b"], "the authorization metadata must be given once"),
        (["Basic dXNlcjpwYXNz"], "the authorization metadata must have the scheme Bearer"),
        (["Bearer"], "the token is not a JWT"),
        (["Bearer "], "the token is not a JWT"),
        ([""], "the authorization metadata must have the scheme Bearer"),
        (["Bearer a.b"], "the token is not a JWT"),
        (["Bearer a.b.c.d.e"], "the token is not a JWT"),
        (["Bearer e30.e30.\n"], "the token is not a JWT"),
        (["Bearer W10.W10.x"], "the token is not a JWT"),
        (["Bearer MQ.e30.x"], "the token is not a JWT"),
        ([b"Bearer \xff"], "the authorization metadata is not ASCII text"),
        (["Bearer \N{FULLWIDTH DIGIT ONE}"], "the authorization metadata is not ASCII text"),
        (["Bearer " + "A" * 100_000], "the token is too long"),
        (["Bearer " + "A" * 8193], "the token is too long"),
    ],
)
async def test_s15_what_is_no_token_is_refused(tokens, values, message):
    assert await refused(tokens, *values) == message


def encoded(text):
    return urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "claims",
    ["[" * 4000, '{"a":' * 800, f'{{"iss":"{ISSUER}","iss":"{ISSUER}"}}', '{"exp":' + "9" * 5000],
    ids=["deep list", "deep object", "a claim twice", "a huge number"],
)
async def test_s18_json_that_is_made_to_hurt_is_no_jwt(tokens, claims):
    token = ".".join((encoded('{"alg":"ES256"}'), encoded(claims), "x"))
    assert await refused(tokens, f"Bearer {token}") == "the token is not a JWT"


async def test_an_algorithm_counts_only_for_the_issuers_that_use_it(clock):
    tokens = await accepting(Published(public(KEY)), clock, algorithms=frozenset({"RS256"}))
    assert "algorithm" in await refused(tokens, f"Bearer {signed(claims_at(clock), KEY)}")


@pytest.mark.parametrize("algorithm", ["none", "HS256", "HS512", "ES256K", "unknown"])
def test_no_issuer_can_be_allowed_such_an_algorithm(clock, source, algorithm):
    with pytest.raises(ValueError, match="algorithms must be of ES256"):
        Issuer(ISSUER, frozenset({AUDIENCE}), TrustedKeys(source, clock), frozenset({algorithm}))


@pytest.mark.parametrize(
    ("name", "audiences"),
    [("", {"stepup"}), ("https://issuer.example#", {"stepup"}), (ISSUER, {}), (ISSUER, {""})],
)
def test_an_issuer_needs_a_name_that_can_be_told_from_a_subject_and_audiences(
    clock, source, name, audiences
):
    with pytest.raises(ValueError, match="an issuer must"):
        Issuer(name, frozenset(audiences), TrustedKeys(source, clock))


@pytest.mark.parametrize("number", [0, 2])
def test_issuers_have_a_name_each(clock, source, number):
    issuer = Issuer(ISSUER, frozenset({AUDIENCE}), TrustedKeys(source, clock))
    with pytest.raises(ValueError, match="each with a name of its own"):
        TokenIdentification([issuer] * number, clock)


async def test_s15_each_issuer_speaks_for_itself_only(clock):
    issuers = [
        Issuer(name, frozenset({AUDIENCE}), TrustedKeys(Published(public(signing)), clock))
        for name, signing in (("one", key("a")), ("two", key("b")))
    ]
    tokens = TokenIdentification(issuers, clock)
    await tokens.poll()
    genuine = signed(claims_at(clock, iss="two"), key("b"))
    assert await identified(tokens, genuine) == {"jwt:two#soar"}
    forged = signed(claims_at(clock, iss="two"), key("a"), kid="b")
    assert "signature" in await refused(tokens, f"Bearer {forged}")


async def test_a_service_account_of_kubernetes_is_an_identity(clock):
    """As its API server signs them: no type, several audiences, claims of its own."""
    signing = key("cluster", "RSA")
    keys = TrustedKeys(Published(public(signing, use="sig", alg="RS256")), clock)
    tokens = TokenIdentification([Issuer(KUBERNETES, frozenset({"stepup.prod.svc"}), keys)], clock)
    await tokens.poll()
    claims = claims_at(
        clock,
        iss=KUBERNETES,
        aud=["stepup.prod.svc"],
        sub="system:serviceaccount:prod:soar",
        jti="8f0c7b1e-7f8e-4a55-9d1b-0c8a4b0e2f10",
        nbf=int(clock.now().timestamp()),
        **{"kubernetes.io": {"namespace": "prod", "serviceaccount": {"name": "soar"}}},
    )
    assert await identified(tokens, signed(claims, signing, "RS256")) == {
        f"jwt:{KUBERNETES}#system:serviceaccount:prod:soar"
    }


@pytest.fixture
def verifications(monkeypatch):
    """Counts the signatures that are verified."""
    counted, verify = [], jws.deserialize_compact

    def counting(*arguments, **options):
        counted.append(1)
        return verify(*arguments, **options)

    monkeypatch.setattr(jws, "deserialize_compact", counting)
    return counted


async def test_a_token_is_verified_once(tokens, clock, verifications):
    token = signed(claims_at(clock), KEY)
    for _ in range(5):
        assert await identified(tokens, token) == {SOAR}
    assert len(verifications) == 1


async def test_s18_the_verified_tokens_that_are_remembered_are_bounded(
    tokens, clock, verifications, monkeypatch
):
    monkeypatch.setattr(jwt, "MAX_VERIFIED_TOKENS", 2)
    first, second, third = (signed(claims_at(clock, jti=str(n)), KEY) for n in range(3))
    for token in (first, second, first, third):
        await identified(tokens, token)
    del verifications[:]
    await identified(tokens, first)  # used more lately than the second
    assert len(verifications) == 0
    await identified(tokens, second)
    assert len(verifications) == 1


async def test_a_token_that_was_refused_is_not_remembered_as_good(tokens, clock):
    token = signed(claims_at(clock, aud="another"), KEY)
    for _ in range(2):
        assert await refused(tokens, f"Bearer {token}") == "the token is for another audience"


async def test_s15_a_withdrawn_key_ends_the_tokens_that_it_verified(tokens, source, clock):
    token = signed(claims_at(clock), KEY)
    assert await identified(tokens, token) == {SOAR}
    source.document = public(OTHER)
    clock.advance(seconds=source.refresh_seconds)
    await tokens.poll()
    assert "does not publish" in await refused(tokens, f"Bearer {token}")


async def test_a_new_key_counts_from_its_first_token_on(tokens, source, clock):
    clock.advance(seconds=10)
    source.document = public(KEY, OTHER)
    assert await identified(tokens, signed(claims_at(clock), OTHER)) == {SOAR}


async def test_s17_without_keys_nobody_can_say_whether_a_token_is_good(source, clock):
    source.problem = "does not answer"
    tokens = await accepting(source, clock)
    token = signed(claims_at(clock), KEY)
    with pytest.raises(StoreUnavailableError, match="issuer are not known at present"):
        await identified(tokens, token)
    with pytest.raises(StoreUnavailableError, match=f"no keys of {ISSUER} are known"):
        tokens.demand_keys()
    assert not tokens.has_keys
    source.problem = None
    clock.advance(seconds=10)
    assert await identified(tokens, token) == {SOAR}
    assert tokens.has_keys
    tokens.demand_keys()


async def test_s15_an_issuer_that_has_withdrawn_every_key_lets_nobody_in(tokens, source, clock):
    token = signed(claims_at(clock), KEY)
    assert await identified(tokens, token) == {SOAR}
    source.document = b'{"keys": []}'
    clock.advance(seconds=source.refresh_seconds)
    await tokens.poll()
    assert "does not publish" in await refused(tokens, f"Bearer {token}")
    assert not tokens.has_keys


class Hanging(Published):
    """Answers once, and then when the test says so."""

    def __init__(self, document):
        super().__init__(document)
        self.answer = asyncio.Event()
        self.answer.set()

    async def fetch(self):
        document = await super().fetch()
        await self.answer.wait()
        return document


async def test_s26_of_calls_with_unknown_keys_few_wait_for_an_issuer_that_hangs(clock):
    source = Hanging(public(KEY))
    tokens = await accepting(source, clock)
    source.answer.clear()
    clock.advance(seconds=10)
    unknown = signed(claims_at(clock), OTHER)

    def call(network, token=unknown):
        metadata = (("authorization", f"Bearer {token}"),)
        peer = f"ipv4:192.0.2.{network}:1"
        return asyncio.create_task(tokens.identify(Invocation(peer, metadata)))

    flood = [call(network) for network in range(10) for _ in range(20)]
    await asyncio.sleep(0.05)
    waiting = [each for each in flood if not each.done()]
    assert len(waiting) == jwt.MAX_WAITING
    assert {type(each.exception()) for each in flood if each.done()} == {OverloadedError}
    assert await call(1, signed(claims_at(clock), KEY)) == {SOAR}
    source.answer.set()
    errors = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(error) for error in errors} == {CallerUnauthenticatedError}
    assert source.fetches == 2


async def test_s17_one_issuer_that_hangs_does_not_keep_the_keys_of_another(clock):
    hanging, other = Hanging(public(KEY)), Published(public(OTHER))
    hanging.answer.clear()
    tokens = TokenIdentification(
        [
            Issuer(name, frozenset({AUDIENCE}), TrustedKeys(source, clock, fetch_seconds=0.05))
            for name, source in ((ISSUER, hanging), ("https://other.example", other))
        ],
        clock,
    )
    polling = asyncio.create_task(tokens.poll())
    await asyncio.sleep(0.01)
    assert tokens.has_keys
    await polling
    with pytest.raises(StoreUnavailableError, match=f"no keys of {ISSUER} are known"):
        tokens.demand_keys()


async def test_a_token_goes_through_the_wire(make_engine, tokens, clock, servers_ca, tmp_path):
    files = CertificateFiles(*servers_ca.server().write(tmp_path, "server"))
    credentials = ServerCertificate(files, clock).credentials()
    header = ("authorization", f"Bearer {signed(claims_at(clock), KEY)}")
    async with (
        doorkeeper(make_engine, tokens, credentials) as door,
        door.channel(servers_ca.chain) as channel,
    ):
        assert await who(channel, [header]) == SOAR
        assert await refusal(channel, [header, header]) == (
            grpc.StatusCode.UNAUTHENTICATED,
            "the authorization metadata must be given once",
        )
        assert await refusal(channel) == (
            grpc.StatusCode.UNAUTHENTICATED,
            "a bearer token is required in the authorization metadata",
        )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
HEADERS = st.dictionaries(
    st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jwk", "jku", "x5c", "cty"]),
    JSON | st.sampled_from(["ES256", "RS256", "EdDSA", "none", "HS256", "k1", "JWT", ["b64"]]),
)
CLAIMS = st.dictionaries(
    st.sampled_from(["iss", "aud", "exp", "nbf", "iat", "sub"]),
    JSON | st.sampled_from([ISSUER, AUDIENCE, 4102444800]),
)


def outcome(value):
    """What becomes of a value of `authorization`: the message, or the identities."""

    async def attempt():
        clock = ManualClock()
        tokens = await accepting(Published(public(KEY)), clock)
        try:
            return await tokens.identify(bearing(value))
        except CallerUnauthenticatedError as error:
            return str(error)

    return asyncio.run(attempt())


@given(st.binary(max_size=300))
def test_s18_arbitrary_bytes_are_refused_and_nothing_else(octets):
    for value in (octets, f"Bearer {octets.decode('latin-1')}", octets.decode("latin-1")):
        assert isinstance(outcome(value), str)


@given(HEADERS | JSON, CLAIMS | JSON, st.binary(max_size=80))
def test_s18_arbitrary_json_is_refused_and_nothing_else(header, claims, signature):
    assert isinstance(outcome(f"Bearer {put_together(header, claims, signature)}"), str)


@given(CLAIMS | JSON)
def test_s18_of_arbitrary_claims_that_the_issuer_signed_none_is_an_internal_error(claims):
    result = outcome(f"Bearer {signed(json.dumps(claims).encode(), KEY)}")
    if not isinstance(result, str):
        assert claims["aud"] == AUDIENCE or AUDIENCE in claims["aud"]
        assert result == {f"jwt:{ISSUER}#{claims['sub']}"}


@given(st.data())
def test_s15_no_token_with_one_character_changed_is_accepted(data):
    token = signed(claims_at(ManualClock()), KEY)
    place = data.draw(st.integers(0, len(token) - 2))
    character = data.draw(st.characters(max_codepoint=127).filter(lambda c: c != token[place]))
    changed = f"{token[:place]}{character}{token[place + 1 :]}"
    assert isinstance(outcome(f"Bearer {changed}"), str)


async def test_s11_no_part_of_a_token_is_in_the_repr_of_a_call():
    assert "secret" not in repr(Invocation("peer", (("authorization", "Bearer secret"),)))


@pytest.mark.parametrize("name", ["https://issuer.example\0", "https://issuer.example\n"])
def test_s29_an_issuer_whose_name_has_control_characters_is_refused(name):
    with pytest.raises(ValueError, match="control characters"):
        Issuer(name, frozenset({"stepup"}), None)
