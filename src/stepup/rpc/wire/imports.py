"""Converts the entries and results of imports; each entry is checked by itself."""

from stepup.domain.actor import UserId
from stepup.domain.errors import InvalidFieldError
from stepup.rpc.wire.decode import parse_id
from stepup.service.people.import_authenticators import (
    MAX_IMPORTS,
    ImportEntry,
    ImportOutcome,
    ImportResult,
)
from stepup.v1 import people_service_pb2 as pb

_OUTCOMES = {
    outcome: pb.ImportOutcome.Value(f"IMPORT_OUTCOME_{outcome.name}") for outcome in ImportOutcome
}


def entries(request: pb.ImportAuthenticatorsRequest) -> list[ImportEntry | ImportResult]:
    """The entries of a request, 1 to 100; the result of each whose user id is malformed.

    Raises:
        InvalidFieldError: the number of entries is out of range.
    """
    if not 1 <= len(request.authenticators) <= MAX_IMPORTS:
        raise InvalidFieldError("authenticators", f"must be 1 to {MAX_IMPORTS}")
    return list(map(_entry, request.authenticators))


def _entry(message: pb.ImportedAuthenticator) -> ImportEntry | ImportResult:
    try:
        user_id = parse_id("user_id", UserId, message.user_id)
    except InvalidFieldError as error:
        return ImportResult(ImportOutcome.INVALID, str(error))
    return ImportEntry(user_id, message.otpauth_uri)


def result(imported: ImportResult) -> pb.ImportResult:
    """The result of one entry."""
    return pb.ImportResult(outcome=_OUTCOMES[imported.outcome], problem=imported.problem)
