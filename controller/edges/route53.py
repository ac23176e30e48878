"""One record in Route 53, read and moved by compare-and-swap.

The batch deletes the record and its epoch exactly as they were read and creates both anew, so it is refused whole when
anybody changed either meanwhile. A lost answer is never guessed: the provider's list (which shows accepted changes that
aren't propagated yet) tells whether this failover's epoch is there. Source of the semantics: Route 53 API 2013-04-01.
"""

import re
from dataclasses import replace
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from controller.core.failover import Effect, Outcome
from controller.edges import aws_clock
from redis_agent.errors import AgentError, Permanent, Transient
from redis_agent.fleet import Route53Section
from redis_agent.model import FailoverId, Record
from redis_agent.worker_thread import WorkerThread

_EPOCH = re.compile(r"epoch=(\d+)(?: failover=([^\s\"]+))?")
_EPOCH_TTL = 5
# What makes a record set other than simple: weights, latency, health checks, aliases.
_SPECIAL = frozenset({"SetIdentifier", "HealthCheckId", "AliasTarget", "TrafficPolicyInstanceId"})
_RETRIABLE = frozenset(
    {"Throttling", "ThrottlingException", "PriorRequestNotComplete", "ServiceUnavailable", "InternalFailure"}
)
_FORBIDDEN = 403
_REFUSING = frozenset({"InvalidChangeBatch", "InvalidInput"})


class _Unmovable(Permanent):
    """The record is none that can be moved by this."""


class _Refused(Permanent):
    """The batch was refused for what it says; nothing of it was applied."""


class Route53:
    """A hosted zone. Calls run on a thread of their own, each with a deadline of seconds."""

    def __init__(self, section: Route53Section) -> None:
        self._zone = section.hosted_zone_id
        self._thread = WorkerThread("route53")
        secret = section.reveal("secret_access_key")
        aws_clock.install()
        self._client: Any = boto3.client(
            "route53",
            endpoint_url=section.endpoint_url,
            region_name=section.region,
            aws_access_key_id=section.access_key_id,
            aws_secret_access_key=secret,
            config=Config(connect_timeout=2, read_timeout=3, retries={"mode": "standard", "total_max_attempts": 1}),
        )

    async def read(self, name: str, kind: str) -> Record | None:
        """The record and its epoch as the provider holds them, pending changes included; None when there is no record.

        Raises Transient, or Permanent when the provider refuses us.
        """
        return await self._thread.run(self._read, name, kind)

    async def move(self, before: Record, after: Record, failover: FailoverId) -> Outcome:
        """Swap `before` for `after`, unless it is done already.

        SEEN: accepted. IMPOSSIBLE: somebody else moved it, or it will never be accepted. What may be mended meanwhile
        (a network, a quota, rights that are missing) is NOT_YET.
        """
        return await self._thread.run(self._move, before, after, failover)

    async def in_sync(self, change_id: str) -> bool:
        """Whether the provider says that the change reached all its name servers. Raises Transient."""
        reply = await self._thread.run(self._call, self._client.get_change, {"Id": change_id})
        return bool(reply["ChangeInfo"]["Status"] == "INSYNC")

    async def nameservers(self) -> tuple[str, ...]:
        """The zone's name servers by name. Raises Transient."""
        reply = await self._thread.run(self._call, self._client.get_hosted_zone, {"Id": self._zone})
        return tuple(reply.get("DelegationSet", {}).get("NameServers", ()))

    def close(self) -> None:
        """End the thread and the connections."""
        self._client.close()
        self._thread.close()

    def _read(self, name: str, kind: str) -> Record | None:
        found = self._one(name, kind)
        if found is None:
            return None
        value, ttl = found
        epoch = self._one(epoch_name(name), "TXT")
        text = epoch[0] if epoch is not None else None
        return Record(name, kind, value, ttl, _epoch_of(text), text)

    def _one(self, name: str, kind: str) -> tuple[str, int] | None:
        asked = {"HostedZoneId": self._zone, "StartRecordName": name, "StartRecordType": kind, "MaxItems": "1"}
        listed = self._call(self._client.list_resource_record_sets, asked)["ResourceRecordSets"]
        if not listed or _plain(listed[0]["Name"]) != _plain(name) or listed[0]["Type"] != kind:
            return None
        if special := sorted(_SPECIAL & listed[0].keys()):
            raise _Unmovable(f"{name} {kind} has {', '.join(special)}; only a simple record can be moved")
        values = listed[0].get("ResourceRecords", [])
        if len(values) != 1:
            raise _Unmovable(f"{name} {kind} has {len(values)} values; a name that is moved must have exactly one")
        return values[0]["Value"], int(listed[0]["TTL"])

    def _move(self, before: Record, after: Record, failover: FailoverId) -> Outcome:
        try:
            return self._found(before, after, failover) or self._swap(before, after, failover)
        except _Refused as fault:
            # Whatever was changed between the look and the swap, and be it by a late request of our own, is there now.
            return self._found_after(fault, before, after, failover)
        except _Unmovable as fault:
            return Outcome(Effect.IMPOSSIBLE, str(fault))
        except AgentError as fault:
            return Outcome(Effect.NOT_YET, str(fault))

    def _found(self, before: Record, after: Record, failover: FailoverId) -> Outcome | None:
        """What the record as it stands makes of the move; None while it is as planned."""
        now = self._read(before.name, before.type)
        if now is not None and now.epoch == after.epoch and _mover_of(now.epoch_text) == failover:
            return Outcome(Effect.SEEN, f"{after.name} was moved to {after.value} before (epoch {after.epoch})")
        if now is None or (now.value, now.epoch_text) != (before.value, before.epoch_text):
            return Outcome(Effect.IMPOSSIBLE, f"{before.name} is not as planned any more: {_in_words(now)}")
        return None

    def _found_after(self, refusal: "_Refused", before: Record, after: Record, failover: FailoverId) -> Outcome:
        try:
            return self._found(before, after, failover) or Outcome(Effect.IMPOSSIBLE, str(refusal))
        except AgentError as fault:
            return Outcome(Effect.NOT_YET, f"{refusal}; then: {fault}")

    def _swap(self, before: Record, after: Record, failover: FailoverId) -> Outcome:
        # The epoch's TTL is nobody's business but must be repeated exactly, so it is taken as it stands.
        # So is the record's: who lowers it during an incident changes nothing about where the name points.
        held = self._one(epoch_name(before.name), "TXT") if before.epoch_text is not None else None
        own = self._one(before.name, before.type)
        before = before if own is None else replace(before, ttl=own[1])
        changes = _changes(before, after, failover, _EPOCH_TTL if held is None else held[1])
        batch = {"Comment": f"redis-agent {failover}", "Changes": changes}
        asked = {"HostedZoneId": self._zone, "ChangeBatch": batch}
        change = self._call(self._client.change_resource_record_sets, asked)["ChangeInfo"]["Id"]
        return Outcome(Effect.SEEN, f"{after.name} moved to {after.value} (epoch {after.epoch})", change)

    def _call(self, call: Any, arguments: dict[str, Any]) -> Any:
        try:
            return self._signed_in_time(call, arguments)
        except ClientError as fault:
            error = fault.response.get("Error", {})
            text = f"Route 53: {error.get('Code')}: {error.get('Message')}"
            status = fault.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            if error.get("Code") in _RETRIABLE or status >= 500:
                raise Transient(text) from fault
            raise (_Refused(text) if error.get("Code") in _REFUSING else Permanent(text)) from fault
        except BotoCoreError as fault:
            raise Transient(f"Route 53: {fault}") from fault

    @staticmethod
    def _signed_in_time(call: Any, arguments: dict[str, Any]) -> Any:
        """The call; once more where it was refused, and so did nothing, while the provider's time isn't what we took it for."""
        try:
            return call(**arguments)
        except ClientError as fault:
            told = fault.response.get("ResponseMetadata", {})
            if told.get("HTTPStatusCode") != _FORBIDDEN or not aws_clock.learn(told.get("HTTPHeaders", {})):
                raise
            return call(**arguments)


def epoch_name(record: str) -> str:
    """Where the fencing epoch of a record stands: a TXT beside it."""
    return f"_fo.{record}"


def _epoch_of(text: str | None) -> int:
    found = _EPOCH.search(text or "")
    return int(found.group(1)) if found else 0


def _mover_of(text: str | None) -> str | None:
    found = _EPOCH.search(text or "")
    return found.group(2) if found else None


def _changes(before: Record, after: Record, failover: FailoverId, epoch_ttl: int) -> list[dict[str, Any]]:
    epoch = epoch_name(before.name)
    changes = [_change("DELETE", before.name, before.type, before.ttl, before.value)]
    if before.epoch_text is not None:
        changes.append(_change("DELETE", epoch, "TXT", epoch_ttl, before.epoch_text))
    text = f'"epoch={after.epoch} failover={failover}"'
    return [
        *changes,
        _change("CREATE", after.name, after.type, after.ttl, after.value),
        _change("CREATE", epoch, "TXT", _EPOCH_TTL, text),
    ]


def _change(action: str, name: str, kind: str, ttl: int, value: str) -> dict[str, Any]:
    record = {"Name": name, "Type": kind, "TTL": ttl, "ResourceRecords": [{"Value": value}]}
    return {"Action": action, "ResourceRecordSet": record}


def _plain(name: str) -> str:
    return name.lower().rstrip(".")


def _in_words(record: Record | None) -> str:
    return "it is gone" if record is None else f"it is {record.value} (epoch {record.epoch}, ttl {record.ttl})"
