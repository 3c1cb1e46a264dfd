"""The errors of the product: one small tree, mapped to gRPC status in `stepup.rpc.errors` only."""

from datetime import timedelta
from enum import StrEnum, unique


class ServiceError(Exception):
    """The call is not answered; the action that it was about must not run."""


class InvalidValueError(ServiceError):
    """A value is not what its type takes. The message completes "<field> ..."; it has no value."""


class InvalidFieldError(ServiceError):
    """A field of a request is missing or malformed."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field} {problem}")
        self.field = field
        self.problem = problem


class UnknownOperationError(InvalidFieldError):
    """An operation is not in the catalogue."""


class CallerUnauthenticatedError(ServiceError):
    """The caller has no credentials, or none that are good."""


class CallerNotPermittedError(ServiceError):
    """The caller may not use this method, for this tenant, or for this operation."""


class PortalSessionError(ServiceError):
    """The portal session or its token is unknown, used, or ended: one answer for all."""


class NoPortalError(ServiceError):
    """The deployment has no portal: the settings have no `portal.public_url`."""


class ClaimNotPermittedError(ServiceError):
    """The caller may not assert this claim of an actor."""

    def __init__(self, claim: str, message: str) -> None:
        super().__init__(message)
        self.claim = claim


class CallerRateLimitedError(ServiceError):
    """The caller is over its rate; `retry_after` is when the next call may be made."""

    def __init__(self, retry_after: timedelta) -> None:
        super().__init__("the caller is over its rate")
        self.retry_after = retry_after


class NotForOneselfError(ServiceError):
    """The actor may do this to other users only."""


class UnknownPersonError(ServiceError):
    """The service knows nobody by this id in the tenant."""


class UnlockLimitError(ServiceError):
    """The user was unlocked three times within 24 hours.

    `retry_after` is the time until the user may be unlocked again.
    """

    def __init__(self, retry_after: timedelta) -> None:
        super().__init__("the user was unlocked three times within 24 hours")
        self.retry_after = retry_after


class OverloadedError(ServiceError):
    """As many calls of this kind are in flight as may be; nothing was done for this one."""


class RoleRequiredError(ServiceError):
    """The actor is not a Master Administrator."""


class ElevationRequiredError(ServiceError):
    """The operation needs an elevation of the actor's own session.

    `is_enrolled` says whether the actor has an authenticator, and so can give a code.
    """

    def __init__(self, message: str, *, is_enrolled: bool = True) -> None:
        super().__init__(message)
        self.is_enrolled = is_enrolled


@unique
class EnrollmentFault(StrEnum):
    """Why the state of an enrollment does not fit the call. Callers read it in `ErrorInfo`."""

    NO_AUTHENTICATOR = "no_authenticator"
    NO_RESET_CODE = "no_reset_code"
    NOTHING_PENDING = "nothing_pending"
    NOT_CONFIRMED = "not_confirmed"
    COMPLETED = "completed"
    OTHER_AUTHENTICATOR = "other_authenticator"
    SUSPENDED = "suspended"


class EnrollmentStateError(ServiceError):
    """The enrollment is not in the state that this step needs; `fault` says what does not fit."""

    def __init__(self, fault: EnrollmentFault, message: str) -> None:
        super().__init__(message)
        self.fault = fault


class ChallengeStateError(ServiceError):
    """The challenge is unknown, or its state does not fit the call.

    `state` is the state of the challenge, for its own user and its caller. The state is None if the
    challenge does not exist or belongs to others: the answer is the same, so that nobody can probe
    ids.
    """

    def __init__(self, state: str | None = None) -> None:
        what = "unknown, or does not ask this actor" if state is None else f"{state} already"
        super().__init__(f"the challenge is {what}")
        self.state = state


class ChallengeLimitError(ServiceError):
    """Too many challenges are pending, or were created within the last minute.

    `retry_after` is the time until the caller may create the next challenge. None means that a
    pending challenge must end first.
    """

    def __init__(self, message: str, retry_after: timedelta | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class WaitingLimitError(ServiceError):
    """Too many calls of the caller, or of all callers, wait for challenges."""


class DrainingError(ServiceError):
    """The server stops. The client has to call another server."""


class MfaEnforcedError(ServiceError):
    """MFA cannot be turned off for an account while the tenant's policy is enabled."""


class UnknownTenantError(ServiceError):
    """The tenant was never given a policy, and the deployment refuses such tenants."""


class EtagMismatchError(ServiceError):
    """The policy has changed since the caller read it."""


class RequestUnderWayError(ServiceError):
    """Another call with the same request id has not ended yet; this call has changed nothing."""


class StoreUnavailableError(ServiceError):
    """A store cannot be reached, or what is known is too old to decide on (S17).

    The message is for callers. `fault` is for operators, in logs and commands: it may name a host,
    a file or a user of the store, which no caller may learn.
    """

    def __init__(self, message: str, fault: str | None = None) -> None:
        super().__init__(message)
        self.fault = fault or message


class ConflictError(StoreUnavailableError):
    """Another call changed the same state first; nothing of this one was written."""
