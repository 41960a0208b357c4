//! Whether a chained op is sound: the rules 1 to 4 of "Op validity" in `merge.md`. Rule 5 is in [`crate::authority`].

use std::fmt;

use fabrik_op::limits::{LAMPORT_MAX, LAMPORT_STEP_MAX};
use fabrik_op::{Key, Op, Write, kind};

use crate::schema::{self, Known, class};
use crate::value::{self, Names};

/// Where an op stands: the genesis admin and its log's author.
#[derive(Debug, Clone, Copy)]
pub struct Standpoint<'a> {
    pub admin: &'a Key,
    pub author: &'a Key,
}

/// Why an op is void, naming the write and the rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Void {
    Clock { clock: u64, lamport: u64 },
    Kind(&'static str),
    Write { index: usize, name: String, rule: String },
}

impl fmt::Display for Void {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clock { clock, lamport } => write!(f, "lamport {lamport} is not within 2^24 above the log's clock {clock}"),
            Self::Kind(rule) => f.write_str(rule),
            Self::Write { index, name, rule } => write!(f, "write {index} to {name}: {rule}"),
        }
    }
}

/// Rule 1. Only an op that keeps it moves its log's clock.
#[must_use]
#[inline]
pub fn keeps_clock(clock: u64, lamport: u64) -> bool {
    lamport > clock && lamport - clock <= LAMPORT_STEP_MAX && lamport <= LAMPORT_MAX
}

/// Rules 2 to 4, for an op that keeps rule 1: the classes of registers that it writes (none: an unknown op kind, without effect), or why it is void.
pub fn judge(standpoint: &Standpoint<'_>, op: &Op<'_>) -> Result<Option<u8>, Void> {
    if op.follows().is_some() && op.kind() != kind::EPOCH {
        return Err(Void::Kind("only an epoch opening may follow another log"));
    }
    match op.kind() {
        kind::GENESIS if op.seq != 1 || standpoint.author != standpoint.admin => {
            return Err(Void::Kind("a genesis op stands only at seq 1 of a log of the genesis admin"));
        }
        kind::EPOCH if op.seq != 1 || op.follows().is_none() => {
            return Err(Void::Kind("an epoch opening stands only at seq 1 and names the log that it follows"));
        }
        kind::WRITE | kind::GENESIS | kind::EPOCH => {}
        _ => return Ok(None),
    }
    let mut classes = class::ANY;
    for (index, write) in op.writes().enumerate() {
        if let Some(known) = schema::lookup(write.kind, write.field).filter(|known| !known.field.later) {
            check_write(standpoint, &known, &write).map_err(|rule| Void::Write { index, name: format!("{}.{}", known.kind.name, known.field.name), rule })?;
            classes |= schema::class_of(known.kind_number, known.field_number);
        }
    }
    Ok(Some(classes))
}

/// The register that a write of an op that is not void goes to; none for one without effect by itself. Whether the author may write a later one is [`permits`].
#[inline]
pub fn target(standpoint: &Standpoint<'_>, write: &Write<'_>) -> Option<Known> {
    let known = schema::lookup(write.kind, write.field)?;
    (!known.field.later || check_write(standpoint, &known, write).is_ok()).then_some(known)
}

/// Whether an author who may write these classes may write this register; none: all that he writes. Of version 1 that was decided for the whole op.
#[must_use]
#[inline]
pub fn permits(known: &Known, allowed: Option<u8>) -> bool {
    !known.field.later || allowed.is_none_or(|allowed| schema::class_of(known.kind_number, known.field_number) & !allowed == 0)
}

#[inline]
fn check_write(standpoint: &Standpoint<'_>, known: &Known, write: &Write<'_>) -> Result<(), String> {
    if write.id.len() != known.kind.id_bytes {
        return Err(format!("an id of {} bytes, expected {}", write.id.len(), known.kind.id_bytes));
    }
    if write.fence.is_some() && !known.field.fenced {
        return Err("a fence on a field that is not fenced".to_owned());
    }
    let names = value::check(known.field.value, write.value).map_err(|malformed| format!("not {}: {malformed}", known.field.value.name()))?;
    match known.kind_number {
        schema::ROTATION if write.id != standpoint.author => return Err("a rotation is written by the old key only".to_owned()),
        schema::NODE if write.id != standpoint.author => return Err("a node register is written by its own key only".to_owned()),
        _ => {}
    }
    match names {
        Names::Row(id) if write.id != id => Err("the register's id is not of the item and name that it says".to_owned()),
        Names::Node(node) if node != *standpoint.author => Err("it names another node than its author".to_owned()),
        _ => Ok(()),
    }
}
