//! The register table of a later version: an item has one more field, and there is one more kind.

#[path = "../../src/schema.rs"]
mod this_version;

pub use this_version::{CLAIM, FieldType, ITEM, Kind, Known, MEMBER, MERGE_RULES, NODE, ROTATION, TOMBSTONE, class, class_of, fingerprint};
use this_version::{Field, KINDS as KNOWN};

/// Number of the new field of an item.
pub const DUE_MS: u8 = 13;
/// Number of the new kind.
pub const NOTE: u8 = 10;

const fn free(name: &'static str, value: FieldType) -> Field {
    Field { name, value, fenced: false, later: true }
}

const OLD: &[Field] = KNOWN[0].fields;
const ITEM_FIELDS: &[Field] =
    &[OLD[0], OLD[1], OLD[2], OLD[3], OLD[4], OLD[5], OLD[6], OLD[7], OLD[8], OLD[9], OLD[10], OLD[11], free("due_ms", FieldType::Uint)];

pub const KINDS: &[Kind] = &[
    Kind { name: "item", id_bytes: 16, fields: ITEM_FIELDS },
    KNOWN[1],
    KNOWN[2],
    KNOWN[3],
    KNOWN[4],
    KNOWN[5],
    KNOWN[6],
    KNOWN[7],
    KNOWN[8],
    Kind { name: "note", id_bytes: 16, fields: &[free("text", FieldType::Text { bytes_max: 100 })] },
];

pub fn lookup(kind: u64, field: u64) -> Option<Known> {
    let (kind_number, field_number) = (u8::try_from(kind).ok()?, u8::try_from(field).ok()?);
    let kind = kind_entry(kind_number)?;
    let field = kind.fields.get(usize::from(field_number).checked_sub(1)?)?;
    Some(Known { kind_number, field_number, kind, field })
}

pub fn kind_entry(kind: u8) -> Option<&'static Kind> {
    KINDS.get(usize::from(kind).checked_sub(1)?)
}
