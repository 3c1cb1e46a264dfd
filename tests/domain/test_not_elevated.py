"""Why a session is not elevated: what the codes on record and the revocations say."""

from datetime import UTC, datetime, timedelta

import pytest

from stepup.domain.actor import SessionHash, TenantId, UserId
from stepup.domain.authenticator import Authenticator, SealedSecret
from stepup.domain.changes import EnrollmentEnded, Revocations, SessionRevoked, UserRevoked
from stepup.domain.code_history import CodeHistory, UsedCode
from stepup.domain.not_elevated import NotElevatedDetail, explain_not_elevated

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
DESK, PHONE = SessionHash("d" * 32), SessionHash("f" * 32)
PERSON = (TenantId("acme"), UserId("ada"))
JUST_UNDER, A_QUARTER = timedelta(minutes=14, seconds=59.999999), timedelta(minutes=15)


def explained(*used, revocations=()):
    """Of the session DESK; `used` are sessions and how long ago each gave its last code."""
    authenticator = Authenticator(
        *PERSON,
        "enrollment",
        SealedSecret("k", b""),
        NOW - timedelta(days=1),
        last_step=1,
        history=CodeHistory(tuple(UsedCode(session, 1, NOW - ago) for session, ago in used)),
    )
    known = Revocations()
    for revocation in revocations:
        known.add(revocation, 0.0)
    return explain_not_elevated(authenticator, DESK, known, NOW)


@pytest.mark.parametrize(
    ("used", "detail"),
    [
        ([], None),
        ([(PHONE, A_QUARTER)], NotElevatedDetail.NEVER),
        ([(PHONE, JUST_UNDER)], NotElevatedDetail.OTHER_SESSION),
        ([(DESK, A_QUARTER)], NotElevatedDetail.EXPIRED),
        ([(DESK, A_QUARTER), (PHONE, timedelta())], NotElevatedDetail.EXPIRED),
        ([(DESK, JUST_UNDER)], None),
    ],
    ids=[
        "no code on record",
        "a code elsewhere, long ago",
        "a code elsewhere",
        "too long ago",
        "too long ago, and one elsewhere since",
        "lost by Redis",
    ],
)
def test_what_is_on_record_says_why(used, detail):
    assert explained(*used) is detail


@pytest.mark.parametrize(
    ("revocation", "detail"),
    [
        (UserRevoked(*PERSON, NOW), NotElevatedDetail.REVOKED),
        (SessionRevoked(*PERSON, DESK, NOW), NotElevatedDetail.REVOKED),
        (EnrollmentEnded(*PERSON, "enrollment"), NotElevatedDetail.REVOKED),
        (SessionRevoked(*PERSON, PHONE, NOW), None),
        (UserRevoked(*PERSON, NOW - timedelta(minutes=2)), None),
    ],
)
def test_a_revocation_since_the_sessions_code_says_why(revocation, detail):
    assert explained((DESK, timedelta(minutes=1)), revocations=[revocation]) is detail


def test_what_has_expired_anyway_was_not_ended_by_a_revocation():
    revoked = [UserRevoked(*PERSON, NOW)]
    assert explained((DESK, A_QUARTER), revocations=revoked) is NotElevatedDetail.EXPIRED
