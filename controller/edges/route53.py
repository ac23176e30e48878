"""One record in Route 53, read and moved by compare-and-swap.

The batch deletes the record and its epoch exactly as they were read and creates both anew, so it is refused whole when
anybody changed either meanwhile. A lost answer is never guessed: the provider's list (which shows accepted changes that
aren't propagated yet) tells whether this failover's epoch is there. Source of the semantics: Route 53 API 2013-04-01.
"""

import re
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from controller.core.failover import Effect, Outcome
from redis_agent.errors import Permanent, Transient
from redis_agent.fleet import Route53Section
from redis_agent.log.thread import Lane
from redis_agent.model import FailoverId, Record

_EPOCH = re.compile(r"epoch=(\d+)(?: failover=(\S+))?")
_EPOCH_TTL = 5
_RETRIABLE = frozenset(
    {"Throttling", "ThrottlingException", "PriorRequestNotComplete", "ServiceUnavailable", "InternalFailure"}
)


class Route53:
    """A hosted zone. Calls run on a thread of their own, each with a deadline of seconds."""

    def __init__(self, section: Route53Section) -> None:
        self._zone = section.hosted_zone_id
        self._lane = Lane("route53")
        secret = section.reveal("secret_access_key")
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
        return await self._lane.run(self._read, name, kind)

    async def move(self, before: Record, after: Record, failover: FailoverId) -> Outcome:
        """Swap `before` for `after`, unless it is done already. SEEN: accepted. IMPOSSIBLE: somebody else moved it."""
        return await self._lane.run(self._move, before, after, failover)

    async def in_sync(self, change_id: str) -> bool:
        """Whether the provider says that the change reached all its name servers. Raises Transient."""
        reply = await self._lane.run(self._call, self._client.get_change, {"Id": change_id})
        return bool(reply["ChangeInfo"]["Status"] == "INSYNC")

    async def nameservers(self) -> tuple[str, ...]:
        """The zone's name servers by name. Raises Transient."""
        reply = await self._lane.run(self._call, self._client.get_hosted_zone, {"Id": self._zone})
        return tuple(reply.get("DelegationSet", {}).get("NameServers", ()))

    def close(self) -> None:
        """End the thread and the connections."""
        self._client.close()
        self._lane.close()

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
        values = listed[0].get("ResourceRecords", [])
        if len(values) != 1:
            raise Permanent(f"{name} {kind} has {len(values)} values; a name that is moved must have exactly one")
        return values[0]["Value"], int(listed[0]["TTL"])

    def _move(self, before: Record, after: Record, failover: FailoverId) -> Outcome:
        try:
            now = self._read(before.name, before.type)
            if now is not None and now.epoch == after.epoch and f"failover={failover}" in (now.epoch_text or ""):
                return Outcome(Effect.SEEN, f"{after.name} was moved to {after.value} before (epoch {after.epoch})")
            if now is None or (now.value, now.ttl, now.epoch_text) != (before.value, before.ttl, before.epoch_text):
                return Outcome(Effect.IMPOSSIBLE, f"{before.name} is not as planned any more: {_told(now)}")
            return self._swap(before, after, failover)
        except Transient as fault:
            return Outcome(Effect.NOT_YET, str(fault))
        except Permanent as fault:
            return Outcome(Effect.IMPOSSIBLE, str(fault))

    def _swap(self, before: Record, after: Record, failover: FailoverId) -> Outcome:
        reply = self._call(
            self._client.change_resource_record_sets,
            {
                "HostedZoneId": self._zone,
                "ChangeBatch": {"Comment": f"redis-agent {failover}", "Changes": _changes(before, after, failover)},
            },
        )
        change = reply["ChangeInfo"]["Id"]
        return Outcome(Effect.SEEN, f"{after.name} moved to {after.value} (epoch {after.epoch})", change)

    def _call(self, call: Any, arguments: dict[str, Any]) -> Any:
        try:
            return call(**arguments)
        except ClientError as fault:
            error = fault.response.get("Error", {})
            text = f"Route 53: {error.get('Code')}: {error.get('Message')}"
            status = fault.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            if error.get("Code") in _RETRIABLE or status >= 500:
                raise Transient(text) from fault
            raise Permanent(text) from fault
        except BotoCoreError as fault:
            raise Transient(f"Route 53: {fault}") from fault


def epoch_name(record: str) -> str:
    """Where the fencing epoch of a record stands: a TXT beside it."""
    return f"_fo.{record}"


def _epoch_of(text: str | None) -> int:
    found = _EPOCH.search(text or "")
    return int(found.group(1)) if found else 0


def _changes(before: Record, after: Record, failover: FailoverId) -> list[dict[str, Any]]:
    epoch = epoch_name(before.name)
    changes = [_change("DELETE", before.name, before.type, before.ttl, before.value)]
    if before.epoch_text is not None:
        changes.append(_change("DELETE", epoch, "TXT", _EPOCH_TTL, before.epoch_text))
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


def _told(record: Record | None) -> str:
    return "it is gone" if record is None else f"it is {record.value} (epoch {record.epoch}, ttl {record.ttl})"
