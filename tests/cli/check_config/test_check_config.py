"""`stepup check-config`: what a caller may do, what can have no effect, and the exit code."""

import pytest
from stepup_tests.certificates import authority
from stepup_tests.identity.tokens import key, public
from typer.testing import CliRunner

from stepup.cli.main import app

PERMITTED, NOT_PERMITTED, WRONG = 0, 1, 2
CHECK = ("--method", "StepUpService/CheckStepUp")
ACME = ("--tenant", "acme")
OSQUERY = ("--operation", "response.run_osquery")
SOAR = ("--caller", "soar")
ISSUER = """
[[token_issuers]]
issuer = "https://issuer.example"
audiences = ["stepup"]
jwks_file = "jwks.json"
"""
TRIAL = "[server]\ninsecure = true\n"
CALLERS = """
[[callers]]
name = "soar"
identities = ["jwt:https://issuer.example#soar"]

[[callers.rules]]
methods = ["StepUpService/*", "PolicyService/*"]
tenants = ["acme"]
operations = ["response.*", "account.sign_in"]
claims = ["timed_out_retry"]

[[callers.rules]]
methods = ["StepUpService/CheckStepUp"]
tenants = ["*"]
operations = ["response.run_osquery"]
claims = ["managed_services"]

[[callers]]
name = "portal"
identities = ["jwt:https://issuer.example#portal"]
"""


@pytest.fixture
def check_config(tmp_path, monkeypatch):
    """Runs the command where the issuer's keys are."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "jwks.json").write_bytes(public(key("k1")))

    def run(*arguments, toml=ISSUER + CALLERS):
        (tmp_path / "stepup.toml").write_text(toml)
        return CliRunner().invoke(app, ["check-config", "--config", "stepup.toml", *arguments])

    return run


@pytest.fixture
def warnings(check_config):
    """The warnings of a configuration, which is valid all the same."""

    def said(toml):
        result = check_config(toml=toml)
        assert result.exit_code == 0
        lines = result.stderr.splitlines()
        assert all(line.startswith("stepup: warning: ") for line in lines)
        return [line.removeprefix("stepup: warning: ") for line in lines]

    return said


def test_the_rule_that_permits_a_call_is_named_and_that_of_each_claim(check_config):
    claims = ("--claim", "managed_services", "--claim", "timed_out_retry")
    result = check_config(*SOAR, *CHECK, *ACME, *OSQUERY, *claims)
    assert result.stdout.splitlines() == [
        "PERMITTED",
        "  StepUpService/CheckStepUp by callers[0].rules[0] (soar)",
        "  managed_services by callers[0].rules[1] (soar)",
        "  timed_out_retry by callers[0].rules[0] (soar)",
    ]
    assert result.exit_code == PERMITTED


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (
            ("--method", "AuditService/ListAuditEvents", *ACME),
            [
                "CALLER_NOT_PERMITTED: soar may not use AuditService/ListAuditEvents",
                "  callers[0].rules[0] (soar): its methods are StepUpService/*, PolicyService/*",
                "  callers[0].rules[1] (soar): its methods are StepUpService/CheckStepUp",
            ],
        ),
        (
            (*CHECK, *ACME, *OSQUERY, "--claim", "automatic_playbook"),
            [
                "CLAIM_NOT_PERMITTED: soar may not assert automatic_playbook",
                "  callers[0].rules[0] (soar): its claims are timed_out_retry",
                "  callers[0].rules[1] (soar): its claims are managed_services",
            ],
        ),
    ],
    ids=["method", "claim"],
)
def test_why_no_rule_permits_a_call_is_told_rule_by_rule(check_config, asked, said):
    result = check_config(*SOAR, *asked)
    assert result.stdout.splitlines() == said
    assert result.exit_code == NOT_PERMITTED


CREATE = ("--method", "ChallengeService/CreateChallenge")
CREATING = CALLERS.replace(
    "[[callers.rules]]",
    """[[callers.rules]]
methods = ["ChallengeService/CreateChallenge"]
tenants = ["*"]
operations = ["*"]
[[callers.rules]]""",
    1,
)


def test_the_rule_for_a_further_method_is_named_too(check_config):
    result = check_config(*SOAR, *CREATE, *ACME, *OSQUERY, toml=ISSUER + CREATING)
    assert result.stdout.splitlines() == [
        "PERMITTED",
        "  ChallengeService/CreateChallenge by callers[0].rules[0] (soar)",
        "  StepUpService/CheckStepUp by callers[0].rules[1] (soar)",
    ]
    assert result.exit_code == PERMITTED


def test_the_refusal_of_the_required_method_is_explained(check_config):
    toml = ISSUER + CREATING.replace("StepUpService/", "AuditService/")
    result = check_config(*SOAR, *CREATE, *ACME, *OSQUERY, toml=toml)
    assert result.stdout.splitlines()[0] == (
        "CALLER_NOT_PERMITTED: soar may not use StepUpService/CheckStepUp for this tenant and"
        " operation response.run_osquery"
    )
    assert result.exit_code == NOT_PERMITTED


def test_a_part_of_a_rule_that_has_nothing_in_it_is_told(check_config):
    toml = ISSUER + CALLERS.replace('claims = ["managed_services"]', "claims = []")
    result = check_config(*SOAR, *CHECK, *ACME, *OSQUERY, "--claim", "managed_services", toml=toml)
    assert result.stdout.splitlines()[-1] == "  callers[0].rules[1] (soar): its claims are none"


def test_of_a_caller_without_rules_that_is_told(check_config):
    result = check_config("--caller", "portal", *CHECK, *ACME, *OSQUERY)
    assert result.stdout.splitlines()[1:] == ["  portal has no rules"]
    assert result.exit_code == NOT_PERMITTED


def test_a_claim_that_counts_for_nothing_needs_no_rule(check_config):
    result = check_config(*SOAR, *CHECK, *ACME, *OSQUERY, "--claim", "saml_account")
    assert result.stdout.splitlines()[2:] == [
        "  saml_account needs no rule: it has no effect on this call"
    ]
    assert result.exit_code == PERMITTED


def test_a_caller_may_be_named_by_an_identity(check_config):
    by_identity = ("--caller", "jwt:https://issuer.example#soar")
    result = check_config(*by_identity, *CHECK, *ACME, *OSQUERY)
    assert result.stdout == check_config(*SOAR, *CHECK, *ACME, *OSQUERY).stdout
    assert result.exit_code == PERMITTED


def test_s15_where_everybody_on_the_network_is_trusted_the_caller_is_anyone(check_config):
    toml = "[server]\ninsecure_anyone_on_the_network_is_trusted = true\n"
    result = check_config("--caller", "anyone", *CHECK, *ACME, *OSQUERY, toml=toml)
    assert result.stdout.splitlines()[-1] == (
        "  without tls or token_issuers every caller is anyone, who may do everything"
    )
    assert result.exit_code == PERMITTED


def test_without_credentials_everybody_is_local_and_may_do_everything(check_config):
    local = ("--caller", "local")
    result = check_config(
        *local, *CHECK, *ACME, *OSQUERY, "--claim", "master_administrator", toml=TRIAL
    )
    assert result.stdout.splitlines() == [
        "PERMITTED",
        "  StepUpService/CheckStepUp by loopback (local)",
        "  master_administrator by loopback (local)",
        "  without tls or token_issuers every caller is local, who may do everything",
    ]
    assert result.exit_code == PERMITTED


def test_a_caller_who_can_never_be_let_in_is_warned_of(check_config):
    toml = ISSUER + CALLERS.replace("issuer.example#soar", "other.example#soar")
    result = check_config(*SOAR, *CHECK, *ACME, *OSQUERY, toml=toml)
    assert (
        "the server demands a token, and none can prove an identity of this caller" in result.stderr
    )
    other = check_config("--caller", "portal", *CHECK, *ACME, *OSQUERY, toml=toml)
    assert other.stderr == ""


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ((*CHECK,), "--method, --tenant, --operation and --claim need --caller"),
        (("--claim", "managed_services"), "--claim need --caller"),
        (SOAR, "--caller needs --method"),
        ((*SOAR, *CHECK, *OSQUERY), "StepUpService/CheckStepUp needs --tenant"),
        ((*SOAR, *CHECK, *ACME), "StepUpService/CheckStepUp needs --operation"),
        ((*SOAR, *CHECK, "--tenant", "", *OSQUERY), "--tenant: is required"),
        (
            (*SOAR, "--method", "StepUpService/VerifyOtp", *ACME, *OSQUERY),
            "--operation: StepUpService/VerifyOtp has none",
        ),
        (
            (*SOAR, "--method", "PolicyService/GetPolicy", *ACME, "--claim", "saml_account"),
            "--claim: PolicyService/GetPolicy has no actor",
        ),
        (
            ("--caller", "saor", *CHECK, *ACME, *OSQUERY),
            "--caller: no caller is saor; did you mean soar?",
        ),
        (
            ("--caller", "zzz", *CHECK, *ACME, *OSQUERY),
            "no caller is zzz; there are soar, portal, jwt:https://issuer.example#soar",
        ),
        (
            (*SOAR, "--method", "StepUpService/CheckStepup"),
            "unknown: StepUpService/CheckStepup; did you mean StepUpService/CheckStepUp",
        ),
        (
            (*SOAR, *CHECK, *ACME, *OSQUERY, "--claim", "xyz"),
            "--claim: unknown: xyz; there are managed_services, automatic_playbook, ",
        ),
    ],
)
def test_what_is_missing_too_many_or_unknown_is_named(check_config, asked, said):
    result = check_config(*asked)
    assert result.exit_code == WRONG
    assert result.stdout == ""
    assert result.stderr.startswith("stepup: ")
    assert said in result.stderr


def test_nobody_may_do_anything_on_a_server_that_would_not_start(check_config):
    result = check_config("--caller", "local", *CHECK, *ACME, *OSQUERY, toml="")
    assert result.exit_code == WRONG
    assert result.stdout == ""
    assert "server.insecure: callers have no credentials" in result.stderr


def test_nothing_is_warned_of_where_everything_can_apply(warnings):
    assert warnings(ISSUER + CALLERS) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            '"StepUpService/CheckStepUp"',
            '"StepUpService/CheckStepup"',
            "methods: StepUpService/CheckStepup matches nothing; did you mean StepUpService/Check",
        ),
        (
            '"response.run_osquery"',
            '"response.remote_shel"',
            "operations: response.remote_shel matches nothing; did you mean response.start_remote",
        ),
        (
            'operations = ["response.run_osquery"]',
            "",
            "methods: StepUpService/CheckStepUp grants nothing: the rule has no operations",
        ),
        (
            '"StepUpService/CheckStepUp"',
            '"StepUpService/VerifyOtp"',
            "operations: response.run_osquery limits nothing: no method of the rule has an op",
        ),
        (
            '"managed_services"',
            '"saml_account"',
            "claims: saml_account has no effect on any call that the",
        ),
    ],
)
def test_what_can_never_apply_is_warned_of(warnings, old, new, said):
    [warning] = warnings(ISSUER + CALLERS.replace(old, new))
    assert warning.startswith(f"callers[0].rules[1] (soar): {said}")


def test_an_identity_that_can_never_be_proven_is_warned_of(warnings):
    toml = ISSUER + CALLERS.replace("issuer.example#portal", "other.example#portal")
    assert warnings(toml)[0].startswith("callers[1].identities (portal): jwt:https://other.")


def test_a_file_that_would_keep_a_server_from_starting_is_warned_of(warnings, tmp_path):
    (tmp_path / "jwks.json").unlink()
    assert warnings(ISSUER) == ["token_issuers[0].jwks_file: jwks.json cannot be read"]


def test_a_certificate_that_is_not_that_of_its_key_is_warned_of(warnings, tmp_path):
    authority("servers").server().write(tmp_path, "one")
    authority("servers").server().write(tmp_path, "two")
    [problem] = warnings('[tls]\ncertificate = "one.crt"\nkey = "two.key"\n' + ISSUER)
    assert problem == "tls.key: two.key: is not the key of the certificate in one.crt"


def test_what_keeps_a_server_from_exporting_traces_is_warned_of(check_config, warnings, tmp_path):
    text = '[traces]\nendpoint = "https://collector:4317"\nca_file = "ca.pem"\n' + ISSUER
    assert warnings(text) == [
        "traces.ca_file: ca.pem: cannot be read: No such file or directory",
    ]
    (tmp_path / "jwks.json").unlink()
    assert len(warnings(text)) == 2
    assert "traces.sample_ratio = 1.0\n" in check_config(toml=text).stdout


def test_s15_a_tls_file_of_a_store_that_openssl_reads_otherwise_is_warned_of(
    warnings, tmp_path, monkeypatch
):
    """A byte-order mark hides a certificate from it; for an encrypted key it asks the terminal."""
    client = authority("clients").client("spiffe://acme/stepup")
    (tmp_path / "client.crt").write_bytes(b"\xef\xbb\xbf" + client.chain)
    (tmp_path / "client.key").write_bytes(client.key)
    (tmp_path / "encrypted.key").write_bytes(client.encrypted_key)
    (tmp_path / "ca.crt").write_bytes(client.chain)
    redis = '[storage]\nredis_url = "rediss://cache?ssl_certfile={}&ssl_keyfile={}"\n' + ISSUER
    [problem] = warnings(redis.format("client.crt", "client.key"))
    assert problem.startswith(
        "storage.redis_url: ssl_certfile: client.crt: holds a block that does"
    )
    [problem] = warnings(redis.format("ca.crt", "encrypted.key"))
    assert problem.startswith("storage.redis_url: ssl_keyfile: encrypted.key: is encrypted")
    monkeypatch.setenv("PGSSLROOTCERT", "client.crt")
    [problem] = warnings(
        '[storage]\ndatabase_url = "postgresql://db/stepup?ssl=verify-full"\n' + ISSUER
    )
    assert problem.startswith("storage.database_url: PGSSLROOTCERT: client.crt: holds a block that")


def test_a_setting_that_would_keep_a_server_from_starting_is_an_error(check_config, tmp_path):
    (tmp_path / "jwks.json").unlink()
    result = check_config(toml=ISSUER.replace("jwks_file", 'algorithms = ["HS256"]\njwks_file'))
    assert result.exit_code == WRONG
    assert result.stderr.startswith("stepup: token_issuers[0]: algorithms must be of ")


def test_s19_a_caller_that_may_create_and_answer_challenges_is_warned_of(warnings):
    both = CALLERS.replace('"PolicyService/*"', '"ChallengeService/*"')
    [warning] = warnings(ISSUER + both)
    assert warning.startswith(
        "callers[0].rules[0] (soar): ChallengeService/CreateChallenge and "
        "ChallengeService/AnswerChallenge for the same tenant let the caller approve its own"
    )


def test_a_caller_that_can_ask_for_no_code_is_noted_and_not_warned_of(check_config):
    rules = CALLERS.replace('"PolicyService/*"', '"ChallengeService/CreateChallenge"')
    result = check_config(toml=ISSUER + rules)
    [note] = [line for line in result.stdout.splitlines() if line.startswith("note: ")]
    assert note == (
        "note: soar may check, but create no challenges for, response.run_osquery:"
        " where a policy asks for a code every time, another caller must create the challenge"
    )
    assert result.stderr == ""


def test_s16_a_caller_that_may_replace_authenticators_and_give_codes_is_warned_of(warnings):
    methods = '"PeopleService/*", "StepUpService/VerifyOtp"'
    rules = CALLERS.replace('"PolicyService/*"', methods)
    rules = rules.replace('"timed_out_retry"', '"operator"')
    [warning] = [
        each
        for each in warnings(ISSUER + rules)
        if "replace the authenticator of any person" in each
    ]
    assert warning.startswith("callers[0].rules[0] (soar): a claim of an operator or of ")


GET_PERSON = ("--method", "PeopleService/GetPerson")


def test_a_call_of_an_operator_is_explained(check_config):
    rules = CALLERS.replace('"PolicyService/*"', '"PeopleService/*"')
    rules = rules.replace('claims = ["timed_out_retry"]', 'claims = ["operator"]')
    asked = (*SOAR, *GET_PERSON, *ACME, "--claim", "operator")
    assert check_config(*asked, toml=ISSUER + rules).stdout.splitlines() == [
        "PERMITTED",
        "  PeopleService/GetPerson by callers[0].rules[0] (soar)",
        "  operator by callers[0].rules[0] (soar)",
    ]


def test_an_operator_needs_no_rule_for_the_further_method(check_config):
    rules = CALLERS.replace('"PolicyService/*"', '"ChallengeService/ListChallenges"')
    rules = rules.replace('claims = ["timed_out_retry"]', 'claims = ["operator"]')
    asked = (*SOAR, "--method", "ChallengeService/ListChallenges", *ACME, "--claim", "operator")
    assert check_config(*asked, toml=ISSUER + rules).stdout.splitlines() == [
        "PERMITTED",
        "  ChallengeService/ListChallenges by callers[0].rules[0] (soar)",
        "  operator by callers[0].rules[0] (soar)",
    ]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (
            (*CHECK, *OSQUERY, "--claim", "operator"),
            "--claim: StepUpService/CheckStepUp does not accept operator; ",
        ),
        (
            (*GET_PERSON, "--claim", "deprovisioning"),
            "does not accept deprovisioning; it is for PeopleService/ForgetUser",
        ),
        (
            (*GET_PERSON, "--claim", "operator", "--claim", "master_administrator"),
            "--claim: operator excludes other claims: no person acts",
        ),
    ],
)
def test_an_operator_is_asked_about_where_a_method_accepts_one_and_alone(check_config, asked, said):
    result = check_config(*SOAR, *ACME, *asked)
    assert result.exit_code == WRONG
    assert said in result.stderr


def test_s20_rules_that_let_pages_of_the_portal_fail_are_warned_of(warnings):
    portal = '[portal]\npublic_url = "https://mfa.example"\n'
    opening = CALLERS.replace('"PolicyService/*"', '"PortalService/CreatePortalSession"')
    assert warnings(portal + ISSUER + opening)[-1] == (
        "soar has a rule for PortalService/CreatePortalSession, and no return_origins: it can open"
        " no page of the portal"
    )


def test_s20_callers_of_a_portal_without_an_address_are_warned_of(warnings):
    of_portal = CALLERS.replace('name = "soar"', 'name = "soar"\nportal = true', 1)
    [warning] = warnings(ISSUER + of_portal)
    assert warning == "portal.public_url is missing: no caller can open a page of the portal"
