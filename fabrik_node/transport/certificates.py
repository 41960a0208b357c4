"""Certificates of the transport: each identity key is the authority of its own node's certificates, and of nobody else's.

A node makes a transport key at each start and once a day, and certifies it with its identity key. Whoever verifies has one
trust anchor per admitted key, made of the key alone: the member record is the pin, and renewing needs nobody else.
The dates are without an end, because no wall clock decides anything here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from fabrik_node._core import verify
from fabrik_node.errors import AuthError

__all__ = ["Leaf", "anchor", "hash_of", "issue", "issuer_of"]

_FROM = datetime(1970, 1, 1, tzinfo=UTC)
_UNTIL = datetime(9999, 12, 31, tzinfo=UTC)
_ED25519 = bytes.fromhex("300506032b6570")
"""AlgorithmIdentifier of Ed25519 (RFC 8410, section 3)."""
_DUMMY = Ed25519PrivateKey.from_private_bytes(bytes(32))
"""Signs what nobody looks at: an anchor is trusted for its place in the list, and the body of a leaf is signed again by the identity key."""
_ANCHORS_KEPT = 4_096


@dataclass(frozen=True, slots=True)
class Leaf:
    """A transport key with its certificate. ``pem`` holds the private key: it goes into an SSL context and nowhere else."""

    pem: bytes = field(repr=False)
    digest: bytes
    """SHA-256 of the certificate: what HELLO binds."""


def issue(public: bytes, sign: Callable[[bytes], bytes]) -> Leaf:
    """A fresh transport key, certified by the identity key ``public``. ``sign`` signs with that key; the key itself stays where it is."""
    key = Ed25519PrivateKey.generate()
    draft = (
        _builder("fabrik transport", public, key.public_key())
        .serial_number(x509.random_serial_number())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier(public, None, None), critical=False)
        .sign(_DUMMY, None)
    )
    body = draft.tbs_certificate_bytes
    der = _der(0x30, body + _ED25519 + _der(0x03, b"\0" + sign(body)))
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)
    return Leaf(pem, hash_of(der))


@lru_cache(_ANCHORS_KEPT)
def anchor(public: bytes) -> bytes:
    """The trust anchor of an identity key, as DER: a certificate of an authority that may certify no other authority.

    But for one of its own name, which OpenSSL does not count; :func:`issuer_of` stops that.
    """
    key = Ed25519PublicKey.from_public_bytes(public)
    made = (
        _builder(_name_of(public), public, key)
        .serial_number(1)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier(public), critical=False)
        .sign(_DUMMY, None)
    )
    return made.public_bytes(Encoding.DER)


def issuer_of(der: bytes) -> bytes:
    """The identity key that issued a certificate which TLS has accepted. Raises :class:`AuthError` for one that no identity key signed."""
    try:
        certificate = x509.load_der_x509_certificate(der)
        named = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
        if named is None or len(named) != 32:
            raise ValueError("no key of 32 bytes is named as the issuer")
        verify(named, certificate.tbs_certificate_bytes, certificate.signature)
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension, AuthError) as error:
        raise AuthError(f"a certificate that no identity key issued: {error}") from error
    return named


def hash_of(der: bytes) -> bytes:
    """SHA-256 of a certificate; empty for none."""
    return hashlib.sha256(der).digest() if der else b""


def _builder(subject: str, issuer: bytes, key: Ed25519PublicKey) -> x509.CertificateBuilder:
    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    return x509.CertificateBuilder(
        issuer_name=name(_name_of(issuer)), subject_name=name(subject), public_key=key, not_valid_before=_FROM, not_valid_after=_UNTIL
    )


def _name_of(public: bytes) -> str:
    """A common name has 64 characters at most; the whole key is in the key identifier."""
    return f"fabrik {public.hex()[:48]}"


def _der(tag: int, content: bytes) -> bytes:
    """One DER value of less than 64 KiB."""
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    width = (size.bit_length() + 7) // 8
    return bytes([tag, 0x80 | width]) + size.to_bytes(width, "big") + content
