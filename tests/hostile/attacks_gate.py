"""At the gate, before WebSocket: certificates of nobody, of others and of no issuer, join frames, and what is no TLS at all."""

from __future__ import annotations

import os
import ssl
import time

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from hostile.kit import Kit, attack, stranger
from hostile.raw import AUTH, BOUND_S, Ended, Wire, hello_of, open_stream, peer_digest
from hostile.tls import Certificate, anchor_of, certify, join_frame, knock_frame, tls_context


def shown(kit: Kit, certificate: Certificate | None, **options: object) -> str:
    """What a certificate leads to, up to the answer to a request."""
    with Wire(kit.url, open_stream(kit.url, tls_context(certificate, **options))) as wire:  # type: ignore[arg-type]
        return f"http {wire.request(wire.head())}"


attack("the certificate of a member", "http 101")(lambda kit: shown(kit, certify(kit.key)))
attack("no certificate and no join frame", "unknown_key")(lambda kit: shown(kit, None))
attack("the certificate of a stranger", "tls unknown_ca")(lambda kit: shown(kit, certify(stranger())))
attack("a certificate in a member's name, signed by a stranger", "tls unknown_ca", "tls decrypt_error", "tls bad_certificate")(
    lambda kit: shown(kit, certify(stranger(), named=bytes.fromhex(kit.second.call("status")["node_id"])))
)
attack("a stranger's certificate with a larger one", "tls unknown_ca", "cut")(lambda kit: shown(kit, certify(stranger(), padding=60_000)))
attack("a member's certificate of sixty kilobytes", "http 101", "tls unknown_ca", "cut")(lambda kit: shown(kit, certify(kit.key, padding=60_000)))
attack("TLS 1.2", "tls protocol_version", "cut")(lambda kit: shown(kit, certify(kit.key), version=ssl.TLSVersion.TLSv1_2))
attack("no ALPN", "no_common_version")(lambda kit: shown(kit, certify(kit.key), alpn=""))
attack("ALPN of the web", "tls no_application_protocol", "no_common_version", "cut")(lambda kit: shown(kit, certify(kit.key), alpn="h2"))


@attack("a member's transport key that certifies another one", "tls unknown_ca", "tls invalid_ca", "tls decrypt_error")
def second_hand(kit: Kit) -> str:
    """Who stole a transport key has no more than that key."""
    stolen = certify(kit.key)
    next_one = certify(stranger(), named=kit.key.public, signer=stolen.holder)
    return shown(kit, Certificate(next_one.holder, next_one.made, stolen.made.public_bytes(Encoding.PEM)))


@attack("a member's transport key that says it is an authority", "tls unknown_ca", "tls invalid_ca", "tls bad_certificate")
def own_authority(kit: Kit) -> str:
    """Even a member gives its place to nobody: an anchor certifies no other authority."""
    middle = certify(kit.key, authority=True)
    last = certify(stranger(), named=os.urandom(32), signer=middle.holder)
    return shown(kit, Certificate(last.holder, last.made, middle.made.public_bytes(Encoding.PEM)))


@attack("a stranger's certificate with a member's anchor behind it", "tls unknown_ca", "tls decrypt_error", "tls bad_certificate")
def borrowed(kit: Kit) -> str:
    made = certify(stranger(), named=kit.admin, signer=Ed25519PrivateKey.generate())
    return shown(kit, Certificate(made.holder, made.made, anchor_of(kit.admin)))


@attack("a member's certificate, and the greeting of another member", "wrong_key", "bad_certificate", "bad_signature")
def two_faces(kit: Kit) -> str:
    other = kit.join(kit.invite())
    with kit.peer() as peer:
        peer.send(hello_of(other, kit.mesh))
        return peer.outcome()


@attack("a handshake that binds no certificates", "bad_signature")
def unbound(kit: Kit) -> str:
    with kit.peer() as peer:
        peer.certs = b"", b""
        peer.greet().say(AUTH, peer.signature(), b"")
        return peer.outcome()


@attack("a handshake that binds another server's certificate", "bad_signature")
def in_between(kit: Kit) -> str:
    """As somebody would who answers with a certificate of his own and passes everything on."""
    with kit.peer() as peer:
        peer.certs = peer.certs[0], os.urandom(32)
        peer.greet().say(AUTH, peer.signature(), b"")
        return peer.outcome()


# ---- join frames


def joined(kit: Kit, frame_of: object) -> str:
    """TLS without a certificate, then what ``frame_of(hash of the server's certificate)`` gives, then a request."""
    with Wire(kit.url, open_stream(kit.url, tls_context(None))) as wire:
        assert callable(frame_of)
        wire.send_bytes(frame_of(peer_digest(wire.stream)))
        return f"http {wire.request(wire.head())}"


attack("a join frame with a token of nobody", "join_refused")(
    lambda kit: joined(kit, lambda cert: join_frame(os.urandom(16), stranger().public, os.urandom(32), cert))
)
attack("noise for a join frame", "unknown_key")(lambda kit: joined(kit, lambda _: os.urandom(104)))
attack("a join frame of a later version", "unknown_key")(
    lambda kit: joined(kit, lambda cert: join_frame(os.urandom(16), stranger().public, os.urandom(32), cert).replace(b"FABRIKJ\x01", b"FABRIKJ\x02"))
)
attack("a megabyte without a certificate", "unknown_key", "cut")(lambda kit: joined(kit, lambda _: bytes(1 << 20)))


@attack("a join frame with a wrong secret, then its owner", "join_refused")
def wrong_secret(kit: Kit) -> str:
    token = kit.invite()
    outcome = joined(kit, lambda cert: join_frame(token.token_id, stranger().public, os.urandom(32), cert))
    kit.join(token)
    return outcome


@attack("a join frame for another server", "join_refused")
def other_server(kit: Kit) -> str:
    token = kit.invite()
    return joined(kit, lambda _: join_frame(token.token_id, stranger().public, token.secret, os.urandom(32)))


@attack("a used token at the gate", "join_refused")
def used(kit: Kit) -> str:
    token = kit.invite()
    kit.join(token)
    return joined(kit, lambda cert: join_frame(token.token_id, stranger().public, token.secret, cert))


@attack("through the gate with a token, then a greeting without it", "bad_certificate")
def no_token_inside(kit: Kit) -> str:
    token, key = kit.invite(), stranger()
    with kit.joiner(token, key) as peer:
        peer.greet().say(AUTH, peer.signature(), b"")
        return peer.outcome()


@attack("through the gate as one key, then a greeting as another", "wrong_key", "bad_certificate", "unknown_key")
def changed_inside(kit: Kit) -> str:
    token, key = kit.invite(), stranger()
    with kit.joiner(token, key) as peer:
        peer.send(hello_of(stranger(), kit.mesh, token_id=token.token_id))
        return peer.outcome()


@attack("through the gate with one token, then a greeting with another", "bad_certificate")
def token_changed_inside(kit: Kit) -> str:
    token, other, key = kit.invite(), kit.invite(), stranger()
    with kit.joiner(token, key) as peer:
        peer.greet(token_id=other.token_id).say(AUTH, peer.signature(), peer.proof(other.secret))
        return peer.outcome()


@attack("half a join frame, and nothing more", "cut")
def half_frame(kit: Kit) -> str:
    with Wire(kit.url, open_stream(kit.url, tls_context(None))) as wire:
        wire.send_bytes(b"FABRIKJ\x01" + bytes(50))
        return f"http {wire.request(b'')}"


# ---- what is no TLS


@attack("HTTP on the TLS port", "http 426")
def plain(kit: Kit) -> str:
    with kit.wire() as wire:
        return f"http {wire.request(wire.head())}"


@attack("noise that begins like TLS", "cut", "tls unexpected_message", "tls decode_error")
def like_tls(kit: Kit) -> str:
    with kit.wire() as wire:
        wire.send_bytes(b"\x16\x03\x01\x02\x00" + os.urandom(512))
        return "alert" if wire._take(1) == b"\x16" else "cut"


@attack("a TLS record of sixteen kilobytes in single bytes, and no end", "cut")
def dripping(kit: Kit) -> str:
    with kit.wire() as wire:
        wire.send_bytes(b"\x16\x03\x01\x3f\xff\x01\x00\x3f\xfb\x03\x03")
        begun = time.monotonic()
        wire.stream.settimeout(0.2)
        while time.monotonic() - begun < BOUND_S:
            wire.send_bytes(b"\x00")
            try:
                if not wire.stream.recv(100):
                    return "cut"
            except TimeoutError:
                continue
            except OSError:
                return "cut"
        return "still open"


@attack("three hundred strangers at the gate", "tls unknown_ca")
def crowd(kit: Kit) -> str:
    events = kit.host.call("status")["events"]
    context = tls_context(certify(stranger()))
    outcomes = set()
    for _ in range(300):
        try:
            with Wire(kit.url, open_stream(kit.url, context)) as wire:
                wire.request(wire.head())
        except Ended as end:
            outcomes.add(end.outcome)
    assert kit.host.call("status")["events"] - events <= 2, "events are kept for ever: one is enough"
    return "/".join(sorted(outcomes))


# ---- knocks

attack("a knock, and a request behind it", "approval_pending", "knocks_full")(lambda kit: joined(kit, lambda cert: knock_frame(stranger(), cert)))
attack("a knock for the key of another", "bad_knock")(lambda kit: joined(kit, lambda cert: knock_frame(stranger(), cert, signer=stranger())))
attack("a knock for the admin's key", "bad_knock")(
    lambda kit: joined(kit, lambda cert: (forged := knock_frame(stranger(), cert))[:8] + kit.admin + forged[40:])
)
attack("a knock for another server", "bad_knock")(lambda kit: joined(kit, lambda _: knock_frame(stranger(), os.urandom(32))))
attack("a knock whose name is no text", "bad_knock")(lambda kit: joined(kit, lambda cert: knock_frame(stranger(), cert, name=b"\xff\xfe" * 32)))
attack("a knock of a later version", "unknown_key")(lambda kit: joined(kit, lambda cert: knock_frame(stranger(), cert).replace(b"FABRIKK\x01", b"FABRIKK\x02")))
attack("a knock with a name of a megabyte", "bad_knock", "cut")(lambda kit: joined(kit, lambda cert: knock_frame(stranger(), cert)[:72] + b"A" * (1 << 20)))
attack("a member's knock", "welcome")(lambda kit: joined(kit, lambda cert: knock_frame(kit.key, cert)))


@attack("a knock that is said again", "approval_pending", "knocks_full")
def said_again(kit: Kit) -> str:
    """On the connection that it was made for: the rest of what a knocker says is thrown away."""
    return joined(kit, lambda cert: knock_frame(stranger(), cert) * 50)


@attack("a knock from one connection, said on the next", "approval_pending", "bad_knock", "knocks_full")
def said_elsewhere(kit: Kit) -> str:
    """Only its owner and this node can know it; it is the same key in the same place of the queue, or another certificate by now."""
    kept: list[bytes] = []

    def keeping(cert: bytes) -> bytes:
        kept.append(knock_frame(stranger(), cert))
        return kept[0]

    try:
        joined(kit, keeping)
    except Ended:
        before = kit.host.call("nodes.pending")["pending"]
        try:
            return joined(kit, lambda _: kept[0])
        finally:
            assert len(kit.host.call("nodes.pending")["pending"]) == len(before)
    return "let in"


@attack("a hundred keys that knock", "knocks_full")
def knocking_crowd(kit: Kit) -> str:
    """The queue is short, and one address gets a part of it."""
    outcomes = set()
    for _ in range(100):
        try:
            joined(kit, lambda cert: knock_frame(stranger(), cert))
        except Ended as end:
            outcomes.add(end.outcome)
    assert outcomes <= {"approval_pending", "knocks_full"}, outcomes
    waiting = kit.host.call("nodes.pending")["pending"]
    assert len(waiting) <= 16
    for each in waiting:
        kit.host.call("nodes.reject", key=each["node"])
    return "knocks_full" if "knocks_full" in outcomes else "room for all"
