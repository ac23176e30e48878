"""The zone as plain values: what a batch may do, what it may not, and when the world sees it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.records import RecordKey, RecordSet, listing_order
from simulator.zone import Action, BatchRefused, Change, ChangeStatus, UnknownChange, Zone

NAME = "redis.example.com."
KEY = RecordKey(NAME, "CNAME")
EPOCH = RecordKey("epoch.example.com.", "TXT")


def cname(target: str, ttl: int = 30, name: str = NAME) -> RecordSet:
    return RecordSet(name, "CNAME", ttl, (target,))


def epoch(number: int) -> RecordSet:
    return RecordSet(EPOCH.name, "TXT", 30, (f'"{number}"',))


def zone(propagation_seconds: float = 10.0) -> Zone:
    return Zone("Example.COM", propagation_seconds=propagation_seconds, records=[cname("east.example.net."), epoch(1)])


def swap(old: RecordSet, new: RecordSet) -> list[Change]:
    return [Change(Action.DELETE, old), Change(Action.CREATE, new)]


def refusal_of(changes: list[Change], subject: Zone | None = None) -> tuple[str, ...]:
    with pytest.raises(BatchRefused) as caught:
        (subject or zone()).apply(changes, now=0.0)
    return caught.value.messages


def test_delete_and_create_in_one_batch_is_a_compare_and_swap() -> None:
    subject = zone()
    subject.apply(swap(cname("east.example.net."), cname("west.example.net.")), now=0.0)
    assert subject.accepted[KEY].values == ("west.example.net.",)
    messages = refusal_of(swap(cname("east.example.net."), cname("north.example.net.")), subject)
    assert messages == (
        "Tried to delete resource record set [name='redis.example.com.', type='CNAME'] "
        "but the values provided do not match the current values",
    )
    assert subject.accepted[KEY].values == ("west.example.net.",)


@pytest.mark.parametrize("wrong", [cname("east.example.net.", ttl=31), cname("other.example.net.")])
def test_a_delete_must_repeat_ttl_and_values(wrong: RecordSet) -> None:
    (message,) = refusal_of([Change(Action.DELETE, wrong)])
    assert "do not match the current values" in message


def test_a_delete_must_repeat_all_values_in_any_order() -> None:
    two = RecordSet("two.example.com", "A", 60, ("192.0.2.1", "192.0.2.2"))
    subject = Zone("example.com", records=[two])
    one = RecordSet("two.example.com", "A", 60, ("192.0.2.1",))
    assert "do not match" in refusal_of([Change(Action.DELETE, one)], subject)[0]
    turned = RecordSet("TWO.example.com", "a", 60, ("192.0.2.2", "192.0.2.1"))
    subject.apply([Change(Action.DELETE, turned)], now=0.0)
    assert two.key not in subject.accepted


def test_what_is_not_there_can_not_be_deleted() -> None:
    (message,) = refusal_of([Change(Action.DELETE, cname("a.example.net.", name="gone.example.com"))])
    assert message.endswith("but it was not found")


def test_creating_what_exists_is_refused_and_upsert_replaces_it() -> None:
    subject = zone()
    (message,) = refusal_of([Change(Action.CREATE, cname("west.example.net."))], subject)
    assert message.endswith("but it already exists")
    subject.apply([Change(Action.UPSERT, cname("west.example.net.", ttl=5))], now=0.0)
    assert subject.accepted[KEY] == cname("west.example.net.", ttl=5)


def test_one_bad_change_refuses_the_whole_batch_and_every_fault_is_told() -> None:
    subject = zone()
    before = subject.accepted
    good = Change(Action.UPSERT, epoch(2))
    bad = [
        Change(Action.CREATE, cname("west.example.net.")),
        Change(Action.DELETE, cname("a.example.net.", name="gone.example.com")),
        Change(Action.CREATE, RecordSet("a.example.com", "A", 60, ("not an address",))),
    ]
    messages = refusal_of([good, *bad], subject)
    assert [len(messages), "exists" in messages[0], "not found" in messages[1], "IPv4" in messages[2]] == [
        3,
        True,
        True,
        True,
    ]
    assert subject.accepted == before
    assert subject.history == []


def test_a_cname_stands_alone() -> None:
    address = RecordSet("a.example.com", "A", 60, ("192.0.2.1",))
    subject = Zone("example.com", records=[address, cname("east.example.net.")])
    (message,) = refusal_of([Change(Action.CREATE, cname("x.example.net.", name="a.example.com"))], subject)
    assert "is not permitted as it conflicts with other records with the same DNS name" in message
    (message,) = refusal_of([Change(Action.CREATE, RecordSet(NAME, "A", 60, ("192.0.2.1",)))], subject)
    assert "a conflicting RRSet of type CNAME" in message
    changes = [Change(Action.DELETE, address), Change(Action.CREATE, cname("x.example.net.", name="a.example.com"))]
    subject.apply(changes, now=0.0)
    assert RecordKey("a.example.com.", "CNAME") in subject.accepted


def test_a_cname_is_not_permitted_at_the_apex() -> None:
    (message,) = refusal_of([Change(Action.UPSERT, cname("x.example.net.", name="example.com"))])
    assert "is not permitted at apex in zone example.com." in message


@pytest.mark.parametrize("name", ["example.net.", "notexample.com.", "redis.example.com.evil."])
def test_a_name_must_be_in_the_zone(name: str) -> None:
    assert refusal_of([Change(Action.CREATE, cname("x.example.net.", name=name))]) == (
        f"RRSet with DNS name {name} is not permitted in zone example.com.",
    )


def test_the_same_set_can_not_be_changed_twice_in_a_batch_but_for_a_swap() -> None:
    twice = [Change(Action.UPSERT, epoch(2)), Change(Action.UPSERT, epoch(3))]
    assert "invalid set of changes for a resource record set 'TXT epoch.example.com.'" in refusal_of(twice)[0]


@pytest.mark.parametrize(
    "record_set",
    [
        RecordSet("t.example.com", "TXT", 30, ("unquoted",)),
        RecordSet("t.example.com", "TXT", 30, (f'"{"x" * 256}"',)),
        RecordSet("t.example.com", "AAAA", 30, ("192.0.2.1",)),
        RecordSet("t.example.com", "CNAME", 30, ("a.example.net.", "b.example.net.")),
        RecordSet("t.example.com", "A", 30, ()),
        RecordSet("t.example.com", "A", 30, ("192.0.2.1", "192.0.2.1")),
        RecordSet("t.example.com", "A", -1, ("192.0.2.1",)),
        RecordSet("t.example.com", "A", 2**31, ("192.0.2.1",)),
        RecordSet("t.example.com", "NONSENSE", 30, ("1",)),
        RecordSet(f"{'x' * 64}.example.com", "A", 30, ("192.0.2.1",)),
        RecordSet("two..dots.example.com", "A", 30, ("192.0.2.1",)),
    ],
)
def test_a_record_set_that_dns_could_not_carry_is_refused(record_set: RecordSet) -> None:
    assert len(refusal_of([Change(Action.UPSERT, record_set)])) == 1


def test_a_batch_holds_at_most_a_thousand_records_and_an_upsert_counts_twice() -> None:
    def addresses(count: int) -> RecordSet:
        return RecordSet("many.example.com", "A", 30, tuple(f"10.0.{i // 250}.{i % 250}" for i in range(count)))

    assert "limit of 1000" in refusal_of([Change(Action.UPSERT, addresses(501))])[0]
    zone().apply([Change(Action.CREATE, addresses(1000))], now=0.0)


def test_the_apex_keeps_its_soa_and_ns() -> None:
    subject = zone()
    for record_type in ("SOA", "NS"):
        own = subject.accepted[RecordKey("example.com.", record_type)]
        assert "must contain its own" in refusal_of([Change(Action.DELETE, own)], subject)[0]


def test_a_change_is_accepted_at_once_and_propagates_later() -> None:
    subject = zone(propagation_seconds=10.0)
    batch = subject.apply(swap(cname("east.example.net."), cname("west.example.net.")), now=100.0)
    assert subject.accepted[KEY].values == ("west.example.net.",)
    assert subject.propagated(109.9)[KEY].values == ("east.example.net.",)
    assert subject.status(batch.change_id, 109.9) is ChangeStatus.PENDING
    assert subject.propagated(110.0)[KEY].values == ("west.example.net.",)
    assert subject.status(batch.change_id, 110.0) is ChangeStatus.INSYNC


def test_a_held_change_stays_pending_until_released() -> None:
    subject = zone(propagation_seconds=1.0)
    subject.hold(now=0.0)
    batch = subject.apply([Change(Action.UPSERT, epoch(2))], now=0.5)
    assert subject.status(batch.change_id, 1000.0) is ChangeStatus.PENDING
    assert subject.propagated(1000.0)[EPOCH] == epoch(1)
    subject.release(now=1000.0)
    assert subject.propagated(1000.0)[EPOCH] == epoch(2)


def test_changes_propagate_in_the_order_in_which_they_were_accepted() -> None:
    subject = zone(propagation_seconds=100.0)
    subject.apply([Change(Action.UPSERT, epoch(2))], now=0.0)
    subject.propagation_seconds = 1.0
    subject.apply([Change(Action.UPSERT, epoch(3))], now=1.0)
    assert subject.propagated(50.0)[EPOCH] == epoch(1)
    assert subject.propagated(100.0)[EPOCH] == epoch(3)


def test_a_snapshot_does_not_change_afterwards() -> None:
    subject = zone()
    before = subject.accepted
    subject.apply([Change(Action.UPSERT, epoch(2))], now=0.0)
    assert before[EPOCH] == epoch(1)


def test_the_serial_rises_with_each_change_and_history_tells_each_batch() -> None:
    subject = zone()
    first = subject.serial
    subject.apply([Change(Action.UPSERT, epoch(2))], now=1.0, comment="failover 1")
    subject.apply(swap(epoch(2), epoch(3)), now=2.0, comment="failover 2")
    assert subject.serial == first + 3
    assert [(batch.accepted_at, batch.comment, len(batch.changes)) for batch in subject.history] == [
        (1.0, "failover 1", 1),
        (2.0, "failover 2", 2),
    ]
    assert len({batch.change_id for batch in subject.history}) == 2


def test_an_unknown_change_has_no_status() -> None:
    with pytest.raises(UnknownChange):
        zone().status("C0", now=0.0)


def test_listing_order_reverses_labels() -> None:
    names = ["www.example.com.", "example.com.", "b.a.example.com.", "a.example.com."]
    ordered = sorted((RecordKey(name, "A") for name in names), key=listing_order)
    assert [key.name for key in ordered] == ["example.com.", "a.example.com.", "b.a.example.com.", "www.example.com."]


def changes() -> st.SearchStrategy[list[Change]]:
    names = st.sampled_from(["a.example.com", "b.example.com", "example.com", "elsewhere.net"])
    values = st.sampled_from(["192.0.2.1", "192.0.2.2", "x.example.net.", '"1"', "nonsense value"])
    types = st.sampled_from(["A", "CNAME", "TXT"])
    record_sets = st.builds(RecordSet, names, types, st.sampled_from([30, 60]), st.lists(values, max_size=2).map(tuple))
    return st.lists(st.builds(Change, st.sampled_from(Action), record_sets), max_size=4)


@given(st.lists(changes(), max_size=12))
def test_a_refused_batch_changes_nothing(batches: list[list[Change]]) -> None:
    subject = Zone("example.com", records=[RecordSet("a.example.com", "A", 30, ("192.0.2.1",))])
    for now, batch in enumerate(batches):
        before = subject.accepted, subject.propagated(now), subject.serial, list(subject.history)
        try:
            subject.apply(batch, now=now)
        except BatchRefused as refusal:
            assert refusal.messages
            assert (subject.accepted, subject.propagated(now), subject.serial, subject.history) == before


@given(st.lists(changes(), max_size=12))
def test_no_sequence_of_batches_puts_a_cname_beside_another_type(batches: list[list[Change]]) -> None:
    subject = Zone("example.com")
    for now, batch in enumerate(batches):
        try:
            subject.apply(batch, now=now)
        except BatchRefused:
            continue
    names = [key.name for key in subject.accepted]
    assert all(names.count(key.name) == 1 for key in subject.accepted if key.type == "CNAME")


@given(st.lists(st.tuples(changes(), st.floats(0.0, 20.0)), max_size=8))
def test_what_has_propagated_is_what_was_accepted_a_while_ago(batches: list[tuple[list[Change], float]]) -> None:
    subject = Zone("example.com", propagation_seconds=10.0)
    now, accepted = 0.0, [(-10.0, subject.accepted)]
    for batch, wait in batches:
        now += wait
        try:
            subject.apply(batch, now)
        except BatchRefused:
            continue
        accepted.append((now, subject.accepted))
    expected = [records for at, records in accepted if at + 10.0 <= now][-1]
    assert subject.propagated(now) == expected
