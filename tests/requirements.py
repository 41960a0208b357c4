"""The ledger of promises: what must observably work, and whether this release says that it does.

Each row is ``id | status | text``, and for rows that are not ``held`` a reason. Ids are stable and never reused.

- ``held``: at least one test owns the promise (``@pytest.mark.promise("E1")``, or a Rust test named ``promise_e1_...``).
- ``partial``: some of it is held and owned by tests; the reason says what is not.
- ``later``: nothing is promised yet, and no test may claim it.

``tests/tidy/test_ledger.py`` checks both ways.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

__all__ = ["PROMISES", "Promise"]

Status = Literal["held", "partial", "later"]


@dataclass(frozen=True, slots=True)
class Promise:
    """One row. ``reason`` is empty exactly when the status is ``held``."""

    id: str
    status: Status
    text: str
    reason: str


# Why a row is not held yet, once per reason.
_REASONS = {
    "trust": "trust beyond one admin and plain loopback comes with TLS, roles and revocation",
    "records": "the records room (executions, steps, memories, artifacts) is not built",
    "database": "the db commands are not built",
    "dashboard": "there is no dashboard",
    "http": "the node has no HTTP or MCP surface; the Unix socket is private to its user",
    "chat": "there are no chat transports, timers or mailboxes",
    "ports": "there is no port registry",
    "doctor": "doctor finds faults and mends none",
    "history": "logs are kept whole; there is no compaction, no look at an earlier board",
    "fleet": "fleet-wide run control (cancel, watch, schedule) is not built",
    "conflicts": "conflicts are listed with who was kept, but no event tells of them on every node",
    "hardening": "needs fault injection below the process (disk, power, memory) that the tests do not have yet",
    "unproven": "some of it is built, but no test owns it yet, so nothing is promised",
    "origin": "data of an older system is not taken over",
}

_ROWS = """
A1  held              A run started on one host executes on another and survives the first one's end
A2  held              The target can be a host's name; hosts are listed with the time they were last seen
A3  later:unproven    Every documented operation needs fabrik-node on the PATH and no other tool of ours
A4  held              Each run records the engine version and shows it beside the one that its node has; an item can ask for one engine
A5  held              Hashes of the inputs of a run are recorded, and drift is reported
A6  held              What of a dirty tree is sent is said before it is sent: nothing but the base branch of the remote; what is not there is counted
A7  later:trust       A missing credential is noticed before work starts, and no secret shows anywhere
A8  partial           A run can not read another run's files nor the node's database | through its node it can not; with [agent] isolation = "on" (off by default) not by the files either, and a test proves each denial with and without root; but the commits of other runs lie in the repository that they share, and a command can read them there
A9  held              Many runs at once have distinct ids, rows and directories and never write into each other
A10 later:fleet       A schedule fires once per tick, whoever is alive
A11 held              A dry run shows the exact effects and changes nothing

B1  held              Runs of all nodes are listed with state, owner and the age of what is known
B2  held              Showing one run asks its owner; a local copy never overrules the owner
B3  held              When a copy and the owner disagree, both values and the winner are printed
B4  held              A hung host delays a fleet-wide list by its own timeout and marks itself only
B5  held              An unreachable owner makes a run unreachable since a time, never plainly running
B6  partial           Finished runs of hosts that are off are still there with their logs | what they did and how they ended is; their logs lie on their host, and runs logs says so with code 6
B7  held              Each status has a date and an age, and turns stale at a set threshold
B8  later:fleet       Deleting any cache loses nothing
B9  later:fleet       A stopped background sync is visible, and catches up after its start
B10 later:fleet       A change on a worker is seen by the host within two seconds without asking
B11 later:fleet       Two hosts hold the same run state after a partition heals
B12 held              The events file and the events command give one ordered, gap-free sequence over rotation and restart
B13 held              A reader that resumes from a sequence number misses nothing and gets nothing twice
B14 held              A second process hears of a transition within a second
B15 held              Watching does not poll
B16 later:chat        A blocked run sends one message, also over a restart
B17 held              Following the log of a live run shows new output, leaving does not stop it, and finished runs still have theirs
B18 later:dashboard   The dashboard shows what the command line shows

C1  held              A run's heartbeat advances, and losing only the heartbeat does not make the run dead
C2  held              A killed worker is declared dead within two intervals, and a reused pid is not taken for it
C3  held              Heartbeat lost and process alive is shown as degraded, and nobody takes over
C4  held              After a kill, what was in progress is interrupted with a reason and a time
C5  held              A run without progress is flagged with evidence, and load alone flags nothing
C6  held              Retries are bounded, counted in view, and giving up is final and explained
C7  held              A resumed run does not repeat finished steps
C8  held              A resumed run whose inputs changed is refused with both hashes
C9  held              Of many resumers exactly one wins and the others learn who
C10 held              A paused and replaced owner is refused at its next write
C11 held              An interrupted side effect is never repeated in silence
C12 held              One command lists everything that was left incomplete
C13 held              A write that was acknowledged is there after a kill -9, a hundred times in a row
C14 held              Each kind of drift is found at start, reported in one line, and mended only when that is safe
C15 held              A second instance on one store changes nothing
C16 held              A second owner of a home is refused with the first one's pid, host and start; a stale owner is noticed and can be cleared
C17 held              A merge whose holder died is finished once by a survivor
C18 held              Cancelling stops the whole process tree, and the run is cancelled, not failed
C19 held              No descendant outlives a killed engine unseen
C20 held              A crash loop stops by itself and says why
C21 held              What was stopped on purpose stays stopped
C22 partial           Every seeded fault is found, and mended when asked | doctor finds and says what to type; it mends nothing by itself, and a start mends only what needs no decision
C23 held              Healing is counted, bounded, and leaves the healthy alone
C24 held              Cleaning up removes what it announced and never a running run

D1  later:records     A row per execution with start, end, exit and error
D2  later:records     Phases with iteration, duration and parent
D3  later:records     Steps with a snapshot before and after
D4  later:records     A row per agent call with its tokens and outcome
D5  later:records     A tool call is written before it starts and after it ends
D6  later:records     Small tool output reads back byte for byte
D7  later:records     Large tool output is a file with size and hash
D8  later:records     Large output is shown as a summary with the way to all of it
D9  later:records     Output is looked for inline, then in its file, then is missing, which is not empty
D10 later:records     Key-value state belongs to one execution
D11 later:records     Resetting one run's state leaves the others'
D12 later:records     A value and its transition are written together or not at all
D13 later:records     Every change of state has one row with who and why, append-only
D14 later:records     The history of a key shows typed old and new values
D15 later:records     State can be replayed to any transition
D16 later:records     A run can be forked from a point, and its source stays as it was
D17 later:records     Nothing lives in memory only
D18 later:records     Memories have categories
D19 later:records     Memories have scopes, and the narrower one wins
D20 later:records     Memories carry confidence, source and the time of the last read
D21 later:records     Memories expire
D22 later:records     Memories are searchable as text, fast
D23 later:records     Artifacts are kept by git blob hash, once
D24 later:records     Reports have type and severity
D25 later:records     A blocking review stops the next stage
D26 later:records     A commit is recorded once
D27 later:records     Snapshots can be restored
D28 later:records     Render frames are rebuilt from deltas
D29 later:records     Tasks per iteration are counted right under concurrency
D30 held              A run waits for a human answer, from any machine
D31 held              A reload does not pass an approval
D32 later:records     Parallel agents never get each other's parent rows
D33 later:records     Any command takes an execution's id
D34 later:records     There is one iteration counter
D35 later:records     Rolled-up numbers equal the sums of their rows
D36 later:records     Cost and tokens have totals with their source
D37 later:records     Every failure has a duration and an error
D38 later:records     Timestamps have one type and are UTC
D39 later:records     Booleans are strict
D40 later:records     Documented queries use an index
D41 later:records     Every historical database file opens and upgrades, and a newer one is refused
D42 later:records     Foreign keys are enforced
D43 later:records     Custom tables are declared, migrated and namespaced
D44 later:records     A subscriber sees commits of other processes
D45 later:database    db state
D46 later:database    db transitions
D47 later:database    db executions
D48 later:database    db memories
D49 later:database    db stats
D50 later:database    db current
D51 held              db recovery
D52 partial           why names the cause of every blocked kind and the next command | items, runs and their questions; executions do not exist yet

E1  held              Stages are typed; no interface makes a move that the one table does not have
E2  held              A merge needs at least one commit ahead, and says so
E3  held              Six archive reasons replace every flag; each can be reached, shown and filtered
E4  held              Lifting a review hold returns the item to the stage that it left
E5  held              What a node is executing is local; no other node, and no restart, takes it for its own
E6  held              A new stage breaks a test until every consumer handles it
E7  held              No code compares a stage's name
E8  held              Two replicas that edit offline end byte-equal after they meet
E9  held              Registers have one winner whatever the order, also for equal author and sequence number
E10 partial           Concurrent inserts and deletes in a list merge | items are a set of ids with tombstones; there is no ordered list
E11 held              A restart gives the same state and the same clock from the stored ops
E12 held              Clock and sequence go on above everything stored; no number is used twice
E13 held              A write that could not be stored is an error to its caller and changes nothing in memory
E14 held              What arrives before its parent is kept in a bounded, visible buffer
E15 held              A new peer is complete after one bulk dump
E16 held              A reconnect sends only what is missing
E17 held              An op reaches connected peers within a second
E18 held              A slow peer costs bounded memory and recovers whole
E19 held              Reconnects back off with jitter, and status counts them
E20 later:fleet       Nothing reads an export back
E21 held              Drift is looked for at start
E22 partial           A deleted item is gone on all replicas for good, and its id is never used again | there is no MCP surface to delete from
E23 later:history     A full delete leaves only its tombstone
E24 held              A dump for debugging shows everything but secrets
E25 later:history     Tombstones and logs are compacted with consent
E26 held              Bad, foreign, huge and repeated ops are refused and counted, and later good ones still apply
E27 held              Integers stay exact beyond 2^53
E28 held              Nobody writes what their role does not allow

F1  held              A node has one Ed25519 key, made once, readable by its user only; its id survives restarts
F2  held              Every op is signed and verifies with its author's public key
F3  held              An op with another author's name or a flipped bit is refused
F4  held              Peers prove their keys on connecting with fresh challenges, and see no data before
F5  held              An unknown key is refused, and the refusal says how to invite it
F6  held              A join token works once, and expires
F7  held              Nodes show their key's fingerprint in presence
F8  held              Keys rotate with overlap: to a key that was committed to before, in a mesh of which parts are away; a lost admin is replaced
F9  held              A node's death is seen, whatever the wall clocks say
F10 held              One command with a token turns a fresh home into a working build agent; ending it releases its work
F11 held              Two nodes that claim one item apart agree on one holder once they meet, and the other stops and says so
F12 held              A dead holder's claim is taken after its time to live and not before; a renewed one is kept
F13 held              A worker whose claim is lost is told, and what it still writes is refused
F14 held              Double work is an event that says who kept
F15 partial           The local interface needs a key and checks the origin | the socket is private to its user, and the command of a run needs its token; there is no HTTP yet, whose origin could be checked
F16 partial           Tunnels are off unless asked for, and visible | nothing is open by default, and status shows what is; there is no tunnel to ask for

G1  later:chat        Matrix
G2  later:chat        Slack
G3  later:chat        WhatsApp
G4  later:chat        Discord
G5  later:chat        Transports are chosen by configuration, several at once
G6  later:chat        Webhooks are verified in one place
G7  later:chat        Messages of all transports have one history
G8  later:chat        Timers have one store
G9  later:chat        One message per stage transition and channel
G10 later:chat        Bot commands have the rights and results of the command line
G11 later:chat        Rules are pure; handlers hold none
G12 later:chat        WebSocket handlers hold no rules
G13 later:http        MCP tools are stable
G14 later:http        A gateway keeps projects apart
G15 later:chat        A message to an agent is durable before it is answered
G16 later:chat        A message never goes to somebody else

H1  held              Runtime state is in SQLite; no JSON state file is written
H2  later:database    One process opens a store once, and closing frees its locks
H3  later:database    A file system that can not do WAL is told about
H4  later:database    A locked database is waited for, then reported
H5  held              Many processes write at once and every write is there
H6  later:records     Invalid states are refused by the database
H7  later:records     There is at most one leader row
H8  later:ports       No port is given twice
H9  later:ports       Ports come in blocks
H10 later:ports       Reserved ports are skipped
H11 later:ports       Freed blocks are used first
H12 later:ports       A block of a live owner is never given away
H13 later:ports       Blocks of deleted projects are found
H14 later:ports       A port is tried before it is given
H15 later:ports       Worktrees have ports of their own
H16 later:origin      Older JSON data is taken over whole
H17 later:origin      The original is kept until then
H18 later:origin      Taking over twice changes nothing
H19 later:origin      Broken JSON is left as it is
H20 later:origin      A crash while taking over is survived
H21 later:database    db dump
H22 later:database    db query reads only
H23 later:database    db reset asks first
H24 later:database    db stats
H25 later:doctor      A broken native module says how to mend it
H26 later:database    Readers do not wait for writers
H27 later:fleet       One script runs the whole flow from a clean home
H28 held              The first command works in an empty home
H29 later:database    Every command honours the chosen home
H30 later:database    Upgrades show their plan
H31 later:database    Documents follow the database
H32 later:fleet       Homes do not touch each other
H33 held              A caller can ask who it is, inside a run's command and outside, in worktrees and outside

I1  held              Equal op sets give a byte-equal state digest, whatever the order, repetition, batching or path
I2  held              After links heal, nodes reach equal heads and digests within 10 s and 3 round trips, for 10,000 missing ops
I3  held              The core and its naive twins give the same verdict and digest on every input; the core and libsodium on every public Ed25519 case
I4  held              What was acknowledged is there after a kill -9
I5  held              An op is durable here before any peer sees it, and no sequence number is signed twice with different bytes
I6  held              Lamport and sequence never go back; integers are bounded, and overflow is refused
I7  held              I/O errors stop the node; a full disk makes it read-only
I8  held              A flipped bit in the store is found and fetched again
I9  held              A restored image re-learns its own ops and opens a new epoch before it writes
I10 held              A fork ends in the same state everywhere, in whatever order and to whomever it comes, for a bounded number of requests
I11 held              Nothing with a bad signature, wrong mesh, broken chain or non-canonical bytes is stored or relayed, and a bad segment changes nothing
I12 held              An op that breaks a rule of meaning is void everywhere and does not block its author's later ops
I13 held              The wall clock decides nothing but displayed times
I14 held              Revocation has a cut, in any order of arrival, through any relay; open sessions of the revoked end where the record is committed
I15 held              After convergence an item has at most one live holder, the same on all nodes
I16 held              Of two finished works exactly one merge reaches the base branch, and both sides say so
I17 held              A holder that can not renew stops before others take over
I18 held              Every queue, map and file has a limit and a counter
I19 held              Unauthenticated bytes cost a bounded little
I20 held              No peer holds the event loop
I21 later:http        Every mutating local call needs a token
I22 held              Secrets are apart from data, and show nowhere
I23 held              Unknown op kinds and fields are kept and relayed bit for bit and take effect after an upgrade, from the same stored ops; unknown frames are ignored
I24 held              SIGTERM ends a node in bounded time with no lost acknowledgement and no orphan process
I25 partial           Every list carries its date and source | every read that exists does, and says how far it is behind; HTTP, MCP and the dashboard do not exist

J1  held              The git remote itself refuses the merge of a superseded claim, in one atomic push
J2  partial           Each claim is labelled tentative, confirmed or fenced | in the local API and the command line; there is no MCP server and no dashboard yet
J3  held              Conflicts are objects: both claims, both branches, who was kept and why, listed and shown
J4  held              Every change of an item names its author, claim and op; an exported proof of one op verifies offline with the key alone
J5  held              The cost of duplicate work is counted
J6  held              why shows one screen
J7  later:history     Text is edited together
J8  later:history     The board as it was at any time
J9  later:history     Endless overwrites keep the store flat
J10 later:history     A scale-out backbone
"""


def _parse(line: str) -> Promise:
    promise_id, state, rest = line.split(maxsplit=2)
    status, _, key = state.partition(":")
    text, _, own_reason = rest.partition(" | ")
    return Promise(promise_id, cast("Status", status), text.strip(), _REASONS[key] if key else own_reason.strip())


PROMISES: dict[str, Promise] = {promise.id: promise for promise in map(_parse, filter(str.strip, _ROWS.splitlines()))}
"""By id, in the order of the sections."""
