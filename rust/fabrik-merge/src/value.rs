//! Whether a value has its field's type.

use fabrik_op::Key;
use fabrik_op::cbor::{Head, Malformed, Reader};
use fabrik_op::hash::step_id;

use crate::claim::Claim;
use crate::parts;
use crate::record::{Record, Rotation};
use crate::schema::FieldType;

/// What a well-typed value says about who may write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    Nobody,
    /// The value names this key, which must be the author's.
    Node(Key),
    /// The id of its register follows from the value.
    Row([u8; 32]),
}

/// Checks `value`, canonical CBOR of one item, against its type.
pub fn check(kind: FieldType, value: &[u8]) -> Result<Names, Malformed> {
    let mut reader = Reader::new(value);
    let names = read(kind, &mut reader)?;
    reader.end()?;
    Ok(names)
}

fn read(kind: FieldType, reader: &mut Reader<'_>) -> Result<Names, Malformed> {
    match kind {
        FieldType::Text { bytes_max } => text(reader, 0, bytes_max, "a text that is too long")?,
        FieldType::Texts { bytes_max, count_max } => {
            for _ in 0..count(reader, count_max)? {
                text(reader, 0, bytes_max, "a text that is too long")?;
            }
        }
        FieldType::Ids { count_max } => {
            for _ in 0..count(reader, count_max)? {
                reader.bytes_of::<16>("an id must be 16 bytes")?;
            }
        }
        FieldType::Uint => {
            reader.uint()?;
        }
        FieldType::Int64 => {
            let at = reader.at();
            match reader.head()? {
                Head::Uint(number) if i64::try_from(number).is_ok() => {}
                Head::Negative(_) => {}
                _ => return Err(reader.broken(at, "expected an integer of 64 bits with sign")),
            }
        }
        FieldType::Map => {
            text_map(reader)?;
        }
        FieldType::MapOrNull => {
            if matches!(reader.clone().head()?, Head::Null) {
                reader.head()?;
            } else {
                text_map(reader)?;
            }
        }
        FieldType::Summary => {
            return text_map(reader)?.map(Names::Node).ok_or_else(|| reader.broken(0, "a run summary needs \"node\": a key of 32 bytes"));
        }
        FieldType::Stage => stage(reader)?,
        FieldType::Claim => return Ok(Names::Node(Claim::read(reader)?.node)),
        FieldType::Member => {
            Record::read(reader)?;
        }
        FieldType::Rotation => {
            Rotation::read(reader)?;
        }
        FieldType::Step => {
            let start = reader.at();
            parts::read(reader, parts::STEP)?;
            return Ok(parts::step_name(reader.since(start)).map_or(Names::Nobody, |(item, name)| Names::Row(step_id(&item, name))));
        }
        FieldType::Question => parts::read(reader, parts::QUESTION)?,
        FieldType::Answer => parts::read(reader, parts::ANSWER)?,
    }
    Ok(Names::Nobody)
}

fn stage(reader: &mut Reader<'_>) -> Result<(), Malformed> {
    const SHAPE: &str = "not a stage of this version";
    let at = reader.at();
    let count = reader.array()?;
    if count == 0 {
        return Err(reader.broken(at, SHAPE));
    }
    match (reader.uint()?, count) {
        (0..=2, 1) => Ok(()),
        (3, 3) => {
            text(reader, 1, 255, "a feature branch must be 1 to 255 bytes")?;
            reader.uint_in(1..=u64::from(u32::MAX), "commits ahead must be 1..2^32-1").map(|_| ())
        }
        (4, 3) => {
            reader.uint()?;
            let at = reader.at();
            match reader.bytes()?.len() {
                20 | 32 => Ok(()),
                _ => Err(reader.broken(at, "a merge commit must be 20 or 32 bytes")),
            }
        }
        (5, 3) => {
            reader.uint()?;
            reader.uint_in(0..=5, "an archive reason must be 0..5").map(|_| ())
        }
        _ => Err(reader.broken(at, SHAPE)),
    }
}

fn text(reader: &mut Reader<'_>, bytes_min: usize, bytes_max: usize, rule: &'static str) -> Result<(), Malformed> {
    let at = reader.at();
    let length = reader.text()?.len();
    if (bytes_min..=bytes_max).contains(&length) { Ok(()) } else { Err(reader.broken(at, rule)) }
}

fn count(reader: &mut Reader<'_>, count_max: usize) -> Result<usize, Malformed> {
    let at = reader.at();
    let count = reader.array()?;
    if count <= count_max { Ok(count) } else { Err(reader.broken(at, "a list that is too long")) }
}

/// Checks a map with text keys; its `node` when that is a key.
fn text_map(reader: &mut Reader<'_>) -> Result<Option<Key>, Malformed> {
    const NODE: &[u8] = b"\x64node";
    let mut node = None;
    let mut before: &[u8] = &[];
    for _ in 0..reader.map()? {
        let at = reader.at();
        if !matches!(reader.key(&mut before)?, Head::Text(_)) {
            return Err(reader.broken(at, "a map key that is not a text"));
        }
        let value = reader.item(1)?;
        if before == NODE {
            node = Reader::new(value).bytes_of::<32>("").ok();
        }
    }
    Ok(node)
}
