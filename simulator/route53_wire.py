"""Route 53's XML (API version 2013-04-01): requests in, answers and errors out. No I/O."""

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from datetime import UTC, datetime

from simulator.records import RecordSet
from simulator.zone import Action, Change, ChangeStatus, Zone

NAMESPACE = "https://route53.amazonaws.com/doc/2013-04-01/"
MAX_COMMENT_LENGTH = 256

STATUS_BY_CODE = {
    "InternalError": 500,
    "InternalFailure": 500,
    "NoSuchChange": 404,
    "NoSuchHostedZone": 404,
    "ServiceUnavailable": 503,
    "SignatureDoesNotMatch": 403,
}
"""HTTP status of an error code; every code that is not here is answered with 400."""

_IN_A_RECORD_SET = frozenset({"Name", "Type", "TTL", "ResourceRecords"})


class ApiError(Exception):
    """An answer in AWS's error shape. `code` is the name that boto3 raises by."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message

    @property
    def status(self) -> int:
        return STATUS_BY_CODE.get(self.code, 400)


def parse_change_request(body: bytes) -> tuple[list[Change], str]:
    """The changes and the comment of a ChangeResourceRecordSetsRequest. Raises ApiError InvalidInput."""
    root = _parsed(body)
    batch = _child(root, "ChangeBatch")
    comment = _text(batch, "Comment", "")
    if len(comment) > MAX_COMMENT_LENGTH:
        raise ApiError("InvalidInput", f"Comment has {len(comment)} characters, the limit is {MAX_COMMENT_LENGTH}")
    changes = [_change(element) for element in _child(batch, "Changes")]
    if not changes:
        raise ApiError("InvalidInput", "Changes must hold at least one Change")
    return changes, comment


def _parsed(body: bytes) -> ET.Element:
    if b"<!" in body:
        raise ApiError("InvalidInput", "The request may not hold a document type or entities")
    try:
        return ET.fromstring(body)  # noqa: S314  entities, the danger of this parser, were refused above
    except ET.ParseError as error:
        raise ApiError("InvalidInput", f"The request is not XML: {error}") from error


def _change(element: ET.Element) -> Change:
    action = _text(element, "Action")
    if action not in Action.__members__:
        raise ApiError("InvalidInput", f"Invalid Action '{action}': must be one of CREATE, DELETE, UPSERT")
    return Change(Action[action], _record_set(_child(element, "ResourceRecordSet")))


def _record_set(element: ET.Element) -> RecordSet:
    unknown = {_local_name(child) for child in element} - _IN_A_RECORD_SET
    if unknown:
        raise ApiError("InvalidInput", f"The simulator knows simple record sets only, not {', '.join(sorted(unknown))}")
    ttl = _text(element, "TTL")
    if not (ttl.isascii() and ttl.isdigit()):
        raise ApiError("InvalidInput", f"Invalid TTL '{ttl}': must be a number of seconds")
    values = tuple(_text(record, "Value") for record in _child(element, "ResourceRecords"))
    return RecordSet(_text(element, "Name"), _text(element, "Type"), int(ttl), values)


def _local_name(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]


def _child(parent: ET.Element, name: str) -> ET.Element:
    for child in parent:
        if _local_name(child) == name:
            return child
    raise ApiError("InvalidInput", f"{_local_name(parent)} lacks {name}")


def _text(parent: ET.Element, name: str, default: str | None = None) -> str:
    if default is not None and all(_local_name(child) != name for child in parent):
        return default
    return _child(parent, name).text or ""


def change_response(root_name: str, change_id: str, status: ChangeStatus, at: datetime, comment: str) -> bytes:
    """A ChangeResourceRecordSetsResponse or GetChangeResponse. `at` is when the change was accepted."""
    info = _node("ChangeInfo", ("Id", f"/change/{change_id}"), ("Status", status.value))
    info.append(_leaf("SubmittedAt", at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")))
    if comment:
        info.append(_leaf("Comment", comment))
    return _document(root_name, info)


def record_sets_response(page: Sequence[RecordSet], following: RecordSet | None, max_items: int) -> bytes:
    """A ListResourceRecordSetsResponse. `following` is the first record set of the next page, if there is one."""
    sets = ET.Element("ResourceRecordSets")
    sets.extend(_record_set_node(record_set) for record_set in page)
    rest = [_leaf("IsTruncated", "false" if following is None else "true"), _leaf("MaxItems", str(max_items))]
    if following is not None:
        rest += [_leaf("NextRecordName", following.name), _leaf("NextRecordType", following.type)]
    return _document("ListResourceRecordSetsResponse", sets, *rest)


def _record_set_node(record_set: RecordSet) -> ET.Element:
    ttl = str(record_set.ttl_seconds)
    node = _node("ResourceRecordSet", ("Name", record_set.name), ("Type", record_set.type), ("TTL", ttl))
    records = ET.SubElement(node, "ResourceRecords")
    records.extend(_node("ResourceRecord", ("Value", value)) for value in record_set.values)
    return node


def hosted_zone_response(zone: Zone) -> bytes:
    servers = ET.Element("NameServers")
    servers.extend(_leaf("NameServer", server.rstrip(".")) for server in zone.name_servers)
    delegation = ET.Element("DelegationSet")
    delegation.append(servers)
    return _document("GetHostedZoneResponse", _zone_node(zone), delegation)


def hosted_zones_response(page: Sequence[Zone], following: Zone | None, start: str, max_items: int) -> bytes:
    """A ListHostedZonesByNameResponse. `start` is the DNSName that was asked for, or nothing."""
    zones = ET.Element("HostedZones")
    zones.extend(_zone_node(zone) for zone in page)
    rest = [_leaf("IsTruncated", "false" if following is None else "true"), _leaf("MaxItems", str(max_items))]
    if start:
        rest.append(_leaf("DNSName", start))
    if following is not None:
        rest += [_leaf("NextDNSName", following.name), _leaf("NextHostedZoneId", following.zone_id)]
    return _document("ListHostedZonesByNameResponse", zones, *rest)


def _zone_node(zone: Zone) -> ET.Element:
    node = _node("HostedZone", ("Id", f"/hostedzone/{zone.zone_id}"), ("Name", zone.name))
    node.append(_leaf("CallerReference", f"simulator-{zone.zone_id}"))
    node.append(_node("Config", ("PrivateZone", "false")))
    node.append(_leaf("ResourceRecordSetCount", str(len(zone.accepted))))
    return node


def error_response(error: ApiError, request_id: str) -> bytes:
    """An ErrorResponse. The messages of an InvalidChangeBatch arrive as one, in brackets: `[first, second]`."""
    sender = "Receiver" if error.status >= 500 else "Sender"
    node = _node("Error", ("Type", sender), ("Code", error.code), ("Message", error.message))
    return _document("ErrorResponse", node, _leaf("RequestId", request_id))


def _leaf(name: str, text: str) -> ET.Element:
    element = ET.Element(name)
    element.text = text
    return element


def _node(name: str, *leaves: tuple[str, str]) -> ET.Element:
    element = ET.Element(name)
    element.extend(_leaf(leaf, text) for leaf, text in leaves)
    return element


def _document(root_name: str, *children: ET.Element) -> bytes:
    root = ET.Element(root_name, xmlns=NAMESPACE)
    root.extend(children)
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode").encode()
