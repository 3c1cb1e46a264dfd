"""The fields that both clients write into requests."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import TypeAlias

from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from stepup.v1.actor_pb2 import ActorContext

Metadata: TypeAlias = Sequence[tuple[str, str | bytes]]
"""Metadata of one call, such as `[("stepup-portal-session", session_id)]`."""


def new_request_id() -> str:
    """Return the id of one request, which stays the same when the request is sent again."""
    return str(uuid.uuid4())


def request_id_of_check(actor: ActorContext) -> str:
    """Return a new request id if the check can use up something: a receipt, or an item.

    Every other check is decided again when it is resent, with or without an id.
    """
    return new_request_id() if actor.retry_receipt or actor.challenge_id else ""


def presenting(actor: ActorContext, receipt: str, challenge_id: str) -> ActorContext:
    """Return the actor with a receipt and a challenge; the actor itself does not change."""
    if not receipt and not challenge_id:
        return actor
    presented = ActorContext()
    presented.CopyFrom(actor)
    presented.retry_receipt = receipt or actor.retry_receipt
    presented.challenge_id = challenge_id or actor.challenge_id
    return presented


def duration_of(span: timedelta | None) -> Duration | None:
    """Return the message for a time span; None stays None."""
    if span is None:
        return None
    duration = Duration()
    duration.FromTimedelta(span)
    return duration


def field_mask_of(paths: Iterable[str]) -> FieldMask:
    """Return the message that names fields, such as `["enabled"]`."""
    return FieldMask(paths=paths)
