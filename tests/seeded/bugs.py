"""Bugs that the tests must notice. Each is planted alone in a copy of the sources; the tests that are named with it must then fail.

A table that is not true any more (the old text is gone, or a test has moved) is a failure too.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BUGS", "Bug"]


@dataclass(frozen=True, slots=True)
class Bug:
    """``old`` stands exactly once in ``file`` and becomes ``new``. ``tests``: a crate and its test file, or what pytest is given."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    @property
    def is_rust(self) -> bool:
        """Whether the bug is in the core."""
        return self.file.startswith("rust/")


BUGS = (
    Bug(
        "an invitation does not bind its role",
        "fabrik_node/node/invitations.py",
        "{1: int(role), 3: NOWHERE}",
        "{1: int(role)}",
        ("tests/unit/service/test_roles.py",),
    ),
    Bug(
        "the secret of a used invitation is kept",
        "fabrik_node/store/queries/node.sql",
        "secret = CASE WHEN uses_max > 0 AND uses + 1 >= uses_max THEN x'' ELSE secret END,\n",
        "",
        ("tests/integration/store/test_erased_secrets.py",),
    ),
    Bug(
        "what is erased is not zeroed",
        "fabrik_node/store/invites.py",
        'connection.execute("PRAGMA secure_delete = ON")',
        'connection.execute("PRAGMA secure_delete = OFF")',
        ("tests/integration/store/test_erased_secrets.py",),
    ),
    Bug(
        "a rotation voids the older epochs of its log",
        "fabrik_node/service/rotating.py",
        "if (head.epoch, head.branch) != (node.epoch, 0)]",
        "if False]",
        ("tests/integration/app/test_rotation.py",),
    ),
    Bug(
        "a rotation that was cut off is not finished",
        "fabrik_node/app/rotation.py",
        "    if not paths.after_key.exists() and owner in (None, mesh.key.public):\n",
        "    if owner in (None, mesh.key.public):\n",
        ("tests/integration/app/test_rotation.py",),
    ),
    Bug(
        "a node that rotated is its new key alone to those who call it",
        "fabrik_node/transport/guises.py",
        "        if len(self.all) > 1:\n",
        "        if False:\n",
        ("tests/integration/transport/test_rotated_peers.py",),
    ),
    Bug(
        "a segment is taken without looking at its signature",
        "rust/fabrik-op/src/segment.rs",
        "verify_strict(&contents.author, &message, &contents.sig)\n",
        "Ok::<(), Refused>(())\n",
        ("fabrik-op", "segments"),
    ),
    Bug(
        "the last bit of a tie is not decided by the digest",
        "rust/fabrik-merge/src/order.rs",
        ".then_with(|| self.digest.cmp(other.digest))",
        "",
        ("fabrik-merge", "merge_agrees"),
    ),
    Bug(
        "fences are not compared",
        "rust/fabrik-merge/src/order.rs",
        "compare_fences(self.fence, other.fence, item).then_with(|| self.state.cmp(&other.state))",
        "self.state.cmp(&other.state)",
        ("fabrik-merge", "merge_agrees"),
    ),
    Bug(
        "of two tombstones the later stays",
        "rust/fabrik-merge/src/state.rs",
        "held.standing().age(&new.standing).then_with(|| logs.compare(held.log, new.log)).is_gt()",
        "held.standing().age(&new.standing).then_with(|| logs.compare(held.log, new.log)).is_lt()",
        ("fabrik-merge", "merge_agrees"),
    ),
    Bug(
        "a revocation does not end a suspension",
        "rust/fabrik-merge/src/log.rs",
        "if names.spares(author) { usize::MAX }",
        "if names.names(author) { usize::MAX }",
        ("fabrik-merge", "spared"),
    ),
    Bug(
        "a session goes on as if a log was suspended still",
        "sync/fabrik_sync/logbook.py",
        "        resumed = self.suspended and not suspended\n",
        "        resumed = False\n",
        ("tests/sim/test_sync_resumed.py",),
    ),
    Bug(
        "a clock may step one too far",
        "rust/fabrik-merge/src/validity.rs",
        "lamport - clock <= LAMPORT_STEP_MAX",
        "lamport - clock <= LAMPORT_STEP_MAX + 1",
        ("fabrik-merge", "rules"),
    ),
    Bug(
        "a branch takes its clock from the end of the branch that it leaves",
        "rust/fabrik-merge/src/log.rs",
        "map_or(0, |branch| branch.clock_at(base.seq))",
        "map_or(0, |branch| branch.clock_at(u64::MAX))",
        ("fabrik-merge", "forks_agree"),
    ),
    Bug(
        "a restored replica forgets that items were deleted",
        "rust/fabrik-merge/src/state.rs",
        "bucket.tombstones = rows.iter().filter(|(key, _)| key.kind() == schema::TOMBSTONE).count();",
        "bucket.tombstones = 0;",
        ("fabrik-merge", "snapshot"),
    ),
    Bug(
        "a snapshot of other rules is taken",
        "rust/fabrik-merge/src/restore.rs",
        "if source.array::<32>() != Some(schema::fingerprint(schema::KINDS, schema::MERGE_RULES)) {",
        "if source.array::<32>().is_none() {",
        ("fabrik-merge", "upgrade"),
    ),
    Bug(
        "a change shows the first of several writes of one call",
        "rust/fabrik-merge/src/change.rs",
        "(step.cause, step.removed) = (cause, removed);",
        "step.removed = removed;",
        ("fabrik-merge", "merge_agrees"),
    ),
    Bug(
        "a malformed write to a field of a later version voids its op",
        "rust/fabrik-merge/src/validity.rs",
        ".filter(|known| !known.field.later)",
        "",
        ("fabrik-merge", "upgrade"),
    ),
    Bug(
        "an op is told to others before it is stored",
        "fabrik_node/node/writer.py",
        "        pos = self.pos = await self._store.append(chained)\n",
        "        self._hooks.publish(Committed(chained, self._replica.merge([]), self.pos, 0, peer))\n        pos = self.pos = await self._store.append(chained)\n",
        ("tests/integration/node/test_writer.py",),
    ),
    Bug(
        "an op is merged before it is stored",
        "fabrik_node/node/writer.py",
        "        pos = self.pos = await self._store.append(chained)\n",
        "        early = self._replica.merge(chained)\n        pos = self.pos = await self._store.append(chained)\n        chained = [] if early else chained\n",
        ("tests/integration/node/test_writer.py",),
    ),
    Bug(
        "a write is acknowledged before its commit",
        "fabrik_node/node/writer.py",
        "        everything = [each for _, chained in accepted for each in chained]\n",
        "        everything = [each for _, chained in accepted for each in chained]\n"
        "        for command, chained in accepted:\n            command.done.set_result(chained)\n",
        ("tests/integration/node/test_writer.py",),
    ),
    Bug(
        "a sequence number comes from memory, not from what is stored",
        "fabrik_node/node/writer.py",
        "        draft = self._replica.draft(self._key, epoch)\n",
        "        draft = self.__dict__.setdefault('_kept', self._replica.draft(self._key, epoch))\n",
        ("tests/integration/node/test_doubt.py",),
    ),
    Bug(
        "the store takes a segment that does not continue its branch",
        "fabrik_node/store/segments.py",
        "        if segment.first_seq not in wanted:\n",
        "        if segment.first_seq < 0:\n",
        ("tests/integration/store/test_store_contract.py",),
    ),
    Bug(
        "a commit returns before the disk has it",
        "fabrik_node/store/connection.py",
        "PRAGMA synchronous = FULL",
        "PRAGMA synchronous = NORMAL",
        ("tests/integration/store/test_store_beside.py",),
    ),
    Bug(
        "a stored row is sent to peers without looking at it",
        "fabrik_node/node/relay.py",
        "    bad = next((place for place, why in enumerate(found) if why), None)\n",
        "    bad = next((place for place, why in enumerate(found) if not why and why), None)\n",
        ("tests/integration/node/test_gaps_and_damage.py",),
    ),
    Bug(
        "the key of the handshake need not be the key behind the certificate",
        "sync/fabrik_sync/handshake.py",
        "        if self.peer_key and key != self.peer_key:\n",
        "        if self.peer_key and not key:\n",
        ("tests/integration/transport/test_refusals.py", "tests/integration/transport/test_gate.py"),
    ),
    Bug(
        "a certificate is taken for that of the key which it names",
        "fabrik_node/transport/certificates.py",
        "        verify(named, certificate.tbs_certificate_bytes, certificate.signature)\n",
        "",
        ("tests/unit/transport/test_certificates.py",),
    ),
    Bug(
        "a key that was removed still has its anchor",
        "fabrik_node/transport/contexts.py",
        "        if self._keys - now:\n            self._drop()\n",
        "        if False:\n            self._drop()\n",
        ("tests/unit/transport/test_certificates.py",),
    ),
    Bug(
        "the gate does not ask once more who is a member",
        "fabrik_node/transport/gate.py",
        "        if not self._node.is_admitted(key):",
        "        if not key:",
        ("tests/integration/transport/test_refusals.py",),
    ),
    Bug(
        "a caller without certificate goes on to WebSocket",
        "fabrik_node/transport/gate.py",
        "            return await self._joiner(threshold, armed, address)\n",
        "            return Caller(address)\n",
        ("tests/integration/transport/test_gate.py",),
    ),
    Bug(
        "the secret of a join frame is not looked at",
        "fabrik_node/transport/join_frame.py",
        "    return hmac.compare_digest(_mac(secret, server_cert, frame.body), frame.mac)\n",
        "    return True\n",
        ("tests/unit/transport/test_join_frame.py", "tests/integration/transport/test_gate.py"),
    ),
    Bug(
        "a join frame is good for any server",
        "fabrik_node/transport/join_frame.py",
        "_DOMAIN + server_cert + body",
        "_DOMAIN + body",
        ("tests/unit/transport/test_join_frame.py", "tests/integration/transport/test_gate.py"),
    ),
    Bug(
        "a joiner trusts any member",
        "fabrik_node/transport/knocking.py",
        "contexts.joiner(expected) if join is not None and expected else contexts.client(expected)",
        "contexts.client(expected)",
        ("tests/integration/transport/test_refusals.py",),
    ),
    Bug(
        "a refused caller does not hear why",
        "fabrik_node/transport/contexts.py",
        "                self._watched.handle_failed(self._outgoing.read())\n",
        "                self._watched.alert = b''\n",
        ("tests/integration/transport/test_refusals.py",),
    ),
    Bug(
        "unknown callers are not bounded",
        "fabrik_node/transport/listening.py",
        "            if len(self._unknown) >= HANDSHAKES_MAX:\n",
        "            if len(self._unknown) >= 10_000:\n",
        ("tests/integration/transport/test_gate.py",),
    ),
    Bug(
        "older TLS is good enough",
        "fabrik_node/transport/contexts.py",
        "ssl.TLSVersion.TLSv1_3",
        "ssl.TLSVersion.TLSv1_2",
        ("tests/integration/transport/test_gate.py",),
    ),
    Bug(
        "a link that stalls is waited for as long as TCP waits",
        "sync/fabrik_sync/limits.py",
        "    silent_s: float = 8.0\n",
        "    silent_s: float = 30.0\n",
        ("tests/sim/test_sync_schedules.py", "-k", "star-0 or star-50"),
    ),
    Bug(
        "a large frame on a slow link is no sign of life",
        "fabrik_node/transport/link.py",
        "        self.session.receive_part(self.heard_at)\n",
        "",
        ("tests/integration/transport/test_slow_links.py",),
    ),
    Bug(
        "every bad segment is an event for ever",
        "fabrik_node/node/node.py",
        "            if self._bad_told.may((peer, error.code), self.clock.now()):\n",
        "            if self._bad_told:\n",
        ("tests/hostile/test_hostile_peers.py", "-k", "segments and hundred and plain"),
    ),
    Bug(
        "presence: states of different moments are compared",
        "fabrik_node/node/audit.py",
        " and said.rules == self._rules and said.frontier == frontier:\n",
        " and said.rules == self._rules:\n",
        ("tests/integration/node/test_audit.py",),
    ),
    Bug(
        "presence: states of builds with other rules are compared",
        "fabrik_node/node/audit.py",
        " and said.rules == self._rules and said.frontier == frontier:\n",
        " and said.frontier == frontier:\n",
        ("tests/integration/node/test_audit.py",),
    ),
    Bug(
        "presence: each page of a comparison begins with the first register again",
        "fabrik_node/node/differences.py",
        "if self._after is None or row[:3] > self._after]",
        "]",
        ("tests/integration/node/test_audit.py",),
    ),
    Bug(
        "presence: one message, however old, makes a node alive",
        "fabrik_node/domain/nearness.py",
        "Nearness.ALIVE if changed or connected else Nearness.UNCONFIRMED",
        "Nearness.ALIVE",
        ("tests/integration/node/test_nodes_shown.py",),
    ),
    Bug(
        "lag: what is on its way counts as held",
        "fabrik_node/transport/mesh.py",
        "lag_out=status.lag_out + status.unacked_ops,",
        "lag_out=status.lag_out,",
        ("tests/integration/transport/test_lag.py",),
    ),
    Bug(
        "metrics: what a connection counted is forgotten with it",
        "fabrik_node/transport/tally.py",
        "        self._add(self._sums, self._limits, counters)\n        self._ended",
        "        self._ended",
        ("tests/integration/metrics/test_endpoint.py",),
    ),
    Bug(
        "metrics: a page in a browser may read the figures",
        "fabrik_node/metrics/endpoint.py",
        'if "Origin" in request.headers or not self._is_ours(host):',
        "if host is None:",
        ("tests/integration/metrics/test_endpoint.py",),
    ),
    Bug(
        "a role is not asked for",
        "rust/fabrik-merge/src/authority.rs",
        "if classes & class::MEMBER == 0 { classes & !standing.allowed(at) == 0 }",
        "if classes & class::MEMBER == 0 { standing.allowed(at) != 0 }",
        ("fabrik-merge", "authority"),
    ),
    Bug(
        "a cut holds by its number only, so that a fork from before it counts",
        "rust/fabrik-merge/src/powers.rs",
        "zone.epoch == at.epoch && zone.branch == at.branch && at.seq <= zone.upto",
        "zone.epoch == at.epoch && at.seq <= zone.upto",
        ("fabrik-merge", "authority"),
    ),
    Bug(
        "what arrives too late for a revocation is not judged anew",
        "rust/fabrik-merge/src/apply.rs",
        "self.stale |= authority.differs(&before, &names, &self.logs);",
        "self.stale |= authority.differs(&before, &names, &self.logs) && self.ops == 0;",
        ("fabrik-merge", "authority"),
    ),
    Bug(
        "verdicts of cut admins do not count, whoever was first",
        "rust/fabrik-merge/src/powers.rs",
        "for (key, sheet) in verdicts {",
        "for (key, sheet) in verdicts.into_iter().take(1) {",
        ("fabrik-merge", "authority"),
    ),
    Bug(
        "anybody answers for the owner of a run",
        "fabrik_node/node/inquiries.py",
        "if ask is not None and ask.owner == author and isinstance",
        "if ask is not None and isinstance",
        ("tests/integration/node/test_asking.py",),
    ),
    Bug(
        "a run is running as long as its lease is, whatever its node says",
        "fabrik_node/domain/run_state.py",
        "    if not signals.lease_heard or not owner_is_here:\n",
        "    if signals.owner is Nearness.NEVER:\n",
        ("tests/unit/domain/test_runs.py", "tests/integration/node/test_runs_shown.py"),
    ),
    Bug(
        "a claim counts no higher than the one that it follows",
        "fabrik_node/domain/claims.py",
        "epoch=1 if current is None else current.epoch + 1",
        "epoch=1 if current is None else current.epoch",
        ("tests/model",),
    ),
    Bug(
        "an operator's end of a claim has no receipt",
        "fabrik_node/domain/claims.py",
        "current.epoch + 1, current.receipt, ClaimState",
        "current.epoch + 1, 0, ClaimState",
        ("tests/model",),
    ),
    Bug(
        "a finisher never takes a ticket",
        "fabrik_node/git/queue.py",
        "not (line or again)",
        "True",
        ("tests/integration/git/test_merge_queue.py",),
    ),
    Bug(
        "a dead finisher is waited for, for ever",
        "fabrik_node/git/queue.py",
        "now - self._since > self._queue.turn_s",
        "now < 0",
        ("tests/integration/git/test_merge_queue.py",),
    ),
    Bug(
        "a merge leaves the claim ref where it is",
        "fabrik_node/git/fenced_merge.py",
        "            updates.append(RefUpdate(self._claims.ref(request.item), closing, current.oid))\n",
        "",
        ("tests/integration/git/test_fenced_merge.py",),
    ),
    Bug(
        "finished work that could not be merged is done again",
        "fabrik_node/agent/ending.py",
        "anew=charges",
        "anew=True",
        ("tests/integration/agent/test_run_results.py",),
    ),
    Bug(
        "a machine that was asleep renews an overdue lease",
        "fabrik_node/agent/supervisor.py",
        "            self.check()  # the machine may",
        "            pass  # the machine may",
        ("tests/unit/agent/test_lease_keeper.py",),
    ),
    Bug(
        "a run that was being cancelled when its node died is begun again",
        "fabrik_node/agent/recover.py",
        "if survivors else cancelled\n",
        'if survivors else ""\n',
        ("tests/integration/agent/test_stopped_on_purpose.py",),
    ),
    Bug(
        "cleaning takes the newest run of unfinished work",
        "fabrik_node/domain/retention.py",
        "(run.finished or newest[run.item] != run.run_id)",
        "True",
        ("tests/unit/domain/test_retention.py",),
    ),
)
