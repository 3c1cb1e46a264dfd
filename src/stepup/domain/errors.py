"""The errors of the product: one small tree, mapped to gRPC status in `stepup.rpc.errors` only."""


class StepUpError(Exception):
    """The call is not answered; whatever it was about must not happen."""


class InvalidValueError(StepUpError):
    """A value is not what its type takes. The message completes "<field> ..."; it has no value."""


class InvalidFieldError(StepUpError):
    """A field of a request is missing or malformed."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field} {problem}")
        self.field = field
        self.problem = problem


class UnknownOperationError(InvalidFieldError):
    """An operation is not in the catalogue."""


class RoleRequiredError(StepUpError):
    """The actor is no Master Administrator."""


class ElevationRequiredError(StepUpError):
    """The actor's own session has to be elevated for this."""


class EnrollmentStateError(StepUpError):
    """The enrollment is not in the state that this step needs."""


class MfaEnforcedError(StepUpError):
    """MFA cannot be turned off for an account while the tenant's policy is enabled."""


class EtagMismatchError(StepUpError):
    """The policy has changed since the caller read it."""


class StoreUnavailableError(StepUpError):
    """A store cannot be reached, or what is known is too old to decide on (S17)."""


class ConflictError(StoreUnavailableError):
    """Another call changed the same state first; nothing of this one was written."""
