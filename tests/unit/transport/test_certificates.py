"""Certificates that an identity key issues, and the contexts that are built of them."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import NameOID
from store_doubles import HandClock

from fabrik_node._core import SigningKey
from fabrik_node.errors import AuthError
from fabrik_node.transport.certificates import Leaf, anchor, hash_of, issue, issuer_of
from fabrik_node.transport.contexts import Contexts

ONE, TWO, THREE = (SigningKey.from_seed(bytes([number]) * 32) for number in (1, 2, 3))


def der_of(leaf: Leaf) -> bytes:
    text = leaf.pem.decode()
    return ssl.PEM_cert_to_DER_cert(text[text.index("-----BEGIN CERTIFICATE") :])


def shake(client: ssl.SSLContext, server: ssl.SSLContext) -> tuple[bytes, bytes]:
    """What each side sees of the other; both handshakes run in memory. Raises ssl.SSLError of the first side that refuses."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    a = client.wrap_bio(back, there)
    b = server.wrap_bio(there, back, server_side=True)
    open_sides = [a, b]
    for _ in range(6):
        for side in tuple(open_sides):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            open_sides.remove(side)
    assert open_sides == []
    return a.getpeercert(binary_form=True) or b"", b.getpeercert(binary_form=True) or b""


@pytest.mark.promise("F3")
def test_a_certificate_names_and_proves_its_issuer() -> None:
    leaf = issue(ONE.public, ONE.sign)
    der = der_of(leaf)
    assert issuer_of(der) == ONE.public
    assert hash_of(der) == leaf.digest
    assert hash_of(b"") == b""
    read = x509.load_der_x509_certificate(der)
    assert (read.not_valid_before_utc.year, read.not_valid_after_utc.year) == (1970, 9999)
    assert issue(ONE.public, ONE.sign).digest != leaf.digest, "a new key each time"


@pytest.mark.promise("I22")
def test_the_transport_key_is_not_the_identity_key_and_shows_nowhere() -> None:
    leaf = issue(ONE.public, ONE.sign)
    read = x509.load_der_x509_certificate(der_of(leaf))
    assert read.public_key() != x509.load_der_x509_certificate(anchor(ONE.public)).public_key()
    assert "PRIVATE" not in repr(leaf)
    assert b"PRIVATE" in leaf.pem


@pytest.mark.parametrize("at", ["issuer", "signature", "body"])
def test_a_certificate_that_the_named_key_did_not_sign_is_of_nobody(at: str) -> None:
    der = bytearray(der_of(issue(ONE.public, ONE.sign)))
    place = {"issuer": der.index(ONE.public), "signature": len(der) - 1, "body": der.index(b"fabrik transport")}[at]
    der[place] ^= 1
    with pytest.raises(AuthError, match="no identity key issued"):
        issuer_of(bytes(der))
    with pytest.raises(AuthError, match="no identity key issued"):
        issuer_of(b"")
    with pytest.raises(AuthError, match="no identity key issued"):
        issuer_of(anchor(ONE.public)), "it names no issuer and signs nothing"


class Members:
    """Who is admitted, as a test says it."""

    def __init__(self, *keys: SigningKey) -> None:
        self.keys = {key.public for key in keys}

    def contexts(self, key: SigningKey, clock: HandClock | None = None) -> Contexts:
        return Contexts(key.public, key.sign, lambda: self.keys, clock or HandClock())


@pytest.mark.promise("F3")
async def test_members_meet_and_strangers_do_not() -> None:
    members = Members(ONE, TWO)
    server = await members.contexts(ONE).server()
    client = await members.contexts(TWO).client(ONE.public)
    seen, shown = shake(client.context, server.context)
    assert (issuer_of(seen), issuer_of(shown)) == (ONE.public, TWO.public)
    assert (hash_of(seen), hash_of(shown)) == (server.own_cert, client.own_cert)
    stranger = await members.contexts(THREE).client(ONE.public)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(stranger.context, server.context)
    impostor = await members.contexts(THREE).server()
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(client.context, impostor.context)
    joiner = await members.contexts(THREE).joiner(ONE.public)
    assert shake(joiner.context, server.context) == (seen, b"")
    wrong = await members.contexts(TWO).server()
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(joiner.context, wrong.context)
    expecting = await Members().contexts(TWO).client(ONE.public)
    assert shake(expecting.context, server.context)[0] == seen, "a key that is expected, though we know no member yet"


@pytest.mark.promise("F3")
async def test_a_member_can_certify_for_itself_alone() -> None:
    """A certificate below a member's transport certificate is of nobody."""
    members = Members(ONE, TWO)
    server = await members.contexts(ONE).server()
    leaf = issue(TWO.public, TWO.sign)
    transport = load_pem_private_key(leaf.pem, None)
    assert isinstance(transport, Ed25519PrivateKey)
    own = x509.load_der_x509_certificate(der_of(leaf))
    key = Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "somebody")])
    below = x509.CertificateBuilder(own.subject, name, key.public_key(), 7, own.not_valid_before_utc, own.not_valid_after_utc).sign(transport, None)
    chain = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + below.public_bytes(Encoding.PEM) + own.public_bytes(Encoding.PEM)
    forged = await members.contexts(TWO).client(ONE.public)
    memory = os.memfd_create("chain")
    os.write(memory, chain)
    forged.context.load_cert_chain(f"/proc/self/fd/{memory}")
    os.close(memory)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(forged.context, server.context)


@pytest.mark.promise("F5")
async def test_a_change_of_members_holds_from_the_next_connection_on() -> None:
    members = Members(ONE)
    contexts = members.contexts(ONE)
    client = await Members(ONE, TWO).contexts(TWO).client(ONE.public)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(client.context, (await contexts.server()).context)
    members.keys.add(TWO.public)
    contexts.handle_members()
    shake(client.context, (await contexts.server()).context)
    assert contexts.rebuilt == 0, "an anchor is added to what there is"
    held = await contexts.server()
    members.keys.discard(TWO.public)
    contexts.handle_members()
    assert (await contexts.server()) is not held
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(client.context, (await contexts.server()).context)
    assert contexts.rebuilt == 1


@pytest.mark.promise("I22")
async def test_the_transport_key_is_renewed_once_a_day() -> None:
    clock = HandClock()
    members = Members(ONE, TWO)
    contexts = members.contexts(ONE, clock)
    first = await contexts.server()
    clock.advance(86_399)
    assert await contexts.server() is first
    assert (await contexts.client(TWO.public)).own_cert == first.own_cert, "one key at a time"
    clock.advance(1)
    assert (await contexts.client(TWO.public)).own_cert != first.own_cert
    assert (await contexts.server()).own_cert == (await contexts.client(b"")).own_cert


async def test_many_members_are_many_anchors() -> None:
    keys = [SigningKey.from_seed(number.to_bytes(32, "big")) for number in range(1, 200)]
    members = Members(ONE, *keys)
    server = await members.contexts(ONE).server()
    client = await members.contexts(keys[-1]).client(b"")
    shake(client.context, server.context)


@pytest.mark.promise("I22")
async def test_no_transport_key_lies_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without memory files a private one is used, and removed at once."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.delattr(os, "memfd_create")
    used: list[tuple[Path, int]] = []
    load = ssl.SSLContext.load_cert_chain

    def look(context: ssl.SSLContext, path: str) -> None:
        used.append((Path(path), Path(path).stat().st_mode & 0o777))
        load(context, path)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", look)
    await Members(ONE).contexts(ONE).server()
    ((path, mode),) = used
    assert (path.parent, mode) == (tmp_path, 0o600)
    assert list(tmp_path.iterdir()) == []
