"""Ids, and the identity of an event: its `Origin`."""

from dataclasses import dataclass
from typing import NewType

InstanceId = NewType("InstanceId", str)
Datacenter = NewType("Datacenter", str)
Vantage = NewType("Vantage", str)
AnomalyId = NewType("AnomalyId", str)
FailoverId = NewType("FailoverId", str)
AlertId = NewType("AlertId", str)


@dataclass(frozen=True, slots=True, order=True)
class SiteId:
    """One instance's copy in one datacenter. Written `instance/datacenter`."""

    instance: InstanceId
    datacenter: Datacenter

    def __str__(self) -> str:
        return f"{self.instance}/{self.datacenter}"


@dataclass(frozen=True, slots=True)
class Origin:
    """Who said it, and its number among what they said. `source` changes at every start of a process."""

    source: str
    sequence: int
