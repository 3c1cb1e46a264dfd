"""The main job of product.md, from the first policy to an elevated session."""

import pytest
from stepup_tests.e2e.authenticator_app import AuthenticatorApp, next_step, png
from stepup_tests.e2e.clients import BufCurl, GrpCurl
from stepup_tests.e2e.people import (
    OSQUERY,
    administrator,
    begin,
    complete,
    confirm,
    person,
    protect,
    verdict,
    verify,
)
from stepup_tests.pictures import rasterised, read_qr

pytestmark = pytest.mark.e2e


def enrols_after_being_asked_to(client, tenant):
    """The main job until one session of Bob's is elevated and another is not; returns his app."""
    bob, bob_elsewhere = person(tenant, "bob"), person(tenant, "bob", "tuesday")
    assert verdict(client, bob, OSQUERY) == ("ALLOWED", "MFA_NOT_ENABLED")

    protect(client, administrator(tenant), OSQUERY)
    assert verdict(client, bob, OSQUERY) == ("ENROLLMENT_REQUIRED", "NOT_ENROLLED")

    screen = begin(client, bob, account_name="bob@acme.example")
    app = AuthenticatorApp.scanning(png(screen["qr_png"]))
    assert app.secret == screen["secret"]

    confirmed = confirm(client, bob, app.code())
    assert confirmed["outcome"] == "CONFIRM_OUTCOME_CONFIRMED"
    assert confirmed["reset_code"]
    assert verdict(client, bob, OSQUERY) == ("ENROLLMENT_REQUIRED", "NOT_ENROLLED")

    completed = complete(client, bob)
    assert completed["enrollment"]["enrollment_id"] == screen["enrollment_id"]
    assert verdict(client, bob, OSQUERY) == ("ALLOWED", "ELEVATED")
    assert verdict(client, bob_elsewhere, OSQUERY) == ("STEP_UP_REQUIRED", "NOT_ELEVATED")
    return app


def steps_up_elsewhere(client, tenant, app):
    """The rest of the main job: the next code elevates the other session."""
    bob_elsewhere = person(tenant, "bob", "tuesday")
    assert verify(client, bob_elsewhere, app.code())["outcome"] == "OUTCOME_VERIFIED"
    assert verdict(client, bob_elsewhere, OSQUERY) == ("ALLOWED", "ELEVATED")


def test_a_person_enrols_and_steps_up_for_a_protected_operation(shared_server, tenant):
    # Both programs in one test: one wait for the next code serves both.
    plays = [
        (GrpCurl(shared_server), f"{tenant}-grpcurl"),
        (BufCurl(shared_server), f"{tenant}-buf"),
    ]
    apps = [enrols_after_being_asked_to(*play) for play in plays]
    next_step()
    for play, app in zip(plays, apps, strict=True):
        steps_up_elsewhere(*play, app)


def test_both_pictures_of_the_qr_code_say_the_key_uri(client, tenant):
    screen = begin(client, person(tenant, "bob"), account_name="bob smith@acme.example")
    assert read_qr(png(screen["qr_png"])) == screen["otpauth_uri"]
    assert read_qr(rasterised(screen["qr_svg"], 120)) == screen["otpauth_uri"]
