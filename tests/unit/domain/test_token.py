"""The join token: one line that survives a paste, and nothing else does."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabrik_node._core import SigningKey, genesis_encode
from fabrik_node.domain.token import JoinToken
from fabrik_node.errors import BadToken

KEY = SigningKey.from_seed(bytes(32)).public
TOKEN = JoinToken(genesis_encode(KEY, "mesh", bytes(16), 1), KEY, "ws://127.0.0.1:1/crdt-sync", b"t" * 16, b"s" * 32, 2)


def test_a_token_survives_being_pasted() -> None:
    text = TOKEN.encode()
    assert JoinToken.decode(text) == TOKEN
    assert JoinToken.decode(f"  {text[:40]}\n {text[40:]}\n") == TOKEN, "as a terminal breaks lines"
    assert "\n" not in text
    assert text.startswith("fabrik1-")


def test_the_secret_does_not_show() -> None:
    assert TOKEN.secret.hex() not in repr(TOKEN)
    assert repr(TOKEN.secret) not in repr(TOKEN)


@given(st.text(max_size=80))
def test_anything_else_is_no_token(text: str) -> None:
    with pytest.raises(BadToken):
        JoinToken.decode(text)
    with pytest.raises(BadToken):
        JoinToken.decode("fabrik1-" + text)


@given(st.integers(min_value=0, max_value=len(TOKEN.encode()) - 1))
def test_a_token_that_is_cut_or_has_a_typo_is_refused(at: int) -> None:
    text = TOKEN.encode()
    with pytest.raises(BadToken):
        JoinToken.decode(text[:at])
    swapped = text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :]
    with contextlib.suppress(BadToken):
        assert JoinToken.decode(swapped) == TOKEN, "the last character may carry unused bits"


@pytest.mark.parametrize("field", ["genesis", "issuer", "token_id", "secret"])
def test_a_well_packed_token_with_a_wrong_field_is_refused(field: str) -> None:
    parts = {name: getattr(TOKEN, name) for name in ("genesis", "issuer", "url", "token_id", "secret", "role")}
    parts[field] = b"short"
    with pytest.raises(BadToken):
        JoinToken.decode(JoinToken(**parts).encode())


@pytest.mark.parametrize(
    ("field", "value"), [("issuer", "x" * 32), ("token_id", "x" * 16), ("secret", "x" * 32), ("role", "admin"), ("role", 99), ("url", b"x")]
)
def test_a_well_packed_token_of_wrong_types_is_refused(field: str, value: object) -> None:
    parts: dict[str, object] = {name: getattr(TOKEN, name) for name in ("genesis", "issuer", "url", "token_id", "secret", "role")}
    parts[field] = value
    with pytest.raises(BadToken):
        JoinToken.decode(JoinToken(**parts).encode())  # type: ignore[arg-type]
