"""The settings of the rules: ids, codes, receipts, and additions to the catalogue."""

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field

from stepup.domain.operations import OperationId
from stepup.domain.text import Title
from stepup.domain.totp import Label
from stepup.settings.section import Section, checked


class IdentitySettings(Section):
    """What ids of tenants and users mean: see [ids](operating.md#ids)."""

    fold_case: bool = False
    """Whether the server folds ids of tenants and users to lower case (ASCII), also in the rules of
    callers, so that case does not matter. The next start folds stored ids for good."""
    unknown_tenants: Literal["allow", "refuse"] = "allow"
    """How the server answers calls for a tenant that never had a policy: with `refuse` they fail
    (UNKNOWN_TENANT), except calls of PolicyService."""


class VerificationSettings(Section):
    """How the server checks codes."""

    issuer: Annotated[Label, checked(Label)] = Label("stepup")
    """What authenticator apps show above the account, followed by the tenant's id. It serves the
    tenants whose policy names no issuer."""
    back_steps: Annotated[int, Field(ge=0, le=1)] = 0
    """How many past 30-second steps are accepted. 1 is weaker (S1), for clocks that lag; the log
    says `codes_of_the_step_before_are_accepted` at each start."""
    retry_window: Annotated[timedelta, Field(gt=timedelta(), le=timedelta(hours=24))] = timedelta(
        minutes=60
    )
    """How long after the first authorization a receipt proves a retry."""


class CategorySettings(Section):
    """A category that an operator adds to the catalogue."""

    id: str
    """The first part of its operations' ids."""
    title: Annotated[Title, checked(Title)]
    """The name that a console shows."""


class OperationSettings(Section):
    """An operation that an operator adds to the catalogue."""

    id: Annotated[OperationId, checked(OperationId)]
    """`<category>.<name>`. In the category `response` it is a response action: exemptions apply."""
    title: Annotated[Title, checked(Title)]
    """The name that a console shows."""


class CatalogueSettings(Section):
    """Additions to the shipped catalogue."""

    categories: tuple[CategorySettings, ...] = ()
    operations: tuple[OperationSettings, ...] = ()
