"""The catalogue: the operations that a policy can select, in their categories."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import field
from typing import Final, Self

from stepup.domain.errors import InvalidValueError
from stepup.domain.text import Title
from stepup.domain.values import value

_ID = re.compile(r"[a-z][a-z0-9_]{0,62}")
RESPONSE = "response"
MAX_BATCH: Final = 100
"""How many operations one call may ask about."""


class OperationId(str):
    """`category.name`, both lower-case letters, digits, underscores: `response.run_osquery`."""

    __slots__ = ()

    def __new__(cls, value: str) -> Self:
        """Check the id.

        Raises:
            InvalidValueError: it has another form.
        """
        if not value:
            raise InvalidValueError("is required")
        category, dot, name = value.partition(".")
        if not (dot and _ID.fullmatch(category) and _ID.fullmatch(name)):
            raise InvalidValueError('must have the form "category.name"')
        return super().__new__(cls, value)

    @property
    def category(self) -> str:
        """The part before the dot."""
        return self.partition(".")[0]


SIGN_IN = OperationId("account.sign_in")
"""Built in and not selectable: the policy's `enabled` governs it."""


@value
class Operation:
    """Something a person does that can need a code.

    `is_response_action` says whether the exemptions for response actions can apply.
    """

    id: OperationId
    title: Title
    is_response_action: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "is_response_action", self.id.category == RESPONSE)


@value
class Category:
    """A group of operations, as a policy panel shows it."""

    id: str
    title: Title

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.id):
            raise InvalidValueError("must be lower-case letters, digits and underscores")
        if self.id == SIGN_IN.category:
            raise InvalidValueError(f"must not be the built-in category {self.id!r}")


class Catalogue:
    """All operations that can be asked about, and the order in which to show them."""

    def __init__(self, categories: Iterable[Category], operations: Iterable[Operation]) -> None:
        """Build a catalogue.

        Raises:
            InvalidValueError: an id stands twice, or an operation's category is missing.
        """
        self._operations: dict[str, Operation] = {}
        self._members: dict[Category, list[Operation]] = {}
        by_id: dict[str, Category] = {}
        for category in categories:
            if category.id in by_id:
                raise InvalidValueError(f"has the category {category.id!r} twice")
            by_id[category.id] = category
            self._members[category] = []
        for operation in operations:
            if operation.id in self._operations:
                raise InvalidValueError(f"has the operation {operation.id!r} twice")
            if operation.id.category not in by_id:
                raise InvalidValueError(f"has the operation {operation.id!r} without its category")
            self._operations[operation.id] = operation
            self._members[by_id[operation.id.category]].append(operation)

    def find(self, operation_id: str) -> Operation | None:
        """The operation of this id: a selectable one, or sign-in."""
        return _SIGN_IN_OPERATION if operation_id == SIGN_IN else self._operations.get(operation_id)

    @property
    def ids(self) -> tuple[OperationId, ...]:
        """Every operation that can be found: sign-in, then those of the panel in their order."""
        selectable = (each.id for members in self._members.values() for each in members)
        return (SIGN_IN, *selectable)

    def is_selectable(self, operation_id: str) -> bool:
        """Whether a policy can select the operation."""
        return operation_id in self._operations

    def __iter__(self) -> Iterator[tuple[Category, tuple[Operation, ...]]]:
        """The categories with their operations, in the order of a policy panel."""
        return ((category, tuple(members)) for category, members in self._members.items())

    def extended(self, categories: Iterable[Category], operations: Iterable[Operation]) -> Self:
        """This catalogue with an operator's additions; what is here already always stays.

        Raises:
            InvalidValueError: an addition stands twice, or its category is missing.
        """
        return type(self)([*self._members, *categories], [*self._operations.values(), *operations])


_SIGN_IN_OPERATION = Operation(SIGN_IN, Title("Sign in"))


def _operations(category: str, titles: dict[str, str]) -> list[Operation]:
    return [
        Operation(OperationId(f"{category}.{name}"), Title(title)) for name, title in titles.items()
    ]


SHIPPED = Catalogue(
    [
        Category("iam", Title("Identity and access management operations")),
        Category("response", Title("Response actions")),
        Category("playbook", Title("Security playbook operations")),
    ],
    [
        *_operations(
            "iam",
            {
                "configure_api_keys": "Configure API Keys settings",
                "configure_identity_providers": "Configure identity providers",
                "configure_access": (
                    "Configure user roles, user accounts, and asset visibility scopes"
                ),
            },
        ),
        *_operations(
            "response",
            {
                "add_custom_script": "Add custom scripts",
                "collect_evidence": "Collect Evidence task",
                "collect_file": "Collect File task",
                "run_yara_rules": "Run YARA rules task",
                "run_remote_custom_script": "Run Remote Custom Script task",
                "run_osquery": "Run osquery task",
                "start_remote_shell": "Start Remote Shell Session task",
                "submit_for_sandbox_analysis": "Submit for Sandbox Analysis task",
            },
        ),
        *_operations(
            "playbook",
            {
                "manage": "Create, edit, or delete playbooks",
                "decide_pending_action": "Approve or reject pending actions",
                "upload_custom_script": "Upload a new custom script",
                "execute_manually": (
                    "Manually execute playbooks in Security Playbooks or from Workbench"
                ),
            },
        ),
    ],
)
"""The catalogue of product.md. Operators add to it in the configuration file."""
