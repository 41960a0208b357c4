//! Logs that fork: one author's ops as a tree, and a node's way of taking parts of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)] // A panic is a failed test.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fabrik_merge::naive::Naive;
use fabrik_merge::{ChainOutcome, Chained, Replica};
use fabrik_op::{ChainedSegment, Digest, Key, OpBody, SigningKey, Tip, author_segment};

use super::sketch::{View, follow};
use super::{genesis, key, verify};

/// An op of a forking log.
#[derive(Debug, Clone)]
pub struct Node {
    /// Index of the op before it; none at seq 1.
    pub parent: Option<usize>,
    pub segment: ChainedSegment,
    pub lamport: u64,
}

/// One author's forking log.
#[derive(Debug, Clone)]
pub struct Tree {
    pub key: SigningKey,
    pub epoch: u64,
    pub nodes: Vec<Node>,
}

impl Tree {
    pub fn new(number: u8, epoch: u64) -> Self {
        Self { key: key(number), epoch, nodes: Vec::new() }
    }

    pub fn public(&self) -> Key {
        self.key.public()
    }

    pub fn tip(&self, parent: Option<usize>) -> Tip {
        parent.map_or_else(|| Tip::start(&genesis().mesh_id, &self.public(), self.epoch), |parent| self.nodes[parent].segment.tip())
    }

    pub fn lamport(&self, parent: Option<usize>) -> u64 {
        parent.map_or(0, |parent| self.nodes[parent].lamport)
    }

    /// Adds an op behind another; the index of it, or of the equal one that is there.
    pub fn grow(&mut self, parent: Option<usize>, op: &OpBody) -> usize {
        let segment = author_segment(&self.key, &self.tip(parent), op).unwrap();
        if let Some(there) = self.nodes.iter().position(|node| node.segment.head() == segment.head()) {
            return there;
        }
        self.nodes.push(Node { parent, segment, lamport: op.lamport });
        self.nodes.len() - 1
    }

    /// Indices of the ops from the start of the log to this one.
    pub fn path(&self, end: usize) -> Vec<usize> {
        let mut path: Vec<usize> = std::iter::successors(Some(end), |&node| self.nodes[node].parent).collect();
        path.reverse();
        path
    }

    /// The last `count` ops of the path to `end` as one segment; the whole path when it is shorter.
    pub fn segment(&self, end: usize, count: usize) -> Arc<[u8]> {
        let path = self.path(end);
        let parts: Vec<_> = path[path.len().saturating_sub(count)..].iter().map(|&node| Arc::clone(self.nodes[node].segment.data())).collect();
        fabrik_op::coalesce(&parts, usize::MAX).unwrap().remove(0)
    }

    pub fn leaves(&self) -> Vec<usize> {
        let parents: BTreeSet<_> = self.nodes.iter().filter_map(|node| node.parent).collect();
        (0..self.nodes.len()).filter(|node| !parents.contains(node)).collect()
    }
}

/// A node without disk and wire: what it stored, in order, and what its readers were told.
#[derive(Debug)]
pub struct Home {
    pub replica: Replica,
    pub rows: Vec<Chained>,
    pub view: View,
    /// How often it took over a replica that was loaded anew.
    pub adopted: usize,
}

impl Home {
    pub fn new() -> Self {
        Self { replica: Replica::new(genesis()), rows: Vec::new(), view: View::new(), adopted: 0 }
    }

    /// Takes a batch as a node does; what is beyond a gap is not kept.
    pub fn take(&mut self, batch: &[Arc<[u8]>]) -> ChainOutcome {
        let verified: Vec<_> = batch.iter().map(verify).collect();
        let outcome = self.replica.chain(&verified, true).unwrap();
        let changes = self.replica.merge(&outcome.chained).unwrap();
        follow(&mut self.view, &self.replica, changes.iter());
        self.rows.extend(outcome.chained.iter().cloned());
        assert!(self.replica.stale() || outcome.suspended.is_empty());
        if self.replica.stale() {
            let mut fresh = self.reloaded();
            let winner =
                |replica: &Replica, kind, id: &[u8], field| replica.get(kind, id, field).map(|held| ((held.digest, held.author), held.epoch, held.seq));
            let before: BTreeMap<_, _> = self.view.keys().map(|place| (place.clone(), winner(&self.replica, place.0, &place.1, place.2))).collect();
            let changes = self.replica.adopt(&mut fresh).unwrap();
            for change in changes.iter() {
                let old = before.get(&(change.kind(), change.id().into(), change.field)).copied().flatten();
                let new = winner(&self.replica, change.kind(), change.id(), change.field);
                assert_ne!(old, new, "only what changed is a change");
                if !self.replica.tombstoned(change.id()) {
                    assert_eq!(
                        new.or(old).map(|winner| winner.0),
                        Some((change.digest, change.author)),
                        "named after its writer, or after the one that was taken away"
                    );
                }
            }
            follow(&mut self.view, &self.replica, changes.iter());
            assert_eq!((fresh.ops(), fresh.registers(), self.replica.stale()), (0, 0, false));
            self.adopted += 1;
        }
        outcome
    }

    /// A replica of what it stored, as after a restart.
    pub fn reloaded(&self) -> Replica {
        let mut fresh = self.replica.anew();
        let rows: Vec<_> = self.rows.iter().map(|row| Ok(verify(row.data()))).collect();
        let branches: Vec<_> = self.rows.iter().map(|row| row.branch).collect();
        let loaded = fresh.load(rows, &branches).unwrap();
        assert_eq!((loaded.damaged.len(), &loaded.stranded[..], loaded.ops), (0, &[][..], self.replica.ops()));
        fresh
    }

    /// Takes everything, in batches of these sizes, and offers again what found a gap. Returns how many segments there were offered.
    pub fn take_all(&mut self, segments: &[Arc<[u8]>], sizes: &[usize]) -> usize {
        let mut sizes = sizes.iter().cycle();
        let mut waiting: Vec<_> = segments.to_vec();
        let mut offered = 0;
        while !waiting.is_empty() {
            let (before, count) = (self.replica.ops(), waiting.len());
            let mut left = Vec::new();
            let mut rest = &waiting[..];
            while !rest.is_empty() {
                let (batch, after) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
                offered += batch.len();
                left.extend(self.take(batch).gaps.iter().map(|gap| Arc::clone(&batch[gap.index])));
                rest = after;
            }
            assert!(self.replica.ops() > before || left.len() < count, "no segment of a whole round fitted");
            waiting = left;
        }
        offered
    }

    /// The stored segments of a branch that hold something behind `seq`.
    pub fn read(&self, author: &Key, epoch: u64, branch: u32, seq: u64) -> Vec<Arc<[u8]>> {
        let rows = self.rows.iter().filter(|row| (row.author(), row.epoch(), row.branch) == (author, epoch, branch) && row.last_seq() > seq);
        rows.map(|row| Arc::clone(row.data())).collect()
    }

    /// Gives another node what it lacks, as one exchange of sync does. Returns how many logs were asked for, and how many ops were sent twice.
    pub fn give(&self, other: &mut Self) -> (usize, u64) {
        let logs: BTreeSet<(Key, u64)> = self.replica.heads().map(|head| (head.author, head.epoch)).collect();
        let (mut asked, mut duplicates) = (0, 0);
        for (author, epoch) in logs {
            if announced(&self.replica, &author, epoch).iter().all(|(seq, head)| other.replica.holds(&author, epoch, *seq, head)) {
                continue;
            }
            if other.replica.suspended().any(|log| log == (author, epoch)) {
                continue;
            }
            asked += 1;
            let places = other.replica.places(&author, epoch);
            for (branch, seq) in self.replica.cursors(&author, epoch, &places) {
                for segment in self.read(&author, epoch, branch, seq) {
                    let outcome = other.take(&[segment]);
                    assert!(outcome.gaps.is_empty(), "what cursors name fits in their order");
                    duplicates += outcome.duplicates;
                }
            }
        }
        (asked, duplicates)
    }
}

/// The heads of a log as they are announced.
pub fn announced(replica: &Replica, author: &Key, epoch: u64) -> Vec<(u64, Digest)> {
    if let Some(marker) = replica.marker(author, epoch) {
        return vec![marker];
    }
    replica.heads().filter(|head| (head.author, head.epoch) == (*author, epoch)).map(|head| (head.seq, head.head)).collect()
}

/// The naive twin of all ops of these logs.
pub fn twin_of(trees: &[Tree]) -> Naive {
    let mut naive = Naive::new(genesis());
    trees.iter().flat_map(|tree| &tree.nodes).for_each(|node| naive.add(&node.segment));
    naive
}
