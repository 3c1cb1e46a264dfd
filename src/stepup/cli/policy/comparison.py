"""How many prompts another policy adds and removes, for how many people, by operation."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Self, TypeAlias

from stepup.cli.policy.recorded import RecordedCall, RecordedPerson
from stepup.domain.decision import Decision, Reason, Verdict
from stepup.domain.operations import OperationId
from stepup.domain.policy import Policy
from stepup.domain.simulation import SimulatedPerson

Kind: TypeAlias = Literal["before", "after", "added", "removed"]
KINDS: Final[tuple[Kind, ...]] = ("before", "after", "added", "removed")
_ASKED: Final = "asked"
# By whether the call was a prompt before, and whether it is a prompt after.
_COUNTED: Final[Mapping[tuple[bool, bool], tuple[str, ...]]] = {
    (False, False): (_ASKED,),
    (False, True): (_ASKED, "after", "added"),
    (True, False): (_ASKED, "before", "removed"),
    (True, True): (_ASKED, "before", "after"),
}
_ALL: Final = None
"""Stands for all operations together."""


@dataclass(slots=True)
class Tally:
    """Counts calls, prompts before and after the change, and the people who have them.

    A prompt is a call whose answer demands a code, an approval or an enrollment. One code serves
    all checks of a call.
    """

    _calls: Counter[str] = field(default_factory=Counter)
    _people: Counter[str] = field(default_factory=Counter)

    def add_person(self, calls: Counter[str]) -> None:
        """Add the calls of one person."""
        self._calls += calls
        self._people.update(calls.keys())

    @property
    def calls(self) -> int:
        """How many calls asked, with a prompt or without one."""
        return self._calls[_ASKED]

    @property
    def people(self) -> int:
        """How many people they asked about."""
        return self._people[_ASKED]

    def prompts(self, kind: Kind) -> int:
        """How many prompts there are of this kind."""
        return self._calls[kind]

    def prompted(self, kind: Kind) -> int:
        """How many people have at least one prompt of this kind."""
        return self._people[kind]

    def as_json(self) -> dict[str, int]:
        """The numbers by name."""
        numbers = {"calls": self.calls, "people": self.people}
        for kind in KINDS:
            numbers[f"prompts_{kind}"] = self.prompts(kind)
            numbers[f"people_{kind}"] = self.prompted(kind)
        return numbers


@dataclass(slots=True)
class Comparison:
    """What changes between two policies, or between the recorded answers and a policy.

    `operations` has the operations that somebody asked about, and those that the policy selects.
    `people_to_enrol` counts the people who have to enrol under the policy, and `people_in_grace`
    those whom its time to enrol allows an action.
    """

    total: Tally = field(default_factory=Tally)
    operations: dict[OperationId, Tally] = field(default_factory=dict)
    people_to_enrol: int = 0
    people_in_grace: int = 0

    @classmethod
    def of(cls, people: Iterable[RecordedPerson], before: Policy | None, after: Policy) -> Self:
        """Decide all calls again.

        Args:
            people: each with their calls.
            before: the policy to compare with; None for the recorded answers.
            after: the other policy.
        """
        comparison = cls(operations={each: Tally() for each in after.max_ages})
        for person in people:
            comparison._add(person, before, after)
        return comparison

    def ranked(self) -> list[tuple[OperationId, Tally]]:
        """The operations, those with the most changes first."""

        def rank(item: tuple[OperationId, Tally]) -> tuple[int, int, str]:
            operation, tally = item
            changed = tally.prompts("added") + tally.prompts("removed")
            return -changed, -tally.prompts("after"), operation

        return sorted(self.operations.items(), key=rank)

    def prompted(self) -> list[tuple[OperationId, Tally]]:
        """Those of `ranked` with a prompt before or after the change."""
        return [
            (operation, tally)
            for operation, tally in self.ranked()
            if tally.prompts("before") or tally.prompts("after")
        ]

    def as_json(self) -> dict[str, object]:
        """The comparison with the names of its fields."""
        operations = [{"operation": each, **tally.as_json()} for each, tally in self.ranked()]
        return {
            "people_to_enrol": self.people_to_enrol,
            "people_in_grace": self.people_in_grace,
            "total": self.total.as_json(),
            "operations": operations,
        }

    def _add(self, person: RecordedPerson, before: Policy | None, after: Policy) -> None:
        baseline = None if before is None else SimulatedPerson(before, person.beginning)
        simulated = SimulatedPerson(after, person.beginning)
        counted: defaultdict[OperationId | None, Counter[str]] = defaultdict(Counter)
        reasons = set[Reason]()
        for call in person.calls:
            verdicts = simulated.check(call.checks)
            reasons.update(verdict.reason for verdict in verdicts)
            was = call.prompted if baseline is None else _prompts(baseline.check(call.checks))
            for operation, prompt in _by_operation(call, was, _prompts(verdicts)).items():
                counted[operation].update(_COUNTED[prompt])
        for operation, calls in counted.items():
            tally = (
                self.total if operation is _ALL else self.operations.setdefault(operation, Tally())
            )
            tally.add_person(calls)
        self.people_to_enrol += Reason.NOT_ENROLLED in reasons
        self.people_in_grace += Reason.ENROLLMENT_GRACE in reasons


def _prompts(verdicts: Iterable[Verdict]) -> tuple[bool, ...]:
    return tuple(verdict.decision is not Decision.ALLOWED for verdict in verdicts)


def _by_operation(
    call: RecordedCall, before: Sequence[bool], after: Sequence[bool]
) -> dict[OperationId | None, tuple[bool, bool]]:
    """Whether each operation of a call, and the call (_ALL), was a prompt, and is a prompt."""
    found: dict[OperationId | None, tuple[bool, bool]] = {_ALL: (any(before), any(after))}
    for check, was, becomes in zip(call.checks, before, after, strict=True):
        earlier = found.get(check.operation.id, (False, False))
        found[check.operation.id] = (earlier[0] or was, earlier[1] or becomes)
    return found
