//! All small worlds of authority: every few ops of an admin, two deputies and a member, or of an admin, its next key, its recovery key and its thief, forks
//! included, in every order of delivery. Every part of every world means what the naive twin says, and keeps promises that are said here without the twin.
//!
//! `SMALL_AUTHORITY=4` takes worlds of one op more than the default: minutes in place of seconds. A failure prints its world.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)] // A panic is a failed test.

mod mesh;

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use fabrik_merge::naive::Naive;
use fabrik_merge::{Chained, MemberView, Replica, Spot};
use fabrik_op::{Digest, Key, OpBody, Tip, VerifiedSegment, WriteBody, author_segment};
use mesh::small::{orders, shapes};
use mesh::{NEXT, RECOVERY, binding, genesis, key, rotation, title, verify};

const ADMIN: u8 = 0;
const BEE: u8 = 1;
const CAT: u8 = 2;
const MEMBER: u8 = 3;
/// A key of the thief's own.
const THIEF: u8 = 4;
const SIZE: usize = 3;

/// Ops of the largest worlds, but for the first one.
#[allow(clippy::disallowed_methods)] // How long a test may take is for who starts it.
fn size() -> usize {
    std::env::var("SMALL_AUTHORITY").map_or(SIZE, |size| size.parse().expect("SMALL_AUTHORITY is a number of ops"))
}

/// Says how many there were (`--nocapture` shows it), and that at the default size no fewer than always.
#[allow(clippy::disallowed_macros)] // To the test's own output.
fn count(what: &str, found: usize, at_default: usize) {
    println!("small authority: {found} {what}");
    if size() == SIZE {
        assert_eq!(found, at_default, "{what}");
    }
}

/// What an op says. A place is the first op of the subject's log: `None` where nothing is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Letter {
    Title,
    /// Role of a key.
    Role(u8, u64),
    /// Put out, but for its first op or for nothing.
    Out(u8, bool),
    /// To a key; lower: by the least lamport that there is.
    Turn(u8, bool),
}
use Letter::{Out, Role, Title, Turn};

/// Ops of one author, parents first.
type Log = (u8, Vec<(Option<usize>, Letter)>);

#[derive(Debug)]
struct Op {
    author: u8,
    letter: Letter,
    parent: Option<usize>,
    lamport: u64,
    tip: Tip,
    verified: VerifiedSegment,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Sight {
    state: Digest,
    frontier: Digest,
    voided: u64,
    roles: Vec<u8>,
}

struct World {
    script: Vec<Log>,
    ops: Vec<Op>,
    sights: BTreeMap<usize, Sight>,
}

const KEYS: [u8; 7] = [ADMIN, BEE, CAT, MEMBER, THIEF, RECOVERY, NEXT];

/// Deriving a public key takes longer than a merge.
fn public(number: u8) -> Key {
    static ALL: OnceLock<Vec<Key>> = OnceLock::new();
    ALL.get_or_init(|| (0..=NEXT).map(|number| key(number).public()).collect())[usize::from(number)]
}

impl World {
    /// The admin's first op, then these logs; the admin's stand behind it. None if a place names an op that there is not.
    fn new(script: &[Log], first: &[(u8, u64)]) -> Option<Self> {
        let mut world = Self { script: script.to_vec(), ops: Vec::new(), sights: BTreeMap::new() };
        let grants = first.iter().map(|&(who, role)| binding(&public(who), role, &[], None)).collect();
        world.grow(ADMIN, None, Title, grants, 1);
        for (author, ops) in script {
            let (start, root) = (world.ops.len(), (*author == ADMIN).then_some(0));
            for &(parent, letter) in ops {
                let parent = parent.map_or(root, |parent| Some(start + parent));
                let mut lamport = parent.map_or(0, |parent: usize| world.ops[parent].lamport) + 2;
                let place = |who: u8| world.ops.iter().find(|op| op.author == who && op.tip.seq == 1).map(|op| Spot { epoch: 1, seq: 1, head: op.tip.head });
                let write = match letter {
                    Title => title(&[u8::try_from(world.ops.len()).ok()?; 16], "title"),
                    Role(who, role) => binding(&public(who), role, &[], None),
                    Out(who, kept) => binding(&public(who), 0, &if kept { vec![place(who)?] } else { Vec::new() }, None),
                    Turn(to, lower) => {
                        lamport -= u64::from(lower);
                        let tip = parent.map_or_else(|| Tip::start(&genesis().mesh_id, &public(*author), 1), |parent| world.ops[parent].tip.clone());
                        rotation(&tip, to, None, &[])
                    }
                };
                world.grow(*author, parent, letter, vec![write], lamport);
            }
        }
        Some(world)
    }

    fn grow(&mut self, author: u8, parent: Option<usize>, letter: Letter, writes: Vec<WriteBody>, lamport: u64) {
        let key = key(author);
        let tip = parent.map_or_else(|| Tip::start(&genesis().mesh_id, &key.public(), 1), |parent| self.ops[parent].tip.clone());
        let segment = author_segment(&key, &tip, &OpBody { seq: tip.seq + 1, lamport, wall_ms: 0, kind: 1, writes, follows: None }).unwrap();
        self.ops.push(Op { author, letter, parent, lamport, tip: segment.tip(), verified: verify(segment.data()) });
    }

    fn naive(&self, held: usize) -> Naive {
        let mut naive = Naive::new(genesis());
        for op in (0..self.ops.len()).filter(|op| held >> op & 1 == 1) {
            let tip = self.ops[op].parent.map_or_else(|| Tip::start(&genesis().mesh_id, &public(self.ops[op].author), 1), |at| self.ops[at].tip.clone());
            naive.add(&self.ops[op].verified.chain_onto(&tip).unwrap());
        }
        naive
    }

    /// The replica means what the twin says that these ops mean.
    fn check(&mut self, held: usize, replica: &Replica) {
        let sight = self.sights.get(&held).cloned().unwrap_or_else(|| {
            let (naive, meaning) = (self.naive(held), self.naive(held).meaning());
            let role = |number: &u8| meaning.roles.get(&public(*number)).map_or(if matches!(*number, ADMIN | RECOVERY) { 4 } else { 0 }, |role| role.0);
            let sight =
                Sight { state: meaning.state_digest(), frontier: naive.frontier_digest(), voided: meaning.voided, roles: KEYS.iter().map(role).collect() };
            self.sights.insert(held, sight.clone());
            sight
        });
        let roles = KEYS.iter().map(|number| replica.member(&public(*number)).role).collect();
        let found = Sight { state: replica.state_digest(), frontier: replica.frontier_digest(), voided: replica.voided(), roles };
        assert_eq!(found, sight, "held: {held:b}");
    }

    fn says(&self, held: usize, wanted: impl Fn(&Op) -> bool) -> bool {
        self.ops.iter().enumerate().any(|(at, op)| held >> at & 1 == 1 && wanted(op))
    }

    /// The op is this one or behind it on its path.
    fn is_behind(&self, mut op: usize, end: usize) -> bool {
        while op != end {
            let Some(parent) = self.ops[op].parent else { return false };
            op = parent;
        }
        true
    }
}

impl Drop for World {
    /// A failure names its world.
    #[allow(clippy::disallowed_macros)] // To the test's own output.
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the world of this failure: {:?}", self.script);
        }
    }
}

struct Node {
    replica: Replica,
    rows: Vec<(usize, Chained)>,
    held: usize,
}

impl Node {
    /// Takes an op if it is of somebody whom it knows and fits.
    fn take(&mut self, world: &World, op: usize) -> bool {
        let outcome = self.replica.chain(std::slice::from_ref(&world.ops[op].verified), false).unwrap();
        if outcome.chained.is_empty() {
            return false;
        }
        self.replica.merge(&outcome.chained).unwrap();
        self.rows.extend(outcome.chained.into_iter().map(|chained| (op, chained)));
        self.held |= 1 << op;
        if self.replica.stale() {
            let mut fresh = self.replica.anew();
            let (rows, branches): (Vec<_>, Vec<_>) = self.rows.iter().map(|(op, row)| (Ok(world.ops[*op].verified.clone()), row.branch)).unzip();
            assert!(fresh.load(rows, &branches).unwrap().stranded.is_empty());
            self.replica.adopt(&mut fresh).unwrap();
        }
        true
    }
}

/// Every order: each step keeps what `keeps` promises of it, the end means what the twin says, and all ends are one. `keeps` is given what was held before
/// the step, and what was known of [`KEYS`] then.
fn in_every_order(world: &mut World, orders: &[Vec<usize>], keeps: impl Fn(&World, usize, &[MemberView], usize, &Replica)) {
    let mut ends = Vec::new();
    for (place, order) in orders.iter().enumerate() {
        let mut node = Node { replica: Replica::new(genesis()), rows: Vec::new(), held: 0 };
        let mut waiting: Vec<usize> = Vec::new();
        for &op in order {
            waiting.push(op);
            while let Some(at) = waiting.iter().position(|&op| {
                let before = (node.held, KEYS.map(|number| node.replica.member(&public(number))));
                let taken = node.take(world, op);
                if taken {
                    keeps(world, before.0, &before.1, node.held, &node.replica);
                }
                taken
            }) {
                waiting.remove(at);
            }
        }
        // What was held on the way is a smaller world.
        world.check(node.held, &node.replica);
        if place % 4 == 0 {
            world.check(node.held, &Replica::restore(genesis(), &node.replica.snapshot()).unwrap());
        }
        ends.push((node.held, node.replica.state_digest(), node.replica.frontier_digest()));
    }
    assert!(ends.windows(2).all(|pair| pair[0] == pair[1]), "what is held in the end does not depend on the order");
}

/// All worlds of so many ops that these authors write with these letters, in logs of any shape.
fn worlds(size: usize, authors: &[(u8, &[Letter])]) -> Vec<Vec<Log>> {
    let Some(((author, letters), rest)) = authors.split_first() else { return if size == 0 { vec![Vec::new()] } else { Vec::new() } };
    let mut found = Vec::new();
    for own in 0..=size {
        let rests = worlds(size - own, rest);
        for shape in shapes(own, letters.len()) {
            let log: Log = (*author, shape.iter().map(|&(parent, letter)| (parent, letters[letter])).collect());
            found.extend(rests.iter().map(|rest| std::iter::once(log.clone()).chain(rest.iter().cloned()).collect()));
        }
    }
    found
}

fn over_all(worlds: &[Vec<Log>], first: &[(u8, u64)], keeps: impl Fn(&World, usize, &[MemberView], usize, &Replica) + Sync) -> usize {
    let all: Vec<_> = (0..=size() + 1).map(orders).collect();
    let (done, threads) = (AtomicUsize::new(0), std::thread::available_parallelism().map_or(1, usize::from));
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (keeps, done, all) = (&keeps, &done, &all);
            scope.spawn(move || {
                for script in worlds.iter().skip(thread).step_by(threads) {
                    if let Some(mut world) = World::new(script, first) {
                        let orders = &all[world.ops.len()];
                        in_every_order(&mut world, orders, keeps);
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    done.into_inner()
}

/// The admin makes two deputies and a member in its first op. Then anybody writes anything about anybody.
#[test]
fn promise_i14_every_small_world_of_deputies_means_one_thing_in_every_order() {
    let logs: [(u8, &[Letter]); 4] = [
        (MEMBER, &[Title, Out(BEE, false), Role(MEMBER, 4), Role(THIEF, 3)]),
        (CAT, &[Out(BEE, false), Out(MEMBER, true), Role(MEMBER, 1), Out(ADMIN, false)]),
        (BEE, &[Out(CAT, false), Out(CAT, true), Out(MEMBER, false), Role(MEMBER, 4), Role(THIEF, 3)]),
        (ADMIN, &[Out(BEE, false), Out(BEE, true), Out(MEMBER, true), Role(BEE, 4)]),
    ];
    let all: Vec<_> = (1..=size()).flat_map(|size| worlds(size, &logs)).collect();
    let done = over_all(&all, &[(BEE, 4), (CAT, 4), (MEMBER, 3)], |world, before, were, held, replica| {
        let admin = replica.member(&public(ADMIN));
        assert_eq!((admin.role, admin.level, admin.revoked), (4, Some(0), false), "nobody below takes anything from the admin");
        for (place, number) in KEYS.iter().enumerate().filter(|(_, number)| matches!(**number, BEE | CAT | MEMBER)) {
            let now = replica.member(&public(*number));
            let out = |op: &Op| matches!(op.letter, Out(who, _) if who == *number) && op.author != MEMBER;
            assert!(!now.revoked || world.says(held, out), "only an admin puts out");
            let given = |op: &Op| matches!(op.letter, Role(who, 4) if who == *number) && op.author != MEMBER;
            assert!(now.level.is_none() || *number != MEMBER || world.says(held, given), "only an admin makes an admin");
            // What an admin said can be undone by putting that admin out, and by nothing else.
            let undone = |author: u8| world.says(held & !before, |op| matches!(op.letter, Out(who, _) if who == author));
            let by = |author: u8| world.says(before, |op| op.author == author && out(op));
            assert!(!were[place].revoked || now.revoked || [BEE, CAT].into_iter().any(|author| by(author) && undone(author)), "the revoked stay out");
        }
        let verdict = world.says(held, |op| op.author == ADMIN && op.letter == Out(MEMBER, true));
        for (at, op) in world.ops.iter().enumerate().filter(|(at, op)| held >> at & 1 == 1 && (op.author, op.letter) == (MEMBER, Title)) {
            let shown = replica.get(1, &[u8::try_from(at).unwrap(); 16], 1).is_some();
            let first = world.ops.iter().position(|first| first.author == MEMBER && first.tip.seq == 1).unwrap();
            assert!(!(shown && verdict) || at == first, "of what the admin put out only the kept part has effect");
            assert!(shown || op.parent.is_some() || held.count_ones() > 2, "a member writes");
        }
        let named = |op: &Op| matches!(op.letter, Role(who, _) if who == THIEF) && matches!(op.author, ADMIN | BEE | CAT | MEMBER);
        assert!(replica.member(&public(THIEF)).role == 0 || world.says(held, named));
    });
    count("worlds of deputies in every order", done, 1_521);
}

/// The admin rotates; a thief has its key, and writes beside it; the recovery key puts it out; the next key goes on.
#[test]
fn promise_i14_every_small_world_of_rotation_gives_a_thief_of_the_old_key_nothing() {
    let logs: [(u8, &[Letter]); 3] = [
        (RECOVERY, &[Out(ADMIN, true), Out(ADMIN, false), Role(CAT, 4), Title]),
        (NEXT, &[Role(CAT, 3), Out(ADMIN, true), Out(BEE, false), Turn(THIEF, false)]),
        (ADMIN, &[Turn(NEXT, false), Turn(NEXT, true), Turn(THIEF, true), Role(THIEF, 4), Out(BEE, false), Out(RECOVERY, false)]),
    ];
    let all: Vec<_> = (1..=size()).flat_map(|size| worlds(size, &logs)).collect();
    let done = over_all(&all, &[(BEE, 4)], |world, _, were, held, replica| {
        let [admin, next, thief, recovery, bee] = [ADMIN, NEXT, THIEF, RECOVERY, BEE].map(|number| replica.member(&public(number)));
        let turns: Vec<usize> = (0..world.ops.len()).filter(|at| held >> at & 1 == 1 && matches!(world.ops[*at].letter, Turn(NEXT, _))).collect();
        let stands = |at: usize| turns.iter().any(|&turn| world.is_behind(turn, at));
        assert_eq!((recovery.role, recovery.level), (4, Some(-1)), "nobody takes anything from the recovery key");
        assert_ne!(admin.successor, Some(public(THIEF)), "nobody committed to the thief's key");
        let grants: Vec<usize> = (0..world.ops.len()).filter(|at| held >> at & 1 == 1 && world.ops[*at].letter == Role(THIEF, 4)).collect();
        if thief.role != 0 {
            assert!(turns.is_empty() || grants.iter().any(|&grant| stands(grant)), "what the thief writes beside or behind the rotation gives nothing");
        }
        if next.role != 0 {
            assert!(!turns.is_empty() && admin.role == 0 && admin.successor == Some(public(NEXT)), "one of both, not both");
        }
        let early = |op: &Op| op.author != ADMIN && matches!(op.letter, Out(ADMIN, _));
        assert!(turns.is_empty() || next.role == 4 || world.says(held, early), "a rotation holds unless the recovery key, or the new key itself, cuts it off");
        assert!(were[0].role != 0 || held.count_ones() == 0 || admin.role == 0, "who rotated or was put out never comes back");
        let verdict = |at: usize| world.ops[at].letter == Out(BEE, false) && held >> at & 1 == 1;
        let heard = (0..world.ops.len()).any(|at| verdict(at) && (world.ops[at].author == NEXT || turns.is_empty() || stands(at)));
        assert!(!bee.revoked || heard, "nor does it take anything");
    });
    count("worlds of rotation in every order", done, 1_903);
}
