//! Stories of members, admins and thieves: what stays, what is void, whoever heard what first.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)] // A panic is a failed test.

mod mesh;

use std::sync::Arc;

use fabrik_merge::{Replica, Spot};
use fabrik_op::{OpBody, Refused, WriteBody};
use mesh::sketch::assert_same;
use mesh::small::orders;
use mesh::tree::{Home, Tree, twin_of};
use mesh::{NEXT, RECOVERY, binding, cbor, claim, genesis, key, member, node_name, rotation, run, stage, title, tombstone, write};

const ITEM: [u8; 16] = [0x42; 16];

/// All authors of a story, and their ops.
struct Story {
    trees: Vec<Tree>,
}

impl Story {
    fn new() -> Self {
        Self { trees: Vec::new() }
    }

    fn tree(&mut self, author: u8, epoch: u64) -> &mut Tree {
        let public = key(author).public();
        let place = self.trees.iter().position(|tree| tree.public() == public && tree.epoch == epoch);
        let place = place.unwrap_or_else(|| {
            self.trees.push(Tree::new(author, epoch));
            self.trees.len() - 1
        });
        &mut self.trees[place]
    }

    /// The author writes at the end of his first log, above everything that was written.
    fn writes(&mut self, author: u8, writes: Vec<WriteBody>) -> Spot {
        let last = self.tree(author, 1).nodes.len().checked_sub(1);
        self.forks(author, 1, last, writes)
    }

    /// Behind op `parent` of a log; none: at its start.
    fn forks(&mut self, author: u8, epoch: u64, parent: Option<usize>, writes: Vec<WriteBody>) -> Spot {
        let lamport = 1 + self.trees.iter().flat_map(|tree| &tree.nodes).map(|node| node.lamport).max().unwrap_or(0);
        self.at(author, epoch, parent, lamport, writes)
    }

    fn at(&mut self, author: u8, epoch: u64, parent: Option<usize>, lamport: u64, writes: Vec<WriteBody>) -> Spot {
        let tree = self.tree(author, epoch);
        let seq = tree.tip(parent).seq + 1;
        let node = tree.grow(parent, &OpBody { seq, lamport, wall_ms: 0, kind: 1, writes, follows: None });
        Spot { epoch, seq, head: *tree.nodes[node].segment.head() }
    }

    fn grants(&mut self, by: u8, who: u8, role: u64) -> Spot {
        self.writes(by, vec![binding(&key(who).public(), role, &[], None)])
    }

    fn revokes(&mut self, by: u8, who: u8, places: &[Spot]) -> Spot {
        self.writes(by, vec![binding(&key(who).public(), 0, places, None)])
    }

    fn item(number: u8) -> [u8; 16] {
        [number; 16]
    }

    fn titles(&mut self, author: u8, item: u8) -> Spot {
        self.writes(author, vec![title(&Self::item(item), "title")])
    }

    /// What it means, checked in many orders; who asks gets one of the replicas.
    fn told(&self) -> Replica {
        let naive = twin_of(&self.trees);
        let singles: Vec<Arc<[u8]>> = self.trees.iter().flat_map(|tree| (0..tree.nodes.len()).map(|node| tree.segment(node, 1))).collect();
        let turned = |by: usize| singles.iter().cycle().skip(by).take(singles.len()).cloned().collect::<Vec<_>>();
        let mut routes: Vec<Vec<_>> = (0..singles.len()).map(turned).collect();
        routes.push(singles.iter().rev().cloned().collect());
        if singles.len() < 7 {
            routes = orders(singles.len()).iter().map(|order| order.iter().map(|&place| Arc::clone(&singles[place])).collect()).collect();
        }
        let homes = routes.into_iter().enumerate().map(|(number, route)| {
            let mut home = Home::new();
            home.take_all(&route, &[1 + number % 3]);
            assert_same(&home.replica, &naive);
            home.replica
        });
        homes.last().unwrap()
    }

    /// Which of the items 1.. have a title with effect.
    fn titled(&self, items: std::ops::RangeInclusive<u8>) -> Vec<u8> {
        let told = self.told();
        items.filter(|&item| told.get(1, &Self::item(item), 1).is_some()).collect()
    }
}

#[test]
fn promise_e28_a_role_says_what_an_author_may_write() {
    let public = key(1).public();
    let own = vec![node_name(&public, "me")];
    let work = [vec![stage(&ITEM, 1)], vec![claim(&ITEM, &public, 1, 0, 1, 0)], vec![run(&ITEM, &public, 1)], vec![write(1, &ITEM, 10, cbor(|w| w.uint(1)))]];
    let items = [vec![title(&ITEM, "title")], vec![tombstone(&ITEM, "gone")], vec![write(1, &ITEM, 6, cbor(|w| w.uint(1)))]];
    let records = vec![member(&key(2).public(), 2)];
    for (role, allowed) in [(1, 1), (2, 2), (3, 3), (4, 4)] {
        let all = [(1, &own)].into_iter().chain(work.iter().map(|writes| (2, writes))).chain(items.iter().map(|writes| (3, writes))).chain([(4, &records)]);
        for (class, writes) in all {
            let mut story = Story::new();
            story.grants(0, 1, role);
            let home = story.told();
            let drafted = home.draft(key(1), 7).unwrap().append(writes.clone(), 0);
            assert_eq!(drafted.is_ok(), class <= allowed, "role {role} class {class}");
            assert!(drafted.is_ok() || matches!(drafted, Err(Refused::Authority(_))));
            story.writes(1, writes.clone());
            assert_eq!(story.told().voided(), u64::from(class > allowed), "role {role} class {class}");
            let mut mixed = Story::new();
            mixed.grants(0, 1, role);
            mixed.writes(1, [own.clone(), writes.clone(), vec![write(1, &ITEM, 77, vec![0xf6])]].concat());
            let told = mixed.told();
            assert_eq!((told.voided(), told.get(4, &public, 1).is_some()), (u64::from(class > allowed), class <= allowed), "one write outside voids the op");
        }
    }
}

#[test]
fn promise_e28_a_role_without_a_place_restricts_nothing() {
    let mut story = Story::new();
    story.writes(0, vec![member(&key(1).public(), 1), member(&key(2).public(), 4)]);
    story.titles(1, 1);
    story.titles(2, 2);
    story.writes(2, vec![member(&key(3).public(), 3)]);
    story.writes(0, vec![member(&key(1).public(), 0)]);
    story.titles(1, 3);
    assert_eq!(story.titled(1..=3), [1, 2, 3]);
    let told = story.told();
    assert_eq!([1, 2, 3].map(|who| told.is_admitted(&key(who).public())), [false, true, false], "an admin by such a record writes no records");
}

#[test]
fn promise_i14_a_later_role_does_not_rewrite_the_past() {
    let mut story = Story::new();
    story.grants(0, 1, 2);
    story.titles(1, 1);
    let place = story.writes(1, vec![stage(&Story::item(9), 1)]);
    story.writes(0, vec![binding(&key(1).public(), 3, &[place], None)]);
    let second = story.titles(1, 2);
    story.writes(0, vec![binding(&key(1).public(), 1, &[place, second], None)]);
    story.titles(1, 3);
    story.forks(1, 1, Some(0), vec![title(&Story::item(4), "backdated fork")]);
    story.forks(1, 2, None, vec![title(&Story::item(5), "another epoch")]);
    assert_eq!(story.titled(1..=5), [2]);
    assert!(story.told().get(1, &Story::item(9), 3).is_some());
}

#[test]
fn promise_i14_what_is_cut_is_void_by_any_route_and_for_good() {
    let mut story = Story::new();
    story.grants(0, 1, 3);
    story.titles(1, 1);
    let trusted = story.titles(1, 2);
    let elsewhere = story.forks(1, 5, None, vec![title(&Story::item(3), "an older log that the admin names, too")]);
    story.titles(1, 4);
    story.forks(1, 1, Some(0), vec![title(&Story::item(5), "a fork from before the cut")]);
    story.at(1, 3, None, 1, vec![title(&Story::item(6), "a backdated epoch")]);
    story.revokes(0, 1, &[trusted, elsewhere]);
    assert_eq!(story.titled(1..=6), [1, 2, 3]);
    story.grants(0, 1, 4);
    story.writes(0, vec![member(&key(1).public(), 3)]);
    story.titles(1, 7);
    assert_eq!(story.titled(1..=7), [1, 2, 3], "no later record takes it back");
    assert!(!story.told().is_admitted(&key(1).public()) && story.told().member(&key(1).public()).revoked);
    story.revokes(0, 1, &[elsewhere]);
    assert_eq!(story.titled(1..=7), [3], "cuts intersect");
}

#[test]
fn promise_i14_a_revocation_before_the_grant_and_before_the_ops() {
    let mut story = Story::new();
    story.revokes(0, 1, &[]);
    story.grants(0, 1, 3);
    story.titles(1, 1);
    assert_eq!(story.titled(1..=1), []);
    let told = story.told();
    let written = told.draft(key(1), 9).unwrap().append(vec![title(&ITEM, "x")], 0).unwrap_err();
    assert!(written.to_string().contains("revoked"), "{written}");
}

#[test]
fn promise_i14_a_stolen_admin_key_and_what_it_did() {
    let mut story = Story::new();
    story.grants(0, 1, 4);
    story.grants(1, 2, 3);
    let trusted = story.titles(1, 1);
    story.titles(2, 2);
    story.grants(1, 3, 4);
    story.grants(3, 4, 3);
    story.titles(4, 3);
    story.revokes(1, 2, &[]);
    assert_eq!(story.titled(1..=3), [1, 3], "the thief's friend is in, the honest member out");
    story.revokes(0, 1, &[trusted]);
    assert_eq!(story.titled(1..=3), [1, 2], "both undone, what came before the cut stays");
    let told = story.told();
    assert_eq!([1, 2, 3, 4].map(|who| told.member(&key(who).public()).role), [0, 3, 0, 0]);
    assert!(told.is_named(&key(4).public()), "another node may have taken his ops");
}

#[test]
fn promise_i14_nobody_revokes_a_lower_level() {
    let mut story = Story::new();
    story.grants(0, 1, 4);
    story.grants(1, 2, 4);
    story.revokes(2, 1, &[]);
    story.revokes(1, 0, &[]);
    story.writes(2, vec![binding(&key(0).public(), 1, &[], None)]);
    let told = story.told();
    assert_eq!(([0, 1, 2].map(|who| told.member(&key(who).public()).role), told.voided()), ([4, 4, 4], 3));
    assert_eq!([0, 1, 2, 3].map(|who| told.member(&key(who).public()).level), [Some(0), Some(1), Some(2), None]);
    let refused = told.draft(key(2), 9).unwrap().append(vec![binding(&key(1).public(), 0, &[], None)], 0).unwrap_err();
    assert!(matches!(refused, Refused::Authority(_)), "{refused}");
}

#[test]
fn promise_i14_admins_who_revoke_each_other_both_lose_and_a_lower_level_repairs_it() {
    let mut story = Story::new();
    let one = story.grants(0, 1, 4);
    let _ = one;
    story.grants(0, 2, 4);
    let kept = story.grants(1, 3, 3);
    story.titles(3, 1);
    story.revokes(2, 1, &[kept]);
    story.revokes(1, 2, &[]);
    story.grants(1, 4, 3);
    story.titles(4, 2);
    let told = story.told();
    assert_eq!([1, 2, 3, 4].map(|who| told.member(&key(who).public()).role), [0, 0, 3, 0]);
    assert_eq!(story.titled(1..=2), [1]);
    story.revokes(0, 1, &[kept]);
    let told = story.told();
    assert_eq!([1, 2, 3, 4].map(|who| told.member(&key(who).public()).role), [0, 4, 3, 0], "the thief's verdict is undone");
}

#[test]
fn promise_f8_the_owner_rotates_and_the_thief_can_not() {
    let mut story = Story::new();
    story.writes(0, vec![binding(&key(1).public(), 3, &[], Some(5))]);
    story.titles(1, 1);
    let older = story.forks(1, 2, None, vec![title(&Story::item(2), "an older log")]);
    story.forks(1, 1, Some(0), vec![title(&Story::item(3), "the thief, before")]);
    let last = story.tree(1, 1).nodes.iter().position(|node| node.segment.last_seq() == 1).unwrap();
    let tip = story.tree(1, 1).tip(Some(last));
    story.forks(1, 1, Some(last), vec![rotation(&tip, 5, Some(6), &[older])]);
    story.titles(1, 4);
    story.titles(5, 5);
    let start = story.tree(1, 7).tip(None);
    story.at(1, 7, None, 1, vec![rotation(&start, 8, None, &[])]);
    story.titles(8, 6);
    assert_eq!(story.titled(1..=6), [1, 2, 5]);
    let told = story.told();
    assert_eq!(
        (told.member(&key(1).public()).successor, told.member(&key(5).public()).role, told.is_admitted(&key(1).public())),
        (Some(key(5).public()), 3, false)
    );
    let tip = story.tree(5, 1).tip(Some(0));
    story.writes(5, vec![rotation(&tip, 6, None, &[])]);
    story.titles(6, 7);
    story.revokes(0, 6, &[]);
    assert_eq!(story.titled(1..=7), [1, 2, 5], "and on, until revoked");
}

/// The new key signs the place: a copy of the owner's rotation in a log of the thief's would move the cut before all that the owner wrote.
#[test]
fn promise_f8_a_copied_rotation_says_nothing() {
    let mut story = Story::new();
    story.writes(0, vec![binding(&key(1).public(), 3, &[], Some(5))]);
    story.titles(1, 1);
    let tip = story.tree(1, 1).tip(Some(0));
    let owners = rotation(&tip, 5, None, &[]);
    story.writes(1, vec![owners.clone()]);
    story.at(1, 9, None, 1, vec![owners]);
    story.titles(5, 2);
    assert_eq!(story.titled(1..=2), [1, 2]);
}

/// The thief stands where the owner rotated, copies the rotation, and adds a write of his own, with the lower lamport.
#[test]
fn promise_f8_a_rotation_stands_alone_in_its_op() {
    let extras = [vec![binding(&key(3).public(), 4, &[], None)], vec![title(&Story::item(2), "more")], vec![write(77, &[1], 1, vec![0xf6])], vec![]];
    for (extra, first) in extras.iter().flat_map(|extra| [(extra, false), (extra, true)]) {
        let mut story = Story::new();
        story.grants(0, 1, 3);
        story.titles(1, 1);
        story.grants(0, 2, 3);
        let tip = story.tree(0, 1).tip(Some(1));
        let turn = vec![rotation(&tip, NEXT, None, &[])];
        let lamport = story.tree(0, 1).lamport(Some(1));
        story.at(0, 1, Some(1), lamport + 9, turn.clone());
        let copied = if first { [&extra[..], &turn[..]].concat() } else { [&turn[..], &extra[..]].concat() };
        story.at(0, 1, Some(1), lamport + 1, copied);
        story.grants(NEXT, 4, 3);
        let told = story.told();
        assert_eq!([0, 1, 2, 3, 4, NEXT].map(|who| told.member(&key(who).public()).role), [0, 3, 3, 0, 3, 4]);
        assert_eq!((story.titled(1..=2), told.voided()), (vec![1], 1), "one of two: the copy with more in it, or the later of two equal ones");
        assert!(extra.is_empty() || told.get(7, &key(0).public(), 1).unwrap().lamport == lamport + 9, "the owner's counts");
    }
}

#[test]
fn promise_f8_the_genesis_admin_rotates_away_from_a_thief() {
    let mut story = Story::new();
    story.grants(0, 1, 4);
    story.grants(0, 2, 3);
    story.titles(2, 1);
    story.forks(0, 1, Some(0), vec![binding(&key(0).public(), 0, &[], None)]);
    story.forks(0, 1, Some(0), vec![binding(&key(2).public(), 0, &[], None)]);
    story.at(0, 4, None, 1, vec![binding(&key(1).public(), 0, &[], None)]);
    assert_eq!(story.titled(1..=1), []);
    let tip = story.tree(0, 1).tip(Some(1));
    story.forks(0, 1, Some(1), vec![rotation(&tip, NEXT, None, &[])]);
    assert_eq!(story.titled(1..=1), [1], "all that the thief did is undone");
    story.grants(NEXT, 3, 3);
    let told = story.told();
    let roles = [0, 1, 2, 3, NEXT].map(|who| told.member(&key(who).public()).role);
    assert_eq!((roles, told.member(&key(NEXT).public()).level), ([0, 4, 3, 3, 4], Some(0)));
}

#[test]
fn promise_f8_the_recovery_key_replaces_a_lost_admin() {
    let mut story = Story::new();
    let trusted = story.grants(0, 1, 3);
    story.titles(1, 1);
    story.revokes(0, 1, &[]);
    story.revokes(RECOVERY, 0, &[trusted]);
    story.grants(RECOVERY, 2, 4);
    story.grants(2, 3, 3);
    story.titles(3, 2);
    story.titles(RECOVERY, 3);
    assert_eq!(story.titled(1..=3), [1, 2], "it writes member records only");
    let told = story.told();
    assert_eq!([0, 1, 2, 3, RECOVERY].map(|who| told.member(&key(who).public()).level), [Some(0), None, Some(0), None, Some(-1)]);
    assert_eq!([0, 1, 2, 3, RECOVERY].map(|who| told.is_admitted(&key(who).public())), [false, true, true, true, true]);
}

/// Both rotate behind the other's verdict: if a rotation asked for verdicts of its own level, either answer would contradict itself.
#[test]
fn promise_f8_admins_who_revoke_each_other_and_rotate() {
    let mut story = Story::new();
    story.writes(0, vec![binding(&key(1).public(), 4, &[], Some(5)), binding(&key(2).public(), 4, &[], Some(6))]);
    for (old, new) in [(1, 5), (2, 6)] {
        let tip = story.tree(old, 1).tip(None);
        story.writes(old, vec![rotation(&tip, new, None, &[])]);
    }
    story.revokes(5, 2, &[]);
    story.revokes(6, 1, &[]);
    story.grants(5, 3, 3);
    story.grants(6, 4, 3);
    let told = story.told();
    assert_eq!([1, 2, 3, 4, 5, 6].map(|who| told.member(&key(who).public()).role), [0; 6], "all lose, whatever came first");
}

#[test]
fn a_draft_may_write_what_its_role_says() {
    let mut story = Story::new();
    story.grants(0, 1, 4);
    let told = story.told();
    let mut draft = told.draft(key(1), 1).unwrap();
    draft.append(vec![binding(&key(2).public(), 3, &[], None)], 0).unwrap();
    draft.append(vec![binding(&key(2).public(), 0, &[], None)], 0).unwrap();
    let odd = write(3, &key(2).public(), 1, cbor(|w| w.map(2).uint(1).uint(2).uint(4).text("no places")));
    assert!(draft.append(vec![odd], 0).unwrap_err().to_string().contains("keys 4 and 5"));
    let both = vec![binding(&key(1).public(), 0, &[], None), title(&ITEM, "x")];
    assert!(matches!(draft.append(both, 0), Err(Refused::Authority(_))), "a verdict stands alone");
    assert!(Replica::new(genesis()).draft(key(7), 1).unwrap().append(vec![title(&ITEM, "before he is known")], 0).is_ok());
    let rotated = draft.rotate(&key(5), None, &[], 0).unwrap();
    assert_eq!(rotated.len(), 1);
}

/// A log of a key that becomes an admin may have any number of heads, also those that were too many before.
#[test]
fn promise_i14_who_stole_an_admins_key_can_not_suspend_what_it_granted() {
    let heads = fabrik_op::limits::HEADS_MAX + 3;
    let mut story = Story::new();
    story.grants(0, 1, 4);
    story.grants(1, 2, 3);
    let trusted = story.grants(1, 3, 3);
    story.titles(2, 1);
    for turn in 0..heads {
        story.at(1, 1, None, 5, vec![title(&ITEM, &format!("head {turn}"))]);
    }
    for revoked in [false, true] {
        if revoked {
            story.revokes(0, 1, &[trusted]);
        }
        let naive = twin_of(&story.trees);
        let mut route: Vec<Arc<[u8]>> = story.trees.iter().flat_map(|tree| tree.leaves().into_iter().map(|leaf| tree.segment(leaf, usize::MAX))).collect();
        for admin_last in [false, true] {
            let mut home = Home::new();
            route.sort_by_key(|path| (mesh::verify(path).author() == &key(0).public()) == admin_last);
            for _ in 0..2 {
                route.chunks(7).for_each(|batch| drop(home.take(batch))); // What was too much before it was known to be an admin's is offered again.
            }
            assert_same(&home.replica, &naive);
            assert_same(&home.reloaded(), &naive);
            assert_same(&Replica::restore(genesis(), &home.replica.snapshot()).unwrap(), &naive);
            assert_eq!((home.replica.suspended().count(), home.replica.get(1, &Story::item(1), 1).is_some()), (0, true));
            assert_eq!(home.replica.get(1, &ITEM, 1).is_some(), !revoked, "the thief's heads, until he is cut");
        }
    }
}
