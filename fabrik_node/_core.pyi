"""The Rust core: ops, chains, signatures, merge. Pure: no I/O, no clock, no randomness (but for the seed that you pass).

Handles are frozen and safe to share between threads; batch calls release the GIL. Errors are the classes of
:mod:`fabrik_node.errors`. Formats and rules: ``docs/spec/op.cddl`` and ``docs/spec/merge.md``.

The life of foreign bytes: ``bytes -> Replica.verify -> Verified -> Replica.chain -> Chained -> (persist) -> Replica.merge``.
Own ops: ``Replica.draft -> Draft.append -> Chained -> (persist) -> Replica.merge``.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Final, TypeAlias, final, overload

Value: TypeAlias = Any
"""A decoded CBOR value. Integers are exact over -2**63 .. 2**64-1; arrays are lists (tuples are accepted); map keys are int, str or bytes."""

Fence: TypeAlias = tuple[int, int, bytes]
"""``(receipt, epoch, claim_id)``."""

Write: TypeAlias = tuple[int, bytes, int, Value, Fence | None]
"""``(register kind, id, field, value, fence)``."""

SPEC_VERSION: Final[int]
HEADS_MAX: Final[int]
"""Heads of one log; with one more it is suspended, or, if it is the genesis admin's, announced by a digest of them."""
OP_BYTES_MAX: Final[int]
SEGMENT_BYTES_MAX: Final[int]
LAMPORT_STEP_MAX: Final[int]
LAMPORT_MAX: Final[int]

def schema() -> list[tuple[str, int, int, list[tuple[str, int, str, bool]]]]:
    """The register table of merge.md: ``(kind name, kind, id length, [(field name, field, type, fenced)])``."""

def blake3(data: bytes) -> bytes:
    """BLAKE3-256 of ``data``: 32 bytes."""

def step_id(item: bytes, name: str) -> bytes:
    """The id of a step's register (merge.md, "Registers"). ``item`` has 16 bytes."""

def cbor_encode(value: Value) -> bytes:
    """Deterministic CBOR. Raises InvalidOp for what the format has no place for (floats, too deep, too large integers)."""

def cbor_decode(data: bytes) -> Value:
    """Strict decoding. Raises InvalidOp unless the bytes are the canonical encoding of one item."""

def verify(public: bytes, message: bytes, signature: bytes) -> None:
    """Strict, cofactorless Ed25519. Returns nothing or raises BadSignature."""

def mesh_id(genesis: bytes) -> bytes:
    """The 32-byte mesh id of a genesis record. Raises BadGenesis when it can not be read."""

def genesis_encode(admin: bytes, name: str, nonce: bytes, created_ms: int, recovery: bytes | None = None, next: bytes | None = None) -> bytes:
    """A genesis record; ``nonce`` is 16 random bytes. ``recovery``: a public key kept off the hosts; ``next``: the commitment to the admin's next key."""

def next_key(public: bytes) -> bytes:
    """The commitment to a key that will follow another one: what a member record or a rotation names before the key itself is known."""

@final
class Genesis:
    """A decoded genesis record."""

    @staticmethod
    def decode(data: bytes) -> Genesis: ...
    @property
    def mesh_id(self) -> bytes: ...
    @property
    def admin(self) -> bytes: ...
    @property
    def name(self) -> str: ...
    @property
    def created_ms(self) -> int: ...
    @property
    def recovery(self) -> bytes | None:
        """The recovery key: level -1, writes member records only."""

    @property
    def next(self) -> bytes | None:
        """The commitment to the admin's next key."""

@final
class SigningKey:
    """An Ed25519 key pair. Its repr and pickle never show the seed (pickling is refused)."""

    @staticmethod
    def from_seed(seed: bytes) -> SigningKey: ...
    @property
    def public(self) -> bytes: ...
    def sign(self, message: bytes) -> bytes:
        """64 bytes. The caller puts a domain string in front of ``message``."""

    def ephemeral(self, mesh_id: bytes, counter: int, payload: dict[str, Value]) -> bytes:
        """A signed ephemeral message (op.cddl)."""

def ephemeral_verify(mesh_id: bytes, message: bytes) -> tuple[bytes, int, dict[str, Value]]:
    """``(author, counter, payload)``. Raises InvalidOp or BadSignature."""

@final
class Verified:
    """A segment whose bytes are canonical and whose signature verifies. Says nothing about where it chains to."""

    @property
    def author(self) -> bytes: ...
    @property
    def epoch(self) -> int: ...
    @property
    def first_seq(self) -> int: ...
    @property
    def last_seq(self) -> int: ...
    @property
    def ops(self) -> int: ...

@final
class Chained:
    """A verified segment cut to what is new and fitting exactly behind an op that we hold. ``data`` is what to store and relay."""

    @property
    def author(self) -> bytes: ...
    @property
    def epoch(self) -> int: ...
    @property
    def branch(self) -> int:
        """Our number of the branch: 0, 1, 2 ... in the order in which we met them. Other nodes may count differently."""

    @property
    def base(self) -> tuple[int, int] | None:
        """``(branch, seq)`` behind which this segment opens its branch; None when it continues one, and for branch 0."""

    @property
    def first_seq(self) -> int: ...
    @property
    def last_seq(self) -> int: ...
    @property
    def ops(self) -> int: ...
    @property
    def prev(self) -> bytes:
        """``h_{first_seq - 1}``."""

    @property
    def head(self) -> bytes:
        """``h_{last_seq}``."""

    @property
    def data(self) -> bytes:
        """The segment's bytes, canonical."""

    @property
    def digests(self) -> list[bytes]:
        """Op digests in order."""

@final
class Gap:
    """A segment whose ``prev`` is nowhere among what we hold: it starts beyond it (ask for ``have_seq + 1`` onwards), or on a branch that we do not know."""

    @property
    def author(self) -> bytes: ...
    @property
    def epoch(self) -> int: ...
    @property
    def have_seq(self) -> int: ...
    @property
    def first_seq(self) -> int: ...
    @property
    def unrooted(self) -> bool:
        """True when we hold ops at ``first_seq - 1``, but none with that chain hash: the author forked before. Ask with :meth:`Replica.places`."""

    @property
    def index(self) -> int:
        """Place of the segment in the input."""

@final
class Fork:
    """A branch that this call opens: two different ops behind op ``seq - 1``. Its segment is among ``chained``, with ``base``."""

    @property
    def author(self) -> bytes: ...
    @property
    def epoch(self) -> int: ...
    @property
    def seq(self) -> int:
        """The first place where the branches differ."""

    @property
    def branch(self) -> int:
        """The new one."""

    @property
    def base_branch(self) -> int:
        """The one that it leaves: our op ``seq`` is on it."""

    @property
    def segment(self) -> bytes:
        """The new branch's first segment; with one of ours that holds ``seq`` it is the proof."""

@final
class ChainResult:
    """The outcome of :meth:`Replica.chain`, in the order of the input within each list."""

    @property
    def chained(self) -> list[Chained]: ...
    @property
    def duplicates(self) -> int:
        """Ops that we hold already."""

    @property
    def gaps(self) -> list[Gap]: ...
    @property
    def forks(self) -> list[Fork]: ...
    @property
    def unknown(self) -> list[bytes]:
        """Authors whom no record of an admin names; their segments were left out. Whoever was named once stays so, also when revoked."""

    @property
    def suspended(self) -> list[tuple[bytes, int]]:
        """``(author, epoch)`` of the logs that get one head too many by this call. After the merge :attr:`Replica.stale` is True."""

    @property
    def refused(self) -> int:
        """Segments that were left out because their log is suspended."""

@final
class LoadResult:
    """The outcome of :meth:`Replica.load`."""

    @property
    def ops(self) -> int:
        """New ops."""

    @property
    def damaged(self) -> list[tuple[int, str]]:
        """``(place in the input, why)`` of what is no segment of this mesh any more: bytes, chain or signature."""

    @property
    def stranded(self) -> list[int]:
        """Places in the input of sound segments whose ``prev`` is missing: what was before them was damaged or lost."""

@final
class Member:
    """What the records about a key, and its rotation, come to (merge.md, "Authority")."""

    @property
    def role(self) -> int:
        """Now: 0 none, 1 reader, 2 agent, 3 peer, 4 admin."""

    @property
    def level(self) -> int | None:
        """-1 the recovery key, 0 the genesis admin, n + 1 whom level n made an admin; None for everybody else. Only a lower level, or one of the same, can revoke."""

    @property
    def revoked(self) -> bool:
        """For good: only what is within the revocation's places keeps its effect."""

    @property
    def successor(self) -> bytes | None:
        """The key that it rotated to."""

    @property
    def named(self) -> bool:
        """Whether its logs are taken."""

    @property
    def names(self) -> bool:
        """It was an admin once: those to whom its records give a role are named."""

@final
class Head:
    """The end of one branch of a log."""

    @property
    def author(self) -> bytes: ...
    @property
    def epoch(self) -> int: ...
    @property
    def branch(self) -> int: ...
    @property
    def base(self) -> tuple[int, int] | None:
        """``(branch, seq)`` that this branch leaves; None for branch 0."""

    @property
    def seq(self) -> int: ...
    @property
    def head(self) -> bytes: ...
    @property
    def clock(self) -> int:
        """Lamport of the last clock-valid op."""

@final
class Register:
    """The winning write of one register."""

    @property
    def value(self) -> Value: ...
    @property
    def fence(self) -> Fence | None: ...
    @property
    def lamport(self) -> int: ...
    @property
    def digest(self) -> bytes: ...
    @property
    def author(self) -> bytes: ...
    @property
    def epoch(self) -> int: ...
    @property
    def seq(self) -> int: ...
    @property
    def wall_ms(self) -> int: ...

@final
class Change:
    """The net effect of one merge call on one register: ``old`` before, ``new`` after (None: not there).

    The values are equal when another write of the same value won. A register that came and went within the call is no change.
    """

    @property
    def kind(self) -> int: ...
    @property
    def id(self) -> bytes: ...
    @property
    def field(self) -> int: ...
    @property
    def old(self) -> Value: ...
    @property
    def new(self) -> Value: ...
    @property
    def old_fence(self) -> Fence | None:
        """Of the write before; of a claim its own. None without one."""

    @property
    def author(self) -> bytes:
        """Of the winning write; the tombstone's author for a register that it removed; the old write's for one that a suspension took away."""

    @property
    def wall_ms(self) -> int: ...
    @property
    def digest(self) -> bytes: ...

@final
class Changes(Sequence[Change]):
    """The changes of one call, each register once. A :class:`Change` is made when it is looked at, so a bulk merge costs nothing here.

    Equal to another sequence of equal changes. Keeps the segments of the call in memory as long as it lives.
    """

    def __len__(self) -> int: ...
    @overload
    def __getitem__(self, index: int, /) -> Change: ...
    @overload
    def __getitem__(self, index: slice, /) -> list[Change]: ...
    def __eq__(self, other: object, /) -> bool: ...
    __hash__: ClassVar[None]  # type: ignore[assignment]
    @property
    def kinds(self) -> set[int]:
        """The register kinds that changed."""

    @property
    def newest_ms(self) -> int | None:
        """The latest ``wall_ms``; None when nothing changed."""

    def of(self, kind: int, field: int | None = None) -> list[Change]:
        """The changes of one kind, or of one field of it, in order."""

@final
class Touch:
    """One write of one op to an id, whether it won or not (see :func:`history`)."""

    @property
    def author(self) -> bytes: ...
    @property
    def epoch(self) -> int: ...
    @property
    def seq(self) -> int: ...
    @property
    def lamport(self) -> int: ...
    @property
    def wall_ms(self) -> int: ...
    @property
    def digest(self) -> bytes: ...
    @property
    def kind(self) -> int: ...
    @property
    def field(self) -> int: ...
    @property
    def value(self) -> Value: ...
    @property
    def fence(self) -> Fence | None: ...

def history(segments: Sequence[bytes], id: bytes) -> list[Touch]:
    """Every write to ``id`` in these (trusted, stored) segments, in their order, also those of void ops. Releases the GIL."""

def effects(replica: Replica, segments: Sequence[bytes], id: bytes) -> list[Touch]:
    """Those of :func:`history` that have effect by all that ``replica`` holds now, whether they won or not. Releases the GIL."""

def find_ops(segments: Sequence[bytes], prefix: str) -> list[tuple[int, int, bytes]]:
    """``(place in the input, seq, digest)`` of the ops in these (trusted, stored) segments whose digest begins with these hex digits.

    What is no segment is left out. Releases the GIL.
    """

def segment_span(data: bytes) -> tuple[bytes, int, int, int]:
    """``(author, epoch, first_seq, last_seq)`` of a (trusted, stored) segment. Raises InvalidOp for what is not one."""

def coalesce(segments: Sequence[bytes], max_bytes: int) -> list[bytes]:
    """Join neighbouring segments of one log into as few as fit in ``max_bytes`` each, keeping only the last signature of each.

    The input is contiguous and in order; a single larger segment is passed as it is.
    """

def pack(segments: Sequence[bytes], max_bytes: int) -> list[tuple[bytes, bytes]]:
    """:func:`coalesce` that keeps the signatures: ``(segment, be64(seq) || signature of each segment that was joined into it but the last)``."""

def cut(segment: bytes, first_seq: int) -> bytes:
    """The part of a (trusted) segment from ``first_seq`` on. Raises InvalidOp when nothing is left."""

def fork_proof(mesh_id: bytes, one: bytes, other: bytes) -> bytes:
    """A proof from two segments (op.cddl). Raises InvalidOp or BadSignature when they prove nothing."""

def fork_proof_verify(proof: bytes) -> tuple[bytes, bytes, int, int]:
    """``(mesh_id, author, epoch, seq)`` of a proof that holds; ``seq`` is the lowest place at which it shows two different ops. Raises InvalidOp or BadSignature."""

def op_proof(mesh_id: bytes, segment: bytes, seq: int) -> bytes:
    """The proof of one op of a (trusted) segment."""

def op_proof_verify(proof: bytes) -> dict[str, Value]:
    """What a proof that holds says: mesh_id, author, epoch, seq, lamport, wall_ms, digest, kind, writes, op (its bytes). Raises InvalidOp or BadSignature."""

@final
class Draft:
    """Local ops built on the heads of the moment. Nothing of it is in the replica until :meth:`Replica.merge`.

    Drop it when persisting fails: no sequence number is used up. Not for use after another draft of the same log was merged.
    """

    def append(self, writes: Sequence[Write], wall_ms: int) -> list[Chained]:
        """Sign one op (kind ``write``), preceded by clock-raising empty ops when the mesh clock is far ahead.

        Each is a segment of its own with its own signature. Raises InvalidOp when the op would be void, AuthError when the key may not write this:
        nothing is drafted then.
        """

    def genesis(self, wall_ms: int) -> list[Chained]:
        """The first op of the genesis admin's log."""

    def open_epoch(self, follows: tuple[int, int, bytes], wall_ms: int) -> list[Chained]:
        """The first op of a later epoch; ``follows`` is ``(epoch, seq, h_seq)`` of the head that it goes on from. Raises InvalidOp unless the draft's log is empty."""

    def rotate(self, new: SigningKey, next: bytes | None, keeps: Sequence[tuple[int, int, bytes]], wall_ms: int) -> list[Chained]:
        """The op by which this key names the one that follows it: nothing that this key writes behind it has effect.

        ``next`` commits to the key after that; ``keeps`` are the heads (``epoch, seq, h``) of this key's other logs and branches that stay.
        It counts only if a record (or the genesis record) committed to ``new`` before; :meth:`Replica.member` tells after the merge.
        """

    @property
    def lamport(self) -> int:
        """Lamport of the last drafted op; the replica's before the first."""

@final
class Replica:
    """Heads and registers in memory. All methods may be called from any thread."""

    def __init__(self, genesis: bytes, suspended: Sequence[tuple[bytes, int]] = ()) -> None:
        """Empty. ``suspended``: logs that are known to have too many heads; their ops are held without effect. The genesis admin's are left out."""

    @staticmethod
    def restore(genesis: bytes, snapshot: bytes) -> Replica:
        """The replica of a :meth:`snapshot`. Raises InvalidOp for one that is damaged, of another mesh, or made by a build that knew other rules or fields."""

    @property
    def mesh_id(self) -> bytes: ...
    @property
    def admin(self) -> bytes: ...
    @property
    def lamport(self) -> int:
        """The highest clock-valid lamport of any op. Suspended logs do not count (those of a stale replica do, until :meth:`adopt`)."""

    @property
    def ops(self) -> int:
        """All ops that are held, on all branches; also of suspended logs."""

    @property
    def voided(self) -> int:
        """Ops without effect because they break a rule. Ops of unknown kinds and of suspended logs are not counted."""

    @property
    def registers(self) -> int: ...
    def verify(self, segments: Sequence[bytes]) -> list[Verified]:
        """Decode, hash and check one signature per segment. All or nothing: raises InvalidOp or BadSignature for the first bad one."""

    def chain(self, verified: Sequence[Verified], *, admit_all: bool = False) -> ChainResult:
        """Fit segments onto our heads and onto each other, in order. Changes nothing.

        Segments may depend on members admitted by earlier segments of the same call (an admin's log before its members').
        ``admit_all`` is for loading our own store.
        """

    def merge(self, chained: Sequence[Chained]) -> Changes:
        """Apply what :meth:`chain` or a draft gave. Call it after persisting, once, in order.

        Raises InvalidOp, changing nothing, when a segment does not fit on the heads.
        """

    def load(self, segments: Sequence[bytes], branches: Sequence[int] = ()) -> LoadResult:
        """Verify, chain and merge our own stored segments in one call without building changes. What is damaged or stranded is left out and named.

        ``branches``: on which branch each was stored. What would now get another number, because the first segment of a branch before it is damaged,
        is stranded, so that our numbers stay those of the store.
        """

    def snapshot(self) -> bytes:
        """Everything that :meth:`restore` needs, with a digest over it. Equal replicas do not always give equal bytes."""

    def anew(self) -> Replica:
        """An empty replica that knows what is suspended and who may write what in this one: to be loaded with the same rows on the same branches."""

    def adopt(self, fresh: Replica) -> Changes:
        """Take over the content of ``fresh``, which is from :meth:`anew` and was loaded with the rows of this one; what changed by it, net.

        Raises InvalidOp, changing nothing, when its heads are not ours. ``fresh`` is empty afterwards.
        """

    @property
    def stale(self) -> bool:
        """What was merged would be judged otherwise now (a log was suspended, somebody was revoked): load what :meth:`anew` gives from the store, then :meth:`adopt` it."""

    def suspended(self) -> list[tuple[bytes, int]]:
        """``(author, epoch)`` of all suspended logs, in order."""

    def holds(self, author: bytes, epoch: int, seq: int, head: bytes) -> bool:
        """Whether the op with this chain hash is on one of our branches, or this is the log's :meth:`marker`. For a suspended log only its marker is."""

    def marker(self, author: bytes, epoch: int) -> tuple[int, bytes] | None:
        """The one head by which a log is announced in place of its own: of a suspended one ``(2**53, 32 zero bytes)``, of the genesis admin's with more than
        :data:`HEADS_MAX` heads ``(2**53 - 1, digest of its heads)``. None for all others.
        """

    def places(self, author: bytes, epoch: int) -> list[tuple[int, bytes]]:
        """``(seq, first 16 bytes of h_seq)`` on each branch's path: at its head, 1, 2, 4, 8 ... before it, and at seq 1; without repeats, at most 1,024."""

    def mark(self, author: bytes, epoch: int, branch: int, seq: int) -> bytes | None:
        """The first 16 bytes of the chain hash of op ``seq`` on the path to a branch's head: what a record names a place by. None when it is not held."""

    def cursors(self, author: bytes, epoch: int, places: Sequence[tuple[int, bytes]]) -> list[tuple[int, int]]:
        """``(branch, seq)``: what somebody who holds ``places`` lacks of our branches, behind ``seq`` of each; in order of branch. Each contains its base first."""

    def check(self, author: bytes, epoch: int, branch: int, segments: Sequence[bytes]) -> list[str]:
        """Whether stored segments are still what was merged: bytes, chain hashes against ours, signature. One text each, empty when sound, else why not."""

    def draft(self, key: SigningKey, epoch: int) -> Draft:
        """On branch 0 of the key's log of that epoch. Raises InvalidOp for a suspended log, and an epoch outside 1..2**53-1."""

    def heads(self) -> list[Head]:
        """Every branch of every log, in order of author, epoch and branch; also of suspended logs."""

    def head(self, author: bytes, epoch: int, branch: int = 0) -> Head | None: ...
    def frontier_digest(self) -> bytes: ...
    def state_digest(self) -> bytes: ...
    def is_admitted(self, author: bytes) -> bool:
        """Whether a node of this key may connect: it is a member now, or the recovery key."""

    def is_spared(self, author: bytes) -> bool:
        """Whether logs of this key are never suspended: it was an admin once, or an admin wrote a revocation of it."""

    def member(self, key: bytes) -> Member:
        """What is known of a key; also of one that nobody named."""

    def get(self, kind: int, id: bytes, field: int) -> Register | None: ...
    def row(self, kind: int, id: bytes) -> dict[int, Value]:
        """All fields of one id; empty when there is none."""

    def rows(self, kind: int) -> list[tuple[bytes, dict[int, Value]]]:
        """All ids of a kind with their fields, in order of id."""

    def tally(self, field: int, among: int) -> tuple[list[tuple[Value, int]], list[tuple[bytes, Value, Fence | None, Value]]]:
        """How many items that have field ``among`` have each value of ``field`` (None: no register, or a null). Cheap for any number of them.

        Not counted but listed, ``(item, value, its fence, winning claim)``: those whose value has a fence below that of their claim, or none.
        """

    def tombstoned(self, id: bytes) -> bool: ...
    def winning_fence(self, item: bytes) -> Fence | None:
        """The fence of the item's winning claim, whatever its state."""

def fence_beats(item: bytes, fence: Fence | None, other: Fence | None) -> bool:
    """True when ``fence`` is strictly above ``other`` for this item."""

def merge_rules() -> bytes:
    """32 bytes that name what ops mean in this build (the register table, the rules of merge.md, the limits of a log). States of builds with others may differ."""

def digests(replica: Replica) -> tuple[bytes, bytes, bool]:
    """``(frontier digest, state digest, stale)`` of one moment: no merge comes between them. Releases the GIL."""

def audit(replica: Replica, buckets: Sequence[int]) -> tuple[bytes, bool, list[bytes], list[list[tuple[int, bytes, int, bytes]]]]:
    """``(frontier digest, stale, digests of all 256 buckets, entries)`` of one moment. ``entries`` are, for each asked bucket, its registers as
    ``(kind, id, field, entry digest)`` in order. Releases the GIL.
    """
