"""Record sets as Route 53 keeps them, and the rules that one set must satisfy on its own."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import dns.exception
import dns.name
import dns.rdata

MAX_TTL_SECONDS = 2**31 - 1
MAX_NAME_LENGTH = 255
TYPES = frozenset({"A", "AAAA", "CAA", "CNAME", "MX", "NS", "PTR", "SOA", "SPF", "SRV", "TXT"})
SINGLE_VALUED_TYPES = frozenset({"CNAME", "SOA"})

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_QUOTED = re.compile(r'\s*("([^"\\]|\\.)*"\s*)+')
_WHAT_IS_WRONG = {
    "A": "ARRDATAIllegalIPv4Address (Value is not a valid IPv4 address)",
    "AAAA": "AAAARRDATAIllegalIPv6Address (Value is not a valid IPv6 address)",
    "SPF": "InvalidCharacterString (Value should be enclosed in quotation marks)",
    "TXT": "InvalidCharacterString (Value should be enclosed in quotation marks)",
}


class RecordKey(NamedTuple):
    """What names one record set in a zone: a normalised name and an upper-case type."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class RecordSet:
    """All values of one name and type.

    The name is normalised (lower case, trailing dot), the type is made upper case; values stay as they were written,
    which is how Route 53 gives them back. TXT values carry their quotation marks.
    """

    name: str
    type: str
    ttl_seconds: int
    values: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", normalised(self.name))
        object.__setattr__(self, "type", self.type.upper())
        object.__setattr__(self, "values", tuple(self.values))

    @property
    def key(self) -> RecordKey:
        return RecordKey(self.name, self.type)

    def rdatas(self) -> list[dns.rdata.Rdata]:
        """The values as DNS data. Raises dns.exception.DNSException for one that doesn't parse (see `complaints`)."""
        root = dns.name.root
        return [dns.rdata.from_text("IN", self.type, value, origin=root, relativize=False) for value in self.values]

    def matches(self, other: "RecordSet") -> bool:
        """Whether a DELETE of `other` hits this set: the same name, type, TTL, and the same values in any order."""
        if (self.key, self.ttl_seconds) != (other.key, other.ttl_seconds):
            return False
        return frozenset(self.rdatas()) == frozenset(other.rdatas())


def normalised(name: str) -> str:
    """The name as Route 53 stores it: lower case, with a trailing dot."""
    return name.lower().rstrip(".") + "."


def listing_order(key: RecordKey) -> tuple[str, str]:
    """The sort key of ListResourceRecordSets: labels reversed, with the trailing dot, in ASCII order; then the type."""
    return ".".join(reversed(key.name.rstrip(".").split("."))) + ".", key.type


def is_within(name: str, zone_name: str) -> bool:
    """Whether a normalised name is the zone's apex or lies below it."""
    return name == zone_name or name.endswith("." + zone_name)


def complaints(record_set: RecordSet) -> Iterator[str]:
    """What Route 53 finds wrong with one record set by itself, in its words; nothing for a good one.

    Names outside letters, digits, hyphen and underscore (wildcards, escapes) are refused: DnsServer can't serve them.
    """
    if not _is_servable(record_set.name):
        yield f"FATAL problem: InvalidCharacterOrLabel (Unsupported domain name) encountered with '{record_set.name}'"
    if record_set.type not in TYPES:
        yield f"Invalid type: '{record_set.type}' is not one of {', '.join(sorted(TYPES))}"
        return
    if not 0 <= record_set.ttl_seconds <= MAX_TTL_SECONDS:
        yield f"Invalid TTL: {record_set.ttl_seconds} is not in 0..{MAX_TTL_SECONDS} for '{record_set.name}'"
    yield from _value_complaints(record_set)


def _is_servable(name: str) -> bool:
    labels = name.rstrip(".").split(".")
    return len(name) <= MAX_NAME_LENGTH and all(_LABEL.fullmatch(label) for label in labels)


def _value_complaints(record_set: RecordSet) -> Iterator[str]:
    values = record_set.values
    if not values:
        yield f"Invalid Resource Record: '{record_set.name}' type {record_set.type} has no values"
    if len(values) > 1 and record_set.type in SINGLE_VALUED_TYPES:
        yield f"Invalid Resource Record: '{record_set.name}' type {record_set.type} takes exactly one value"
    bad = [value for value in values if not _is_valid_value(record_set.type, value)]
    for value in bad:
        fault = _WHAT_IS_WRONG.get(record_set.type, "RRDATAInvalid (Value doesn't fit the type)")
        yield f"Invalid Resource Record: 'FATAL problem: {fault} encountered with '{value}''"
    if not bad and len(frozenset(record_set.rdatas())) != len(values):
        yield f"Duplicate Resource Record: '{record_set.name}' type {record_set.type} repeats a value"


def _is_valid_value(record_type: str, value: str) -> bool:
    if record_type in {"TXT", "SPF"} and not _QUOTED.fullmatch(value):
        return False
    try:
        dns.rdata.from_text("IN", record_type, value, origin=dns.name.root, relativize=False)
    except dns.exception.DNSException:
        return False
    return True
