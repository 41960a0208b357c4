//! Values that are maps with integer keys, as data: steps of a run, questions to people and their answers.

use fabrik_op::cbor::{Head, Malformed, Reader};

/// The type of one part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Is {
    /// So many bytes.
    Bytes(usize),
    /// The name of a git object.
    Object,
    /// A text of `0` to `1` bytes of UTF-8.
    Text(usize, usize),
    /// At most `1` texts of 1 to `0` bytes each.
    Texts(usize, usize),
    /// An unsigned integer up to this one.
    Uint(u64),
    Bool,
}

/// One key of such a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    key: u64,
    is: Is,
    required: bool,
}

const fn part(key: u64, is: Is) -> Part {
    Part { key, is, required: true }
}

const fn may(key: u64, is: Is) -> Part {
    Part { key, is, required: false }
}

/// In order of their keys.
pub const STEP: &[Part] = &[
    part(1, Is::Bytes(16)),
    part(2, Is::Text(1, 100)),
    part(3, Is::Uint(3)),
    part(4, Is::Bytes(32)),
    part(5, Is::Uint(u64::MAX)),
    part(6, Is::Bytes(16)),
    part(7, Is::Bytes(16)),
    may(8, Is::Object),
    may(9, Is::Uint(255)),
    part(10, Is::Uint(u64::MAX)),
    may(11, Is::Bool),
    may(12, Is::Text(0, 1_000)),
];
pub const QUESTION: &[Part] = &[
    part(1, Is::Bytes(16)),
    part(2, Is::Bytes(16)),
    part(3, Is::Bytes(16)),
    part(4, Is::Text(1, 4_096)),
    part(5, Is::Texts(200, 16)),
    may(6, Is::Uint(u64::MAX)),
    may(7, Is::Text(0, 200)),
    part(8, Is::Uint(u64::MAX)),
];
pub const ANSWER: &[Part] = &[part(1, Is::Text(1, 4_096)), part(2, Is::Uint(u64::MAX)), may(3, Is::Text(0, 4_096)), part(4, Is::Text(1, 32))];

/// Reads and checks a whole map. Keys above the last one are of a later version, and may be anything.
pub fn read(reader: &mut Reader<'_>, parts: &[Part]) -> Result<(), Malformed> {
    let start = reader.at();
    let last = parts.last().map_or(0, |part| part.key);
    let mut left = parts.iter();
    let mut before: &[u8] = &[];
    for _ in 0..reader.map()? {
        let at = reader.at();
        match reader.key(&mut before)? {
            Head::Uint(key) if key > last => {
                reader.item(1)?;
            }
            Head::Uint(key) => match left.find(|part| part.required || part.key == key) {
                Some(part) if part.key == key => check(reader, part.is)?,
                _ => return Err(reader.broken(at, "a key that is missing or unknown")),
            },
            _ => return Err(reader.broken(at, "a key that is no integer")),
        }
    }
    if left.any(|part| part.required) { Err(reader.broken(start, "a required key is missing")) } else { Ok(()) }
}

/// Item and name of a step whose value was checked before.
#[must_use]
pub fn step_name(value: &[u8]) -> Option<([u8; 16], &str)> {
    let mut reader = Reader::new(value);
    reader.map().ok()?;
    reader.uint().ok()?;
    let item = reader.bytes_of("").ok()?;
    reader.uint().ok()?;
    Some((item, reader.text().ok()?))
}

fn check(reader: &mut Reader<'_>, is: Is) -> Result<(), Malformed> {
    let at = reader.at();
    let fits = match is {
        Is::Bytes(count) => reader.bytes()?.len() == count,
        Is::Object => matches!(reader.bytes()?.len(), 20 | 32),
        Is::Text(least, most) => (least..=most).contains(&reader.text()?.len()),
        Is::Texts(bytes_max, count_max) => {
            let count = reader.array()?;
            for _ in 0..count.min(count_max) {
                check(reader, Is::Text(1, bytes_max))?;
            }
            count <= count_max
        }
        Is::Uint(most) => reader.uint()? <= most,
        Is::Bool => matches!(reader.head()?, Head::Bool(_)),
    };
    if fits { Ok(()) } else { Err(reader.broken(at, "a part outside its bounds")) }
}
