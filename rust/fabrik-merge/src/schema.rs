//! The register table of `merge.md`, as data. One list; validation, the binding and the tests read it.

use fabrik_op::Digest;
use fabrik_op::limits::{HEADS_MAX, LAMPORT_MAX, LAMPORT_STEP_MAX};

/// The type of a field's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldType {
    /// A text of at most so many bytes of UTF-8.
    Text {
        bytes_max: usize,
    },
    /// At most `count_max` texts of at most `bytes_max` bytes each.
    Texts {
        bytes_max: usize,
        count_max: usize,
    },
    /// At most `count_max` ids of 16 bytes.
    Ids {
        count_max: usize,
    },
    Uint,
    Int64,
    /// A map with text keys.
    Map,
    /// A map with text keys, or null.
    MapOrNull,
    /// A map with text keys and at least `node`: the author's key.
    Summary,
    Stage,
    Claim,
    Member,
    Rotation,
    /// A step of a run; the register's id follows from it.
    Step,
    Question,
    Answer,
}

impl FieldType {
    /// The name in `merge.md`.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Text { bytes_max } => format!("text<={bytes_max}"),
            Self::Texts { bytes_max, count_max } => format!("[text<={bytes_max}]<={count_max}"),
            Self::Ids { count_max } => format!("[id16]<={count_max}"),
            Self::Uint => "uint".to_owned(),
            Self::Int64 => "int64".to_owned(),
            Self::Map | Self::Summary => "map".to_owned(),
            Self::MapOrNull => "map / null".to_owned(),
            Self::Stage => "stage".to_owned(),
            Self::Claim => "claim".to_owned(),
            Self::Member => "member".to_owned(),
            Self::Rotation => "rotation".to_owned(),
            Self::Step => "step".to_owned(),
            Self::Question => "question".to_owned(),
            Self::Answer => "answer".to_owned(),
        }
    }
}

/// One field of a register kind. A field's number is its place in [`Kind::fields`], from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    pub name: &'static str,
    pub value: FieldType,
    /// Whether a claim holder owns it: only then may a write carry a fence.
    pub fenced: bool,
    /// Whether it came after version 1 of the rules, or its kind did. A write that breaks a rule of such a field has no effect by itself and voids nothing:
    /// nodes that did not know the field counted the rest of its op.
    pub later: bool,
}

/// One register kind. Its number is its place in [`KINDS`], from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    pub name: &'static str,
    pub id_bytes: usize,
    pub fields: &'static [Field],
}

pub const ITEM: u8 = 1;
pub const CLAIM: u8 = 2;
pub const MEMBER: u8 = 3;
pub const NODE: u8 = 4;
pub const TOMBSTONE: u8 = 5;
pub const RUN: u8 = 6;
pub const ROTATION: u8 = 7;
pub const STEP: u8 = 8;
pub const REQUEST: u8 = 9;

const fn free(name: &'static str, value: FieldType) -> Field {
    Field { name, value, fenced: false, later: false }
}

const fn fenced(name: &'static str, value: FieldType) -> Field {
    Field { name, value, fenced: true, later: false }
}

const fn later(name: &'static str, value: FieldType) -> Field {
    Field { name, value, fenced: false, later: true }
}

const fn later_fenced(name: &'static str, value: FieldType) -> Field {
    Field { name, value, fenced: true, later: true }
}

/// Version of the rules of `merge.md` that are not in this table: who wins, what is void, which op kinds there are. Raised with any change of what
/// ops mean, so that no build takes over what another one made of them.
pub const MERGE_RULES: u32 = 4;

/// All kinds in order of their numbers. The list only grows; a number is never reused.
pub const KINDS: &[Kind] = &[
    Kind {
        name: "item",
        id_bytes: 16,
        fields: &[
            free("title", FieldType::Text { bytes_max: 200 }),
            free("body", FieldType::Text { bytes_max: 32_768 }),
            fenced("stage", FieldType::Stage),
            fenced("outcome", FieldType::Map),
            free("labels", FieldType::Texts { bytes_max: 64, count_max: 32 }),
            free("priority", FieldType::Int64),
            free("depends_on", FieldType::Ids { count_max: 64 }),
            free("created_ms", FieldType::Uint),
            free("hold", FieldType::MapOrNull),
            fenced("attempts", FieldType::Uint),
            later("person_hold", FieldType::MapOrNull),
            later_fenced("claim_hold", FieldType::MapOrNull),
        ],
    },
    Kind { name: "claim", id_bytes: 16, fields: &[free("claim", FieldType::Claim)] },
    Kind { name: "member", id_bytes: 32, fields: &[free("record", FieldType::Member)] },
    Kind { name: "node", id_bytes: 32, fields: &[free("name", FieldType::Text { bytes_max: 64 }), free("info", FieldType::Map)] },
    Kind { name: "tombstone", id_bytes: 16, fields: &[free("tombstone", FieldType::Map)] },
    Kind { name: "run", id_bytes: 16, fields: &[free("summary", FieldType::Summary)] },
    Kind { name: "rotation", id_bytes: 32, fields: &[later("rotation", FieldType::Rotation)] },
    Kind { name: "step", id_bytes: 32, fields: &[later_fenced("step", FieldType::Step)] },
    Kind {
        name: "request",
        id_bytes: 16,
        fields: &[later("question", FieldType::Question), later("answer", FieldType::Answer), later("withdrawn", FieldType::Map)],
    },
];

/// What a role allows, as bits: the classes of registers.
pub mod class {
    /// Any op, also one without writes.
    pub const ANY: u8 = 1;
    /// The author's own `node`.
    pub const NODE: u8 = 2;
    /// `claim`, `run`, `step`, questions, and of `item` what the one who works on it writes.
    pub const WORK: u8 = 4;
    /// Other fields of `item`, `tombstone`, and answers.
    pub const ITEM: u8 = 8;
    /// `member`: not by role alone.
    pub const MEMBER: u8 = 16;
    /// What a role that binds allows, by role.
    pub const OF_ROLE: [u8; 5] = [0, ANY | NODE, ANY | NODE | WORK, PEER, PEER];
    pub const PEER: u8 = ANY | NODE | WORK | ITEM;
}

/// The class of a register.
#[must_use]
#[inline]
pub fn class_of(kind: u8, field: u8) -> u8 {
    match (kind, field) {
        (ITEM, 3 | 4 | 9..=12) | (CLAIM | RUN | STEP, _) | (REQUEST, 1 | 3) => class::WORK,
        (ITEM | TOMBSTONE | REQUEST, _) => class::ITEM,
        (MEMBER, _) => class::MEMBER,
        (NODE, _) => class::NODE,
        _ => class::ANY,
    }
}

/// What the meaning of ops depends on, as one digest: a table of kinds, the version of the rules, the limits of a log.
#[must_use]
pub fn fingerprint(kinds: &[Kind], rules: u32) -> Digest {
    let text = format!("{rules} {LAMPORT_STEP_MAX} {LAMPORT_MAX} {HEADS_MAX} {kinds:?}");
    blake3::derive_key("fabrik 2026 v1 snapshot rules", text.as_bytes())
}

/// A register kind and field of this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    pub kind_number: u8,
    pub field_number: u8,
    pub kind: &'static Kind,
    pub field: &'static Field,
}

/// The entry of `(kind, field)`; none for those of a later version.
#[must_use]
#[inline]
pub fn lookup(kind: u64, field: u64) -> Option<Known> {
    let kind_number = u8::try_from(kind).ok()?;
    let field_number = u8::try_from(field).ok()?;
    let entry = kind_entry(kind_number)?;
    let field = entry.fields.get(usize::from(field_number).checked_sub(1)?)?;
    Some(Known { kind_number, field_number, kind: entry, field })
}

/// The entry of a kind.
#[must_use]
#[inline]
pub fn kind_entry(kind: u8) -> Option<&'static Kind> {
    KINDS.get(usize::from(kind).checked_sub(1)?)
}
