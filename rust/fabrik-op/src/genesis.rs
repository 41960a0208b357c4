//! The genesis record: not an op; its digest is the mesh id.

use crate::cbor::{Head, Malformed, Reader, Writer};
use crate::hash::{Digest, mesh_id};
use crate::key::Key;
use crate::limits::{MESH_NAME_BYTES_MAX, OP_BYTES_MAX, WALL_MS_MAX};
use crate::refused::Refused;

/// A decoded genesis record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Genesis {
    pub mesh_id: Digest,
    pub admin: Key,
    pub name: String,
    pub created_ms: u64,
    /// The recovery key, kept off the hosts; never the admin's.
    pub recovery: Option<Key>,
    /// The commitment to the admin's next key.
    pub next: Option<Digest>,
}

impl Genesis {
    /// Refuses what is not the canonical encoding of a genesis record of version 1.
    pub fn decode(data: &[u8]) -> Result<Self, Refused> {
        if data.len() > OP_BYTES_MAX {
            return Err(Refused::Genesis(format!("genesis record: {} bytes are more than {OP_BYTES_MAX}", data.len())));
        }
        read(data).map_err(|malformed| Refused::Genesis(format!("genesis record: {malformed}")))
    }
}

fn read(data: &[u8]) -> Result<Genesis, Malformed> {
    let mut reader = Reader::new(data);
    let count = reader.map()?;
    let mut before: &[u8] = &[];
    expect(&mut reader, 1)?;
    reader.uint_in(1..=1, "an unknown version")?;
    expect(&mut reader, 2)?;
    let admin = reader.bytes_of::<32>("the admin key must be 32 bytes")?;
    expect(&mut reader, 3)?;
    let at = reader.at();
    let name = reader.text()?;
    if name.is_empty() || name.len() > MESH_NAME_BYTES_MAX {
        return Err(reader.broken(at, "the mesh name must be 1 to 64 bytes"));
    }
    expect(&mut reader, 4)?;
    reader.bytes_of::<16>("the nonce must be 16 bytes")?;
    expect(&mut reader, 5)?;
    let created_ms = reader.uint_in(0..=WALL_MS_MAX, "the creation time must be at most 2^53")?;
    let (mut recovery, mut next) = (None, None);
    for _ in 5..count {
        let at = reader.at();
        match reader.key(&mut before)? {
            Head::Uint(6) => recovery = bytes32(reader.item(1)?).filter(|key| *key != admin),
            Head::Uint(7) => next = bytes32(reader.item(1)?),
            Head::Uint(key) if key > 7 => {
                reader.item(1)?;
            }
            _ => return Err(reader.broken(at, "an unknown key must be an integer above 5")),
        }
    }
    if count < 5 {
        return Err(reader.broken(0, MISSING_FIELD));
    }
    reader.end()?;
    Ok(Genesis { mesh_id: mesh_id(data), admin, name: name.to_owned(), created_ms, recovery, next })
}

/// Keys 6 and 7 came later: of another type they are as if they were not there.
fn bytes32(item: &[u8]) -> Option<[u8; 32]> {
    let mut reader = Reader::new(item);
    reader.bytes_of::<32>("").ok()
}

fn expect(reader: &mut Reader<'_>, wanted: u64) -> Result<(), Malformed> {
    reader.uint_in(wanted..=wanted, MISSING_FIELD).map(|_| ())
}

const MISSING_FIELD: &str = "expected the keys 1 to 5 in order";

/// What a genesis record says besides the first admin's key.
#[derive(Debug, Clone, Copy)]
pub struct GenesisTerms<'a> {
    pub name: &'a str,
    pub nonce: &'a [u8; 16],
    pub created_ms: u64,
    pub recovery: Option<&'a Key>,
    /// The commitment to the admin's next key.
    pub next: Option<&'a Digest>,
}

/// A genesis record; the nonce is 16 random bytes. Refuses a name or time that the format has no place for.
pub fn encode_genesis_with(admin: &Key, terms: &GenesisTerms<'_>) -> Result<Vec<u8>, Refused> {
    let mut writer = Writer::with_capacity(192);
    writer.map(5 + usize::from(terms.recovery.is_some()) + usize::from(terms.next.is_some()));
    writer.uint(1).uint(1).uint(2).bytes(admin).uint(3).text(terms.name).uint(4).bytes(terms.nonce).uint(5).uint(terms.created_ms);
    if let Some(recovery) = terms.recovery {
        writer.uint(6).bytes(recovery);
    }
    if let Some(next) = terms.next {
        writer.uint(7).bytes(next);
    }
    let data = writer.into_bytes();
    Genesis::decode(&data)?;
    Ok(data)
}

/// A genesis record without recovery key and next key.
pub fn encode_genesis(admin: &Key, name: &str, nonce: &[u8; 16], created_ms: u64) -> Result<Vec<u8>, Refused> {
    encode_genesis_with(admin, &GenesisTerms { name, nonce, created_ms, recovery: None, next: None })
}
