"""The TLS side of a hand-made peer: certificates as docs/spec/sync.md wants them, and as it does not."""

from __future__ import annotations

import hashlib
import hmac
import os
import ssl
import tempfile
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from fabrik_twin.op import Key

__all__ = ["ALPN", "Certificate", "certify", "join_frame", "knock_frame", "tls_context"]

ALPN = "fabrik/1"


class Certificate:
    """A certificate with the private key of its holder, and what else is sent with it."""

    def __init__(self, holder: Ed25519PrivateKey, made: x509.Certificate, chain: bytes = b"") -> None:
        self.holder = holder
        self.made = made
        self.chain = chain

    @property
    def digest(self) -> bytes:
        """SHA-256 of it: what HELLO binds."""
        return hashlib.sha256(self.made.public_bytes(Encoding.DER)).digest()

    @property
    def pem(self) -> bytes:
        """Private key, certificate, chain."""
        return self.holder.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + self.made.public_bytes(Encoding.PEM) + self.chain


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def certify(key: Key, *, named: bytes = b"", signer: Ed25519PrivateKey | None = None, authority: bool = False, padding: int = 0) -> Certificate:
    """A transport certificate by the identity ``key``. ``named``: whom it says that it is by; ``signer``: who really signs it."""
    holder = Ed25519PrivateKey.generate()
    issuer = named or key.public
    builder = (
        x509.CertificateBuilder()
        .issuer_name(_name(f"fabrik {issuer.hex()[:48]}"))
        .subject_name(_name("fabrik transport"))
        .public_key(holder.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime(1970, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(9999, 12, 31, tzinfo=UTC))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier(issuer, None, None), critical=False)
    )
    if padding:
        builder = builder.add_extension(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), os.urandom(padding)), critical=False)
    return Certificate(holder, builder.sign(signer or Ed25519PrivateKey.from_private_bytes(key.seed), None))


def anchor_of(public: bytes) -> bytes:
    """What a verifier makes of a key, as PEM: anybody can make it."""
    dummy = Ed25519PrivateKey.generate()
    name = _name(f"fabrik {public.hex()[:48]}")
    made = (
        x509.CertificateBuilder()
        .issuer_name(name)
        .subject_name(name)
        .public_key(Ed25519PublicKey.from_public_bytes(public))
        .serial_number(1)
        .not_valid_before(datetime(1970, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(9999, 12, 31, tzinfo=UTC))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier(public), critical=False)
        .sign(dummy, None)
    )
    return made.public_bytes(Encoding.PEM)


def tls_context(certificate: Certificate | None, *, alpn: str = ALPN, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    """A client's, which looks at nothing that the node shows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = min(version, ssl.TLSVersion.TLSv1_2)
    context.maximum_version = version
    if alpn:
        context.set_alpn_protocols([alpn])
    if certificate is not None:
        with tempfile.NamedTemporaryFile() as file:
            file.write(certificate.pem)
            file.flush()
            context.load_cert_chain(file.name)
    return context


def join_frame(token_id: bytes, key: bytes, secret: bytes, server_cert: bytes) -> bytes:
    """What a joiner says first."""
    body = b"FABRIKJ\x01" + token_id + key + os.urandom(16)
    return body + hmac.digest(secret, b"fabrik/v1/gate join\0" + server_cert + body, "sha256")


def knock_frame(key: Key, server_cert: bytes, *, name: bytes = b"mallory", signer: Key | None = None) -> bytes:
    """What a key says that asks to be let in; the name as it is, cut or padded to its 64 bytes."""
    body = b"FABRIKK\x01" + key.public + bytes(32) + name[:64].ljust(64, b"\0") + os.urandom(16)
    holder = Ed25519PrivateKey.from_private_bytes((signer or key).seed)
    return body + holder.sign(b"fabrik/v1/gate knock\0" + server_cert + body)
