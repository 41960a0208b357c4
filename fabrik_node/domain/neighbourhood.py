"""Who is one caller, as far as its address says: limits per address count these."""

from __future__ import annotations

import ipaddress

__all__ = ["neighbourhood"]

_PREFIX_V6 = 64
"""Bits of an IPv6 address that a host is given; the others are its own to choose, 2^64 of them (RFC 4291, section 2.5.1)."""


def neighbourhood(address: str) -> str:
    """What stands for whoever calls from there: an IPv4 address, or the /64 of an IPv6 one; any other text as it is."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        mapped = found.ipv4_mapped
        return str(mapped) if mapped is not None else str(ipaddress.ip_network((found, _PREFIX_V6), strict=False))
    return str(found)
