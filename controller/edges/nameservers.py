"""What the world is told: the record's value at every authoritative name server, asked directly."""

import asyncio
import ipaddress
import socket
from collections.abc import Sequence

import dns.asyncquery
import dns.exception
import dns.flags
import dns.message
import dns.rdatatype

from redis_agent.errors import Transient

_TIMEOUT_SECONDS = 1.0
_RESOLVER_SECONDS = 3.0


async def values(nameservers: Sequence[str], name: str, kind: str) -> dict[str, str | None]:
    """By name server (`host:port` or `host`): the record's value, or None where it didn't answer with one."""
    answers = await asyncio.gather(*(_ask(server, name, kind) for server in nameservers))
    return dict(zip(nameservers, answers, strict=True))


async def addresses(nameservers: Sequence[str], name: str, value: str, kind: str) -> list[str]:
    """The addresses that `name` leads to: what the name servers say, else what this machine's resolver says of `value`.

    Raises Transient when nothing is found.
    """
    for server in nameservers:
        answer = await _query(server, name, "A")
        if answer is not None and (found := _addresses_in(answer)):
            return found
    if kind == "A":
        return [value]
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_RESOLVER_SECONDS):
            found_here = await loop.getaddrinfo(value.rstrip("."), None, type=socket.SOCK_STREAM)
    except socket.gaierror as fault:
        raise Transient(f"{value}: {fault.strerror}") from fault
    except TimeoutError:
        raise Transient(f"{value}: this machine's resolver gave no answer in {_RESOLVER_SECONDS:g} s") from None
    return [str(address[4][0]) for address in found_here]


async def _ask(server: str, name: str, kind: str) -> str | None:
    answer = await _query(server, name, kind)
    if answer is None or not answer.flags & dns.flags.AA:
        return None
    wanted = dns.rdatatype.from_text(kind)
    for rrset in answer.answer:
        if rrset.rdtype == wanted and rrset.name.to_text().lower() == name.lower():
            return str(rrset[0].to_text())
    return None


async def _query(server: str, name: str, kind: str) -> dns.message.Message | None:
    host, _, port = server.partition(":")
    query = dns.message.make_query(name, kind)
    try:
        async with asyncio.timeout(_RESOLVER_SECONDS):
            where = await _address(host)
        return await dns.asyncquery.udp(query, where, timeout=_TIMEOUT_SECONDS, port=int(port or 53))
    except (dns.exception.DNSException, OSError):
        return None


async def _address(host: str) -> str:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        found = await asyncio.get_running_loop().getaddrinfo(host, 53, type=socket.SOCK_DGRAM)
        return str(found[0][4][0])


def _addresses_in(answer: dns.message.Message) -> list[str]:
    return [rdata.to_text() for rrset in answer.answer if rrset.rdtype == dns.rdatatype.A for rdata in rrset]
