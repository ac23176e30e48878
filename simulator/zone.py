"""One hosted zone as plain data: what Route 53 has accepted, and what its DNS servers answer by now.

The two differ for `propagation_seconds` after each change, and that difference is what this model is for: a caller
that believes a change is live because it was accepted is wrong here, as it would be there. No I/O and no clock: `now`
is an argument, in seconds of any monotonic clock, as long as it is always the same one.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from types import MappingProxyType

from dns.rdtypes.ANY.SOA import SOA

from simulator.records import RecordKey, RecordSet, complaints, is_within, normalised

Records = Mapping[RecordKey, RecordSet]

MAX_RECORDS_PER_BATCH = 1_000
MAX_VALUE_CHARACTERS_PER_BATCH = 32_000
NS_TTL_SECONDS = 172_800
SOA_TTL_SECONDS = 900
SERIAL_MODULUS = 2**32


class Action(Enum):
    CREATE = "CREATE"
    DELETE = "DELETE"
    UPSERT = "UPSERT"


class ChangeStatus(Enum):
    PENDING = "PENDING"
    INSYNC = "INSYNC"


@dataclass(frozen=True, slots=True)
class Change:
    action: Action
    record_set: RecordSet


@dataclass(frozen=True, slots=True)
class AppliedBatch:
    """One accepted batch. `accepted_at` is the `now` it was applied with, in seconds."""

    change_id: str
    accepted_at: float
    changes: tuple[Change, ...]
    comment: str


@dataclass(frozen=True, slots=True)
class _Waiting:
    due_at: float
    change_id: str
    records: Records


class BatchRefused(ValueError):
    """Nothing of the batch was applied. `messages` holds each fault, as InvalidChangeBatch lists them."""

    def __init__(self, messages: Sequence[str]) -> None:
        super().__init__(", ".join(messages))
        self.messages = tuple(messages)


class UnknownChange(LookupError):
    """No batch of this zone has that change id."""


class Zone:
    """A hosted zone. `records` are there from the start, in sync, and not part of `history`.

    `history` is the accepted batches, oldest first. `propagation_seconds` may be changed at any time and holds for
    batches accepted from then on; batches always propagate in the order in which they were accepted.
    """

    def __init__(
        self,
        name: str,
        zone_id: str = "Z0SIMULATOR",
        name_servers: Sequence[str] = ("ns-1.simulator.test.", "ns-2.simulator.test."),
        propagation_seconds: float = 0.5,
        records: Iterable[RecordSet] = (),
    ) -> None:
        self.name = normalised(name)
        self.zone_id = zone_id
        self.name_servers = tuple(name_servers)
        self.propagation_seconds = propagation_seconds
        self.history: list[AppliedBatch] = []
        self._held = False
        self._waiting: deque[_Waiting] = deque()
        self._accepted: Records = self._first_records(records)
        self._propagated: Records = self._accepted

    @property
    def accepted(self) -> Records:
        """What ListResourceRecordSets shows: every accepted change, PENDING ones too. A snapshot: it never changes."""
        return MappingProxyType(dict(self._accepted))

    def propagated(self, now: float) -> Records:
        """What the DNS servers answer at `now`. A snapshot: it never changes."""
        self._settle(now)
        return MappingProxyType(dict(self._propagated))

    @property
    def serial(self) -> int:
        """The accepted SOA serial. It rises by one with each change of an accepted batch."""
        return _serial(self._accepted[RecordKey(self.name, "SOA")])

    @property
    def held(self) -> bool:
        """Whether propagation stands still (see `hold`)."""
        return self._held

    def apply(self, changes: Sequence[Change], now: float, comment: str = "") -> AppliedBatch:
        """Accepts all of the changes or, with BatchRefused, none. Changes are taken in their order within the batch."""
        self._settle(now)
        after = dict(self._accepted)
        messages = [*_batch_complaints(changes), *self._attempt(changes, after)]
        if messages:
            raise BatchRefused(messages)
        self._raise_serial(after, by=len(changes))
        batch = AppliedBatch(f"C{self.zone_id}{len(self.history) + 1:06d}", now, tuple(changes), comment)
        self.history.append(batch)
        self._accepted = after
        self._waiting.append(_Waiting(now + self.propagation_seconds, batch.change_id, after))
        return batch

    def status(self, change_id: str, now: float) -> ChangeStatus:
        """PENDING until every name server answers with the change, then INSYNC. Raises UnknownChange."""
        self._settle(now)
        if all(batch.change_id != change_id for batch in self.history):
            raise UnknownChange(f"zone {self.name} has no change {change_id}")
        pending = any(waiting.change_id == change_id for waiting in self._waiting)
        return ChangeStatus.PENDING if pending else ChangeStatus.INSYNC

    def hold(self, now: float) -> None:
        """Stops propagation at `now`: what is PENDING stays so, and what is accepted from here on joins it."""
        self._settle(now)
        self._held = True

    def release(self, now: float) -> None:
        """Ends `hold`: changes whose time has passed are in sync at once."""
        self._held = False
        self._settle(now)

    def _settle(self, now: float) -> None:
        while self._waiting and not self._held and self._waiting[0].due_at <= now:
            self._propagated = self._waiting.popleft().records

    def _first_records(self, records: Iterable[RecordSet]) -> Records:
        soa = f"{normalised(self.name_servers[0])} hostmaster.{self.name} 1 7200 900 1209600 86400"
        own = (
            RecordSet(self.name, "NS", NS_TTL_SECONDS, tuple(normalised(server) for server in self.name_servers)),
            RecordSet(self.name, "SOA", SOA_TTL_SECONDS, (soa,)),
        )
        first = {record_set.key: record_set for record_set in own}
        messages = self._attempt([Change(Action.CREATE, record_set) for record_set in records], first)
        if refused := list(messages):
            raise BatchRefused(refused)
        return first

    def _attempt(self, changes: Iterable[Change], records: dict[RecordKey, RecordSet]) -> Iterator[str]:
        """Applies changes to `records` in place and yields what is wrong.

        After a fault it goes on as if the change had been good: one fault is told once, and later ones are found. A
        record set that isn't one (values that can't be read) is left out: nothing can be compared with it."""
        for change in changes:
            yield from self._faults(change, records)
            if any(complaints(change.record_set)):
                continue
            if change.action is Action.DELETE:
                records.pop(change.record_set.key, None)
            else:
                records[change.record_set.key] = change.record_set

    def _faults(self, change: Change, records: Records) -> Iterator[str]:
        wanted = change.record_set
        own_faults = list(complaints(wanted))
        yield from own_faults
        if not is_within(wanted.name, self.name):
            yield f"RRSet with DNS name {wanted.name} is not permitted in zone {self.name}"
        elif change.action is Action.DELETE:
            yield from () if own_faults else self._delete_faults(wanted, records)
        else:
            yield from self._write_faults(change, records)

    def _delete_faults(self, wanted: RecordSet, records: Records) -> Iterator[str]:
        tried = f"Tried to delete resource record set [name='{wanted.name}', type='{wanted.type}']"
        current = records.get(wanted.key)
        if current is None:
            yield f"{tried} but it was not found"
        elif not current.matches(wanted):
            yield f"{tried} but the values provided do not match the current values"
        elif wanted.name == self.name and wanted.type in {"NS", "SOA"}:
            yield f"A HostedZone must contain its own {wanted.type} record set for the zone {self.name}"

    def _write_faults(self, change: Change, records: Records) -> Iterator[str]:
        wanted = change.record_set
        if change.action is Action.CREATE and wanted.key in records:
            what = f"[name='{wanted.name}', type='{wanted.type}']"
            yield f"Tried to create resource record set {what} but it already exists"
        refused = f"RRSet of type {wanted.type} with DNS name {wanted.name} is not permitted"
        others = {key.type for key in records if key.name == wanted.name and key.type != wanted.type}
        if wanted.type == "CNAME" and wanted.name == self.name:
            yield f"{refused} at apex in zone {self.name}"
        elif wanted.type == "CNAME" and others:
            yield f"{refused} as it conflicts with other records with the same DNS name in zone {self.name}"
        elif "CNAME" in others:
            conflict = "because a conflicting RRSet of type CNAME with the same DNS name already exists"
            yield f"{refused} {conflict} in zone {self.name}"

    def _raise_serial(self, records: dict[RecordKey, RecordSet], by: int) -> None:
        key = RecordKey(self.name, "SOA")
        risen = (_serial(records[key]) + by) % SERIAL_MODULUS
        soa = records[key].rdatas()[0].replace(serial=risen)
        records[key] = replace(records[key], values=(soa.to_text(),))


def _serial(record_set: RecordSet) -> int:
    (soa,) = record_set.rdatas()
    if not isinstance(soa, SOA):
        raise TypeError(f"{record_set.name} type {record_set.type} is not a SOA record set")
    return soa.serial


def _batch_complaints(changes: Sequence[Change]) -> Iterator[str]:
    """What is wrong with the batch as a whole. Limits: Route 53 quotas, where an UPSERT counts twice."""
    if not changes:
        yield "The batch holds no changes"
    weighed = [(2 if change.action is Action.UPSERT else 1, change.record_set.values) for change in changes]
    if sum(weight * len(values) for weight, values in weighed) > MAX_RECORDS_PER_BATCH:
        yield f"Number of records limit of {MAX_RECORDS_PER_BATCH} exceeded."
    if sum(weight * sum(map(len, values)) for weight, values in weighed) > MAX_VALUE_CHARACTERS_PER_BATCH:
        yield f"Value characters limit of {MAX_VALUE_CHARACTERS_PER_BATCH} exceeded."
    actions: dict[RecordKey, list[Action]] = {}
    for change in changes:
        actions.setdefault(change.record_set.key, []).append(change.action)
    for key, taken in actions.items():
        if len(taken) > 1 and taken != [Action.DELETE, Action.CREATE]:
            yield f"The request contains an invalid set of changes for a resource record set '{key.type} {key.name}'"
