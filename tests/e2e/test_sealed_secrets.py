"""Somebody moves encrypted secrets in a server's database: nothing opens, and it shows (S6)."""

import pytest
from stepup_tests.e2e.authenticator_app import AuthenticatorApp
from stepup_tests.e2e.clients import GrpCurl, Refused
from stepup_tests.e2e.enrolled import enrolled
from stepup_tests.e2e.guarded import configured
from stepup_tests.e2e.metrics import LISTEN, metrics
from stepup_tests.e2e.people import OSQUERY, administrator, person, protect, verdict, verify
from stepup_tests.e2e.sql import execute

from stepup.domain.totp import TotpSecret

pytestmark = pytest.mark.e2e

ANN, BOB, EVE = (person("acme", user) for user in ("ann", "bob", "eve"))


@pytest.fixture
def server(tmp_path, start_server):
    """A server that shows its metrics."""
    return start_server(*configured(tmp_path, LISTEN))


@pytest.fixture
def apps(server):
    """What the three have."""
    secrets = {user["user_id"]: TotpSecret.generate() for user in (ANN, BOB, EVE)}
    enrolled(server, "acme", secrets)
    return {user: AuthenticatorApp(secret.base32) for user, secret in secrets.items()}


def swap(server, user, other):
    """Swap the sealed secrets of two users, while the server runs."""
    url = server.site.database_url
    rows = execute(
        url,
        "SELECT user_id, key_id, ciphertext FROM authenticators WHERE user_id IN (:user, :other)",
        user=user,
        other=other,
    )
    assert len(rows) == 2
    for name, key_id, ciphertext in rows:
        execute(
            url,
            "UPDATE authenticators SET key_id = :key_id, ciphertext = :ciphertext"
            " WHERE user_id = :user",
            key_id=key_id,
            ciphertext=ciphertext,
            user=other if name == user else user,
        )


def alerts(server):
    """Whose secrets did not open, by the log."""
    return [line["user"] for line in server.logged("sealed_secret_unreadable")]


def test_s6_swapped_secrets_verify_nobody_and_raise_an_alert(server, apps):
    client = GrpCurl(server)
    protect(client, administrator("acme"), OSQUERY)
    swap(server, "ann", "bob")
    for actor in (ANN, BOB):
        for app in (apps["ann"], apps["bob"]):
            with pytest.raises(Refused) as refused:
                verify(client, actor, app.code())
            assert refused.value.code == "INTERNAL"
        assert verdict(client, actor, OSQUERY) == ("STEP_UP_REQUIRED", "NOT_ELEVATED")
    assert alerts(server) == ["ann", "ann", "bob", "bob"]
    assert metrics(server)["stepup_sealed_secret_unreadable_total",] == 4
    # Nobody else is affected; and but for the swap the codes were right.
    assert verify(client, EVE, apps["eve"].code())["outcome"] == "OUTCOME_VERIFIED"
    swap(server, "ann", "bob")
    for actor in (ANN, BOB):
        code = apps[actor["user_id"]].code()
        assert verify(client, actor, code)["outcome"] == "OUTCOME_VERIFIED"
        assert verdict(client, actor, OSQUERY) == ("ALLOWED", "ELEVATED")
