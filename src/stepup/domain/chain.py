"""Whether a tenant's audit events are what was once appended, and all of it (S14)."""

from collections.abc import Iterator
from datetime import datetime
from typing import TypeAlias

from stepup.domain.actor import Device, UserId
from stepup.domain.audit import NO_HASH, ChainedEvent, chain_hash, client_hash
from stepup.domain.values import value


@value
class Unreadable:
    """A row that no append has left like this; its number, where it has one."""

    sequence: int | None
    problem: str


@value
class Head:
    """The end of a chain: the number of its last event, and that event's hash."""

    sequence: int
    hash: bytes


@value
class EventClient:
    """The device of an event's acting person, as it is stored beside the chain."""

    sequence: int
    user_id: UserId
    occurred_at: datetime
    salt: bytes
    client: Device


StoredClient: TypeAlias = EventClient | Unreadable


@value
class Checkpoint:
    """Where a chain begins whose older events were pruned: after the event of this number and hash.

    The signature is by the head key of `key_id`.
    """

    tenant: str
    sequence: int
    hash: bytes
    pruned_at: datetime
    key_id: str
    signature: bytes


StoredCheckpoint: TypeAlias = Checkpoint | Unreadable | None
StoredEvent: TypeAlias = ChainedEvent | Unreadable
StoredHead: TypeAlias = Head | Unreadable | None


@value
class Damage:
    """What is wrong, and where. The tenant is as stored: after damage it may be no `TenantId`."""

    tenant: str
    sequence: int | None
    problem: str


def client_problem(stored: StoredClient, of: StoredEvent | None) -> str | None:
    """What is wrong with a stored device of an event; None if the event has its hash.

    The device of an unreadable event cannot be compared.
    """
    match stored, of:
        case Unreadable(problem=problem), _:
            return f"the device of the event: {problem}"
        case _, None:
            return "there is a device without its event"
        case EventClient() as beside, ChainedEvent(event=event):
            is_as_appended = (
                beside.user_id == event.actor_user_id
                and beside.occurred_at == event.occurred_at
                and client_hash(beside.client, beside.salt) == event.details.get("client")
            )
            return None if is_as_appended else "the device is not the one of the event"
    return None


class ChainCheck:
    """Follows one tenant's chain from its first event to its head, and reports every damage.

    A chain whose oldest events were pruned begins after its checkpoint. It has to contain
    `exported`, a head that was exported earlier.
    """

    def __init__(self, tenant: str, exported: Head | None = None) -> None:
        self._tenant = tenant
        self._exported = exported
        self._last = 0
        self._checkpoint: Head | None = None
        # What the next event may follow; None where nobody can know.
        self._links: frozenset[bytes] | None = frozenset({NO_HASH})

    @property
    def last(self) -> int:
        """The greatest number so far; 0 before the first event."""
        return self._last

    @property
    def _pruned(self) -> int:
        """The number of the last pruned event; 0 if none was pruned."""
        return self._checkpoint.sequence if self._checkpoint is not None else 0

    def begin_after(self, checkpoint: Head) -> None:
        """Continue after a checkpoint: the events through its number were pruned."""
        self._last = checkpoint.sequence
        self._links = frozenset({checkpoint.hash})
        self._checkpoint = checkpoint

    def follow(self, stored: StoredEvent) -> Iterator[Damage]:
        """Take the next event, in the order of numbers."""
        number = stored.sequence
        if number is None or number < 1:
            yield self._damage(number, "an event cannot have this number")
            return
        if number <= self._pruned:
            yield self._damage(number, "the event was pruned, and is stored again")
            return
        yield from self._place(number)
        if isinstance(stored, Unreadable):
            yield self._damage(number, stored.problem)
            self._links = None
        else:
            yield from self._check(stored)
        self._last = number

    def finish(self, head: StoredHead) -> Iterator[Damage]:
        """Compare the end of the chain with its head, and with the exported one."""
        last = self._last
        match head:
            case Head(sequence=sequence) if last and sequence <= last == self._pruned:
                yield self._damage(last, "all events after the checkpoint are missing")
            case None if last:
                yield self._damage(last, "the head of the chain is gone")
            case Unreadable(problem=problem):
                yield self._damage(last, f"the head of the chain: {problem}")
            case Head(sequence=sequence) if sequence > last:
                yield self._missing(last + 1, sequence, "at the end")
            case Head(sequence=sequence) if sequence < last or not last:
                yield self._damage(last, f"the head of the chain is at {sequence}")
            case Head(hash=hash_) if self._links is not None and hash_ not in self._links:
                yield self._damage(last, "the head of the chain has another hash")
        exported, checkpoint = self._exported, self._checkpoint
        if exported is None:
            return
        if checkpoint and checkpoint.sequence == exported.sequence and checkpoint != exported:
            yield self._damage(
                exported.sequence, "the checkpoint has another hash than the exported head"
            )
        if exported.sequence > last:
            yield self._missing(last + 1, exported.sequence, "which the exported head counts")

    def _place(self, number: int) -> Iterator[Damage]:
        if number > self._last + 1:
            where = "in between" if self._last else "at the beginning"
            yield self._missing(self._last + 1, number - 1, where)
            self._links = None
        elif number <= self._last:
            yield self._damage(number, "there are two events of this number")
            self._links = None

    def _check(self, stored: ChainedEvent) -> Iterator[Damage]:
        number = stored.sequence
        if stored.event.tenant_id != self._tenant:
            yield self._damage(number, "the event is of another tenant")
        computed = chain_hash(stored.event, number, stored.previous_hash)
        if computed != stored.hash:
            yield self._damage(number, "the event does not match its hash: altered, or moved here")
        if self._links is not None and stored.previous_hash not in self._links:
            yield self._damage(number, "the event does not follow the one before it")
        exported = self._exported
        if exported and number == exported.sequence and stored.hash != exported.hash:
            yield self._damage(number, "the event is not the one of the exported head")
        # Either will do: which of event and hash was altered shows in what follows, and the event
        # after it is not to blame.
        self._links = frozenset({stored.hash, computed})

    def _missing(self, first: int, last: int, where: str) -> Damage:
        which = f"event {first} is" if first == last else f"events {first} to {last} are"
        return self._damage(first, f"{which} missing {where}")

    def _damage(self, sequence: int | None, problem: str) -> Damage:
        return Damage(self._tenant, sequence, problem)
