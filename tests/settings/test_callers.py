"""Who may call, as the configuration file says it (S15, S16)."""

import pytest
from stepup_tests.clock import ManualClock
from stepup_tests.identity.tokens import key, public

from stepup.domain.callers import Claim
from stepup.domain.origins import WebOrigin, origin_of
from stepup.domain.rate import Rate
from stepup.rpc.engine import Invocation
from stepup.settings import ConfigurationError, load
from stepup.wiring.credentials import LOCAL, credentials_of, demand_credentials

ISSUER = """
[[token_issuers]]
issuer = "https://issuer.example"
audiences = ["stepup"]
jwks_file = "jwks.json"
"""
TLS = '[tls]\ncertificate = "c"\nkey = "k"\nclient_ca = "a"\n'
CALLER = """
[[callers]]
name = "soar"
identities = ["spiffe://acme/soar"]
[[callers.rules]]
methods = ["StepUpService/*"]
tenants = ["acme"]
operations = ["response.*"]
claims = ["automatic_playbook"]
"""
RATE = "rate = { per_second = 0.5, burst = 20 }\n"


@pytest.fixture
def loaded(tmp_path):
    def load_text(text):
        file = tmp_path / "stepup.toml"
        file.write_text(text)
        return load(file)

    return load_text


def test_a_caller_has_the_rules_that_are_written(loaded):
    caller = loaded(ISSUER + CALLER).registered_callers.identified("spiffe://acme/soar")
    rule = caller.rule_for(
        "StepUpService/VerifyOtp", "acme", "response.run_osquery", Claim.AUTOMATIC_PLAYBOOK
    )
    assert rule.origin == "callers[0].rules[0]"


def test_a_caller_has_the_rate_that_is_written(loaded):
    text = ISSUER + CALLER.replace("[[callers.rules]]", f"{RATE}[[callers.rules]]")
    assert loaded(text).registered_callers.named("soar").rate == Rate(per_second=0.5, burst=20)


def titled(title):
    return ISSUER + CALLER.replace('name = "soar"', f'name = "soar"\ntitle = "{title}"')


@pytest.mark.parametrize(
    ("text", "title"), [(titled("Réponse 🛡"), "Réponse 🛡"), (ISSUER + CALLER, "soar")]
)
def test_people_read_the_title_of_a_caller_or_else_its_name(loaded, text, title):
    assert loaded(text).registered_callers.named("soar").title_for_people == title


@pytest.mark.parametrize("title", ["", " ", "a\\nb", "a\\u202eb", "x" * 201])
def test_s24_a_title_that_is_no_text_for_people_is_refused(loaded, title):
    with pytest.raises(ConfigurationError, match=r"callers\.0\.title"):
        loaded(titled(title))


def with_line(line):
    return ISSUER + CALLER.replace('name = "soar"', f'name = "soar"\n{line}')


def test_s21_pages_that_a_caller_opens_return_to_its_origins_only(loaded):
    text = with_line('return_origins = ["https://console.example:8443"]')
    soar = loaded(text).registered_callers.named("soar")
    assert soar.may_return_to(origin_of("https://console.example:8443/settings"))
    assert not soar.may_return_to(origin_of("https://console.example/settings"))
    assert not soar.may_return_to(origin_of("http://127.0.0.1:8443/settings"))


def test_s21_a_caller_without_origins_opens_no_page_and_is_no_web_process(loaded):
    soar = loaded(ISSUER + CALLER).registered_callers.named("soar")
    assert not soar.may_return_to(WebOrigin("https://console.example"))
    assert not soar.is_portal


def test_the_web_process_is_a_caller_that_is_named(loaded):
    assert loaded(with_line("portal = true")).registered_callers.named("soar").is_portal


@pytest.mark.parametrize(
    "origin", ["*", "https://*.example", "https://console.example/", "http://a"]
)
def test_s21_an_origin_of_return_urls_is_written_exactly(loaded, origin):
    with pytest.raises(ConfigurationError, match=r"callers\.0\.return_origins\.0"):
        loaded(with_line(f'return_origins = ["{origin}"]'))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (RATE.replace("0.5", "0"), r"callers\[0\].rate must have per_second from 0.1 to 10000"),
        (RATE.replace("20", "0"), r"callers\[0\].rate must have a burst from 1 to 10000"),
        (RATE.replace(", burst = 20", ""), "callers.0.rate.burst: Field required"),
        (RATE.replace("burst", "bursts"), "callers.0.rate.bursts"),
        (RATE.replace("0.5", "nan"), "per_second"),
    ],
    ids=["pace", "burst", "half", "unknown", "no number"],
)
def test_a_rate_that_does_not_do_is_named(loaded, wrong, said):
    text = ISSUER + CALLER.replace("[[callers.rules]]", f"{wrong}[[callers.rules]]")
    with pytest.raises(ConfigurationError, match=said):
        loaded(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (CALLER, "callers: the server identifies them by tls or token_issuers"),
        ('[tls]\ncertificate = "c"\nkey = "k"\n', "tls.client_ca: callers must have credentials"),
        (ISSUER + CALLER.replace('"acme"', '"a*e"'), "callers[0].rules[0] must be names"),
        (ISSUER + CALLER + CALLER, "has the caller 'soar' twice"),
        (ISSUER + CALLER.replace("automatic_playbook", "omnipotence"), "claims"),
        (ISSUER + CALLER.replace('"soar"', '"so\\nar"'), "callers.0.name"),
        (ISSUER.replace("jwks_file", "jwks"), "jwks"),
        (ISSUER + 'jwks_url = "https://issuer.example/jwks"', "either jwks_file or jwks_url"),
    ],
    ids=[
        "nothing to tell callers apart by",
        "TLS alone",
        "wildcard in the middle",
        "twice",
        "unknown claim",
        "bad name",
        "unknown setting",
        "two sources",
    ],
)
def test_what_does_not_hold_together_is_named(loaded, text, said):
    with pytest.raises(ConfigurationError) as refused:
        loaded(text)
    assert said in str(refused.value)
    assert not str(refused.value).startswith(":")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (ISSUER.replace("jwks_file", "algorithms = ['HS256']\njwks_file"), "algorithms"),
        (ISSUER.replace('jwks_file = "jwks.json"', 'jwks_url = "http://far.example"'), "https"),
        (
            '[tls]\ncertificate = "gone.crt"\nkey = "gone.key"\nclient_ca = "gone.pem"\n',
            "gone.crt",
        ),
    ],
    ids=["symmetric algorithm", "plain http", "no such file"],
)
def test_credentials_that_cannot_be_used_are_named(loaded, text, said):
    with pytest.raises(ConfigurationError) as refused:
        credentials_of(loaded(text), ManualClock())
    assert said in str(refused.value)


NEAR = 'redis_url = "redis://10.0.0.7"'
TRUSTED = "insecure_anyone_on_the_network_is_trusted"
REFUSED = {
    "nothing said": ("", "server.insecure: callers have no credentials"),
    "both": ("[server]\ninsecure = true\n" + ISSUER, "server.insecure: contradicts"),
    "a trial for other machines": (
        '[server]\ninsecure = true\nlisten = "0.0.0.0:1"\n',
        "server.listen: 0.0.0.0 is not a loopback address",
    ),
    "everybody is trusted, with credentials": (
        f"[server]\n{TRUSTED} = true\n" + ISSUER,
        f"server.{TRUSTED}: contradicts",
    ),
    "everybody is trusted, with a store that is far": (
        f'[server]\n{TRUSTED} = true\n[storage]\nredis_url = "rediss://8.8.8.8"\n',
        f"server.{TRUSTED}: refused, because storage.redis_url names a host",
    ),
    "tokens in plaintext for other machines": (
        '[server]\nlisten = "[::]:1"\n' + ISSUER,
        "server.listen: :: is not a loopback address",
    ),
}


@pytest.mark.parametrize(("text", "said"), REFUSED.values(), ids=REFUSED)
def test_s15_what_must_not_be_served_is_valid_but_for_serving(loaded, text, said):
    settings = loaded(text)
    with pytest.raises(ConfigurationError) as refused:
        demand_credentials(settings)
    [problem] = str(refused.value).split("\n")
    assert problem.startswith(said)


@pytest.mark.parametrize(
    "text",
    [
        "[server]\ninsecure = true\n",
        ISSUER,
        '[server]\nlisten = "0.0.0.0:1"\n' + TLS,
        f'[server]\nlisten = "0.0.0.0:1"\n{TRUSTED} = true\n[storage]\n{NEAR}\n',
    ],
    ids=["a trial", "tokens on this machine", "certificates", "everybody on the network"],
)
def test_s15_credentials_or_a_trial_may_be_served(loaded, text):
    demand_credentials(loaded(text))


@pytest.fixture
def issuer(tmp_path):
    """Writes an issuer's keys, and tells the table of the issuer; without keys it has no file."""

    def table(name, jwks=None):
        file = tmp_path / f"{name}.json"
        if jwks is not None:
            file.write_bytes(jwks)
        return ISSUER.replace("issuer.example", name).replace("jwks.json", str(file))

    return table


@pytest.mark.parametrize(
    ("jwks", "said"),
    [
        (None, "cannot be read"),
        (b"{}", "has no JWKS"),
        (b'{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}', "has no public key for signatures"),
    ],
    ids=["missing", "no JWKS", "a shared secret"],
)
def test_a_jwks_file_that_cannot_be_used_is_named_with_its_issuer(loaded, issuer, jwks, said):
    text = issuer("good", public(key("k1"))) + issuer("bad", jwks)
    with pytest.raises(ConfigurationError) as refused:
        credentials_of(loaded(text), ManualClock())
    assert str(refused.value).startswith("token_issuers[1].jwks_file: /")
    assert str(refused.value).endswith(f"/bad.json {said}")


def test_two_issuers_of_one_name_are_refused(loaded, issuer):
    text = issuer("same", public(key("k1")))
    with pytest.raises(ConfigurationError, match=r"token_issuers: .* a name of its own"):
        credentials_of(loaded(text + text), ManualClock())


async def test_without_credentials_everybody_is_the_local_caller(loaded):
    credentials = credentials_of(loaded(""), ManualClock())
    assert credentials.server is None
    assert await credentials.admit(Invocation("ipv4:127.0.0.1:1")) is LOCAL
    assert LOCAL.caller.title_for_people == "A program on this machine"


async def test_s15_where_everybody_is_trusted_the_caller_is_not_the_local_one(loaded):
    credentials = credentials_of(loaded(f"[server]\n{TRUSTED} = true\n"), ManualClock())
    assert credentials.server is None
    admitted = await credentials.admit(Invocation("ipv4:10.0.0.9:1"))
    assert (admitted.caller.caller_id, admitted.identities) == ("anyone", ("network",))
    assert admitted.caller.title_for_people == "A program on the network"


RULE = """
[[callers]]
name = "soar"
identities = ["jwt:https://issuer.example#soar"]
[[callers.rules]]
methods = ["*"]
"""


def test_tenants_of_rules_are_folded_with_the_ids_of_calls(loaded):
    text = ISSUER + RULE + 'tenants = ["Acme", "GLOBEX-*"]\n'
    for fold, granted in ((False, False), (True, True)):
        settings = loaded(f"[identity]\nfold_case = {str(fold).lower()}\n" + text)
        [rule] = settings.registered_callers.named("soar").rules
        assert ("acme" in rule.tenants, "globex-1" in rule.tenants) == (granted, granted)


@pytest.mark.parametrize("tenant", [" acme", "acme "])
def test_a_rule_for_a_tenant_with_a_blank_at_an_end_is_refused(loaded, tenant):
    with pytest.raises(ConfigurationError, match="begins or ends with a blank"):
        loaded(ISSUER + RULE + f'tenants = ["{tenant}"]\n')
