"""The policy panel: MFA for a business, for its Master Administrators."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from markupsafe import Markup
from starlette.responses import Response

from stepup.client import StepUpError
from stepup.v1 import people_service_pb2 as people_pb
from stepup.v1 import policy_service_pb2 as pb
from stepup.web.codes import give_code, standing_of
from stepup.web.forms import Form
from stepup.web.operations import title_of
from stepup.web.policy_changes import Change, changes_between, digest_of, option_of
from stepup.web.policy_form import Entries, ages_offered, entries_of, read_form
from stepup.web.policy_values import LONGEST, PolicyValues, fields_that_differ, policy_of, values_of
from stepup.web.rendering import render, to
from stepup.web.routing import PageRoute
from stepup.web.texts import N_, Texts
from stepup.web.visits import Visit

_PROBLEMS: Final[Mapping[str, str]] = {
    "issuer": N_("The name has a character that is not allowed, or shows nothing."),
    "enroll_by": N_(
        "The time must be in the future, and at most 30 days after MFA was turned on last."
    ),
    "operations": N_("The list of operations has changed. Check your selection."),
}
"""What the core refuses, and the form does not find, by the field of the form."""
_FIELDS: Final[Mapping[str, str]] = {
    "policy.issuer": "issuer",
    "policy.enroll_by": "enroll_by",
    "policy.operations": "operations",
    "UNKNOWN_OPERATION": "operations",
}
"""The fields of the form by the fields and reasons of the core."""


async def show(visit: Visit, _: Form) -> Response:
    """Show *Enable MFA* while MFA is off; otherwise lead to the panel."""
    answer, standing = await asyncio.gather(
        visit.stepup.policy.get(tenant_id="", metadata=visit.metadata),
        standing_of(visit),
    )
    if answer.policy.enabled:
        return to(visit, "panel")
    return render(visit, "policy_enable.html", standing=standing)


async def show_panel(visit: Visit, _: Form) -> Response:
    """Show the policy that is in force, as a form."""
    state = await _read(visit)
    return _panel(visit, state, entries_of(state.values, visit.texts.zone))


async def save(visit: Visit, form: Form) -> Response:
    """Save the entries of the panel.

    A change that weakens the policy is first shown in words, and needs a code unless the session is
    elevated. If somebody else has saved since the form was shown, nothing is saved.
    """
    state = await _read(visit)
    entries = read_form(form, state.values, state.titles, datetime.now(UTC), visit.texts)
    if entries.errors:
        return _panel(visit, state, entries)
    changes = state.changes_to(entries.values)
    if not changes and state.policy.HasField("update_time"):
        return to(visit, "panel", done="saved")
    if form["etag"] != state.policy.etag:
        return _panel(visit, state, entries, others_saved=True)
    weakening = _weakening(changes)
    if weakening and form["accepted"] != digest_of(weakening):
        return _panel(visit, state, entries)
    if form["code"] or (weakening and not state.is_elevated):
        if problem := await give_code(visit, form):
            return _panel(visit, state, entries.with_error("code", problem), asks_code=True)
        state = replace(state, is_elevated=True)
    return await _update(visit, state, entries)


async def _update(visit: Visit, state: "_State", entries: Entries) -> Response:
    try:
        await visit.stepup.policy.update(
            policy=policy_of(entries.values, state.policy.etag),
            # A tenant without a policy gets one, even if nothing differs: it is then known.
            update_mask=fields_that_differ(state.values, entries.values) or ["enabled"],
            metadata=visit.metadata,
        )
    except StepUpError as error:
        if error.reason == "ETAG_MISMATCH":
            state = await _read(visit)
            if state.values == entries.values:
                return to(visit, "panel", done="saved")
            return _panel(visit, state, entries, others_saved=True)
        if error.reason == "ELEVATION_REQUIRED":
            is_enrolled = error.details.get("next_step") != "ENROLL"
            state = replace(state, is_elevated=False, is_enrolled=is_enrolled)
            return _panel(visit, state, entries, asks_code=True)
        field = _FIELDS.get(error.field or error.reason)
        if field is None:
            raise
        problem = visit.texts.gettext(_PROBLEMS[field])
        return _panel(visit, state, entries.with_error(field, problem))
    return to(visit, "panel", done="saved")


@dataclass(frozen=True, slots=True)
class _State:
    """What the core says about the business and the person.

    Args:
        counts: None where the callers may not read them, or the core has too much to do.
        is_elevated: whether the person may weaken the policy without a further code.
        is_enrolled: whether the person has an authenticator; True if that cannot be read.
    """

    texts: Texts
    policy: pb.Policy
    in_grace: int
    categories: Sequence[pb.OperationCategory]
    counts: people_pb.PeopleCounts | None
    is_elevated: bool
    is_enrolled: bool

    @property
    def values(self) -> PolicyValues:
        return values_of(self.policy)

    @property
    def titles(self) -> Mapping[str, str | Markup]:
        """The titles of all operations, in the order of the panel."""
        return {
            operation.id: title_of(self.texts, operation.title)
            for category in self.categories
            for operation in category.operations
        }

    def changes_to(self, wanted: PolicyValues) -> list[Change]:
        return changes_between(self.texts, self.titles, self.values, wanted)


async def _read(visit: Visit) -> _State:
    metadata = visit.metadata
    policy, catalogue, counts, standing = await asyncio.gather(
        visit.stepup.policy.get(tenant_id="", metadata=metadata),
        visit.stepup.policy.list_operations(metadata=metadata),
        _counts(visit),
        standing_of(visit),
    )
    return _State(
        visit.texts,
        policy.policy,
        policy.people_in_grace,
        catalogue.categories,
        counts,
        is_elevated=standing is not None and standing.HasField("elevation"),
        is_enrolled=standing is None or standing.HasField("active"),
    )


async def _counts(visit: Visit) -> people_pb.PeopleCounts | None:
    try:
        people = await visit.stepup.people.list(counts_only=True, metadata=visit.metadata)
    except StepUpError as error:
        if error.reason in {"CALLER_NOT_PERMITTED", "OVERLOADED"}:
            return None
        raise
    return people.counts


def _panel(
    visit: Visit,
    state: _State,
    entries: Entries,
    *,
    others_saved: bool = False,
    asks_code: bool = False,
) -> Response:
    """Return the panel with the entries: 422 if they are not saved.

    Args:
        visit: the visit.
        state: what is in force. The form is based on its etag from now on.
        entries: what the person entered.
        others_saved: somebody else has saved since the form was shown.
        asks_code: the core wants a code, whatever the changes are.
    """
    changes = [] if entries.errors.keys() - {"code"} else state.changes_to(entries.values)
    weakening = _weakening(changes)
    return render(
        visit,
        "policy.html",
        422 if changes or entries.errors else 200,
        state=state,
        policy=state.policy,
        entries=entries,
        errors=list(entries.errors.items()),
        problem=lambda field: entries.errors.get(field, ""),
        changes=changes if others_saved else [],
        weakening=weakening,
        accepted=digest_of(weakening),
        asks_code=asks_code or (bool(weakening) and not state.is_elevated),
        categories=[
            (title_of(visit.texts, each.title), each.operations) for each in state.categories
        ],
        titles=state.titles,
        longest=LONGEST,
        options_of=lambda age: [
            (str(each), option_of(visit.texts, each)) for each in ages_offered(age)
        ],
        lost=sorted(state.values.ages.keys() - state.titles.keys()),
    )


def _weakening(changes: Sequence[Change]) -> list[Change]:
    return [each for each in changes if each.weakens]


ROUTES: Final = (
    PageRoute("", show),
    PageRoute("panel", show_panel),
    PageRoute("panel", save, method="POST"),
)
