"""`BeginEnrollment`: who may open the wizard, and what it shows."""

from datetime import timedelta
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from stepup_tests.otp import code_at
from stepup_tests.people import administrator, person
from stepup_tests.worker import details_of

from stepup.domain.audit import EventKind
from stepup.domain.authenticator import Attempt
from stepup.domain.enrollment import EnrollmentState
from stepup.domain.errors import ElevationRequiredError
from stepup.domain.reset_code import ResetCode
from stepup.service.enrollment.reset_codes import ResetAttempt

ALICE = person()
ON_PHONE = person(session="phone")
WRONG = ResetCode(bytes(16))


async def test_the_first_screen_has_a_fresh_secret_for_ten_minutes(worker, clock):
    screen = await worker.begin(ALICE)
    assert len(screen.secret.octets) == 20
    assert screen.expires_at == clock.now() + timedelta(minutes=10)


@pytest.mark.usefixtures("clock")
async def test_s12_the_first_screen_has_the_secret_as_a_key_uri(world):
    worker = await world.worker(issuer="Näme & Söhne")
    screen = await worker.begin(ALICE, account_name="alice@acme.example")
    uri = urlsplit(screen.otpauth_uri)
    assert uri.scheme == "otpauth"
    issuer = "Näme & Söhne acme"
    assert unquote(uri.path) == f"/{issuer}:alice@acme.example"
    assert parse_qs(uri.query) == {"secret": [screen.secret.base32], "issuer": [issuer]}


async def test_s7_a_second_tab_of_the_session_gets_the_same_screen(worker):
    first = await worker.begin(ALICE)
    await worker.advance(minutes=10, seconds=-1)
    assert await worker.begin(ALICE, account_name="two") == first
    assert len(await worker.events()) == 1


async def test_s7_another_session_leaves_the_first_wizard_open(worker):
    first = await worker.begin(ALICE)
    assert (await worker.begin(ON_PHONE)).secret.octets != first.secret.octets
    assert (await worker.begin(ALICE)).enrollment_id == first.enrollment_id


async def test_s7_after_ten_minutes_there_is_another_secret(worker):
    first = await worker.begin(ALICE)
    await worker.advance(minutes=10)
    second = await worker.begin(ALICE)
    assert second.enrollment_id != first.enrollment_id
    assert second.secret.octets != first.secret.octets


async def test_s7_after_five_wrong_codes_there_is_another_secret(worker):
    first = await worker.begin(ALICE)
    for _ in range(5):
        await worker.confirm(ALICE, "000000")
    assert (await worker.begin(ALICE)).enrollment_id != first.enrollment_id


@pytest.mark.usefixtures("clock")
async def test_s7_a_wizard_that_was_opened_leaves_the_older_authenticator_in_force(worker):
    app = await worker.enrol(ALICE)
    await worker.elevate(ALICE, app)
    await worker.begin(ALICE)
    await worker.advance(seconds=30)
    await worker.elevate(ON_PHONE, app)


async def test_the_event_says_which_enrollment_began(worker):
    screen = await worker.begin(ALICE)
    [event] = await worker.events()
    assert event.kind is EventKind.ENROLLMENT_BEGUN
    assert event.details == details_of(
        ALICE,
        enrollment_id=screen.enrollment_id,
        replaces=None,
        by_reset_code=False,
    )


async def test_s6_the_secret_is_not_stored_as_it_is(world, worker):
    screen = await worker.begin(ALICE)
    stored = repr(world.tables())
    assert screen.secret.base32 not in stored
    assert repr(screen.secret.octets)[2:-1] not in stored


async def test_s6_the_secret_of_an_active_authenticator_is_never_shown_again(worker):
    app = await worker.enrol(ALICE)
    await worker.elevate(ALICE, app)
    assert (await worker.begin(ALICE)).secret.octets != app.secret


async def test_s11_a_screen_does_not_show_in_a_repr(worker):
    screen = await worker.begin(ALICE)
    assert screen.secret.base32 not in repr(screen)


@pytest.fixture
async def app(worker):
    return await worker.enrol(ALICE)


@pytest.mark.usefixtures("app")
async def test_replacing_needs_an_elevation_or_the_reset_code(world, worker):
    await world.refuses(worker.begin(ALICE), ElevationRequiredError)


async def test_an_elevated_session_may_replace(worker, app):
    await worker.elevate(ALICE, app)
    await worker.begin(ALICE)
    assert (await worker.events())[-1].details["replaces"] == app.enrollment_id


async def test_an_elevation_of_another_session_does_not_permit_to_replace(worker, app):
    await worker.elevate(ALICE, app)
    with pytest.raises(ElevationRequiredError):
        await worker.begin(ON_PHONE)


async def test_an_elevation_that_has_expired_does_not_permit_to_replace(worker, app):
    await worker.elevate(ALICE, app)
    await worker.advance(minutes=15)
    with pytest.raises(ElevationRequiredError):
        await worker.begin(ALICE)


async def test_an_elevation_that_was_revoked_does_not_permit_to_replace(worker, app):
    await worker.elevate(ALICE, app)
    await worker.revoke(ALICE)
    with pytest.raises(ElevationRequiredError):
        await worker.begin(ALICE)


async def test_an_elevation_by_an_earlier_authenticator_does_not_permit_to_replace(
    world, worker, app
):
    """The authenticator may be replaced after the elevation was looked up."""
    other_worker = await world.worker()
    await worker.elevate(ALICE, app)

    async def replace_it():
        await other_worker.wizard(ON_PHONE, app.reset_code)

    world.database.before_transaction = replace_it
    with pytest.raises(ElevationRequiredError):
        await worker.begin(ALICE)


async def test_the_reset_code_permits_to_replace(worker, app):
    await worker.begin(ALICE, app.reset_code)
    details = (await worker.events())[-1].details
    assert details["replaces"] == app.enrollment_id
    assert details["by_reset_code"] is True


async def test_s8_opening_the_wizard_does_not_use_the_reset_code_up(worker, app):
    await worker.begin(ALICE, app.reset_code)
    assert (await worker.reset(ALICE, app.reset_code)).is_accepted


async def test_an_elevated_session_needs_no_reset_code_and_tries_none(worker, app):
    await worker.elevate(ALICE, app)
    await worker.begin(ALICE, WRONG)
    assert await worker.events(EventKind.RESET_CODE_REJECTED) == []


@pytest.mark.usefixtures("app")
async def test_a_wrong_reset_code_opens_nothing(worker):
    attempt = await worker.begin(ALICE, WRONG)
    assert attempt == ResetAttempt(Attempt.WRONG, 9, timedelta())
    assert (await worker.standing(ALICE)).pending is None


async def test_s8_the_lock_is_that_of_resetting(worker, app):
    for _ in range(10):
        await worker.begin(ALICE, WRONG)
    assert (await worker.reset(ALICE, app.reset_code)).outcome is Attempt.THROTTLED


async def test_a_user_who_has_no_authenticator_needs_no_reset_code(worker):
    await worker.begin(ALICE, WRONG)
    assert [event.kind for event in await worker.events()] == [EventKind.ENROLLMENT_BEGUN]


async def test_without_redis_a_first_enrollment_begins_all_the_same(world, worker):
    world.elevations.finds = False
    assert (await worker.begin(ALICE)).secret is not None


@pytest.mark.usefixtures("app")
async def test_s17_without_redis_nothing_is_replaced(world, worker):
    world.elevations.finds = False
    await world.refuses(worker.begin(ALICE))


@pytest.mark.parametrize("fault", ["reads", "writes", "audit_trail_takes_events", "commits"])
async def test_s13_without_its_event_nothing_is_begun(world, worker, fault):
    setattr(world.database, fault, False)
    await world.refuses(worker.begin(ALICE))


@pytest.mark.usefixtures("app")
@pytest.mark.parametrize("fault", ["writes", "audit_trail_takes_events", "commits"])
async def test_s3_a_wrong_reset_code_is_not_answered_unless_it_counts(world, worker, fault):
    setattr(world.database, fault, False)
    await world.refuses(worker.begin(ALICE, WRONG))


async def test_an_expired_wizard_does_not_permit_to_replace(worker, app):
    await worker.begin(ALICE, app.reset_code)
    await worker.advance(minutes=10)
    with pytest.raises(ElevationRequiredError):
        await worker.begin(ALICE)


async def test_s6_a_confirmed_wizard_is_shown_without_its_secret(worker):
    screen = await worker.begin(ALICE)
    await worker.confirm(ALICE, code_at(screen.secret.octets, worker.clock.now()))
    again = await worker.begin(ALICE)
    assert (again.enrollment_id, again.state) == (screen.enrollment_id, EnrollmentState.CONFIRMED)
    assert again.secret is None
    assert again.otpauth_uri is None


def entry(screen):
    """What an authenticator app knows the entry of a screen by: issuer and label."""
    uri = urlsplit(screen.otpauth_uri)
    [issuer] = parse_qs(uri.query)["issuer"]
    return issuer, unquote(uri.path).removeprefix(f"/{issuer}:")


async def test_s12_the_same_person_in_two_tenants_has_two_entries(worker):
    entries = [entry(await worker.begin(person(tenant=tenant))) for tenant in ("acme", "globex")]
    assert entries == [
        ("stepup acme", "alice@acme.example"),
        ("stepup globex", "alice@acme.example"),
    ]


async def test_the_issuer_of_the_policy_is_shown(worker):
    await worker.update_policy(administrator(), issuer="Acme")
    assert entry(await worker.begin(ALICE)) == ("Acme", "alice@acme.example")


@pytest.mark.parametrize("by", ["policy", "settings"])
async def test_a_second_tab_keeps_the_issuer(world, worker, by):
    first = await worker.begin(ALICE)
    if by == "policy":
        await worker.update_policy(administrator(), issuer="Acme")
    else:
        worker = await world.worker(issuer="Other")
    assert (await worker.begin(ALICE)).otpauth_uri == first.otpauth_uri


async def test_a_wizard_of_an_earlier_version_keeps_the_issuer_that_was_shown(world, worker):
    await worker.begin(ALICE)
    world.sql("UPDATE pending_enrollments SET issuer = NULL")
    assert entry(await worker.begin(ALICE)) == ("stepup", "alice@acme.example")


async def test_s12_a_replacing_wizard_leaves_the_entry_in_force_alone(worker, app):
    await worker.elevate(ALICE, app)
    replacing = await worker.begin(ALICE)
    assert entry(replacing) == ("stepup acme", "alice@acme.example (2)")
    assert entry(await worker.begin(ALICE)) == entry(replacing)


async def test_every_replacement_has_another_label_than_what_it_replaces(worker):
    labels = []
    for _ in range(3):
        screen = await worker.begin(ALICE)
        labels.append(entry(screen)[1])
        await worker.wizard(ALICE)
        await worker.advance(seconds=30)
    assert labels == ["alice@acme.example", "alice@acme.example (2)", "alice@acme.example (3)"]


async def test_after_a_reset_there_is_no_entry_in_force_to_keep(worker, app):
    await worker.elevate(ALICE, app)
    await worker.wizard(ALICE)
    await worker.remove(ALICE)
    assert entry(await worker.begin(ALICE)) == ("stepup acme", "alice@acme.example")
