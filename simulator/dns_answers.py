"""What an authoritative name server answers: a query and the zone's records in, the response out. No I/O."""

from collections.abc import Mapping

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
from dns.rdtypes.ANY.CNAME import CNAME
from dns.rdtypes.ANY.SOA import SOA

from simulator.records import RecordKey, RecordSet, is_within

UDP_PAYLOAD_BYTES = 1232
"""What we advertise by EDNS (DNS flag day 2020)."""
CLASSIC_UDP_BYTES = 512
HEADER_BYTES = 12

Records = Mapping[RecordKey, RecordSet]


def parsed(wire: bytes) -> dns.message.Message | None:
    """The query, or None if it can't be read as a message."""
    try:
        return dns.message.from_wire(wire)
    except dns.exception.DNSException:
        return None


def format_error(wire: bytes) -> bytes | None:
    """The FORMERR to a packet that can't be read. None where there is none to give: half a header, or a response."""
    if len(wire) < HEADER_BYTES or wire[2] & 0x80:
        return None
    response = dns.message.Message(id=int.from_bytes(wire[:2], "big"))
    response.flags = dns.flags.QR
    response.set_rcode(dns.rcode.FORMERR)
    return response.to_wire()


def udp_limit_bytes(query: dns.message.Message) -> int:
    """The largest datagram that the asker takes, never more than we send."""
    return CLASSIC_UDP_BYTES if query.edns < 0 else min(max(CLASSIC_UDP_BYTES, query.payload), UDP_PAYLOAD_BYTES)


def answer(query: dns.message.Message, zone_name: str, records: Records) -> dns.message.Message:
    """The response of an authoritative server of `zone_name` (normalised), which holds `records`."""
    response = dns.message.make_response(query, our_payload=UDP_PAYLOAD_BYTES)
    refusal = _refusal(query, zone_name)
    if refusal is not None:
        response.set_rcode(refusal)
        return response
    response.flags |= dns.flags.AA
    question = query.question[0]
    _follow(response, question.name, question.rdtype, Authority(zone_name, records))
    return response


class Authority:
    """One zone's records, looked up by DNS names."""

    def __init__(self, zone_name: str, records: Records) -> None:
        self._zone_name = zone_name
        self._records = records

    def holds(self, name: dns.name.Name) -> bool:
        return is_within(_text(name), self._zone_name)

    def find(self, name: dns.name.Name, record_type: str) -> dns.rrset.RRset | None:
        """The record set as DNS data, under the name as it was asked for."""
        found = self._records.get(RecordKey(_text(name), record_type))
        if found is None:
            return None
        return dns.rrset.from_rdata_list(name, found.ttl_seconds, found.rdatas())

    def all_at(self, name: dns.name.Name) -> list[dns.rrset.RRset]:
        types = sorted(key.type for key in self._records if key.name == _text(name))
        return [rrset for record_type in types if (rrset := self.find(name, record_type)) is not None]

    def exists(self, name: dns.name.Name) -> bool:
        """Whether the name or one below it has records (RFC 8020: an empty non-terminal exists)."""
        return any(is_within(key.name, _text(name)) for key in self._records)

    def negative(self) -> dns.rrset.RRset | None:
        """The SOA with the TTL that a denial has: the lower of its own and its minimum field (RFC 2308, 3)."""
        soa = self.find(dns.name.from_text(self._zone_name), "SOA")
        if soa is not None:
            soa.ttl = min([soa.ttl, *(rdata.minimum for rdata in soa if isinstance(rdata, SOA))])
        return soa


def _text(name: dns.name.Name) -> str:
    return name.to_text().lower()


def _refusal(query: dns.message.Message, zone_name: str) -> dns.rcode.Rcode | None:
    if query.opcode() != dns.opcode.QUERY:
        return dns.rcode.NOTIMP
    if len(query.question) != 1:
        return dns.rcode.FORMERR
    question = query.question[0]
    if question.rdclass != dns.rdataclass.IN or not is_within(_text(question.name), zone_name):
        return dns.rcode.REFUSED
    return None


def _follow(
    response: dns.message.Message, name: dns.name.Name, rdtype: dns.rdatatype.RdataType, authority: Authority
) -> None:
    """Fills in the answer, going along CNAMEs for as long as they stay in the zone (RFC 1034, 4.3.2)."""
    seen: set[dns.name.Name] = set()
    while name not in seen and authority.holds(name):
        seen.add(name)
        found = _found(name, rdtype, authority)
        if not found:
            _deny(response, name, authority)
            return
        response.answer.extend(found)
        target = _cname_target(found[0])
        if rdtype in {dns.rdatatype.CNAME, dns.rdatatype.ANY} or target is None:
            return
        name = target


def _found(name: dns.name.Name, rdtype: dns.rdatatype.RdataType, authority: Authority) -> list[dns.rrset.RRset]:
    if rdtype == dns.rdatatype.ANY:
        return authority.all_at(name)
    rrset = authority.find(name, dns.rdatatype.to_text(rdtype)) or authority.find(name, "CNAME")
    return [] if rrset is None else [rrset]


def _cname_target(rrset: dns.rrset.RRset) -> dns.name.Name | None:
    return next((rdata.target for rdata in rrset if isinstance(rdata, CNAME)), None)


def _deny(response: dns.message.Message, name: dns.name.Name, authority: Authority) -> None:
    if not authority.exists(name):
        response.set_rcode(dns.rcode.NXDOMAIN)
    if (soa := authority.negative()) is not None:
        response.authority.append(soa)
