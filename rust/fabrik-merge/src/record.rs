//! What member records and rotations say.

use fabrik_op::cbor::{Head, Malformed, Reader, Writer};
use fabrik_op::hash::{next_key, rotation_message};
use fabrik_op::limits::{EPOCH_MAX, SEQ_MAX};
use fabrik_op::{Digest, Key, Signature, SigningKey, verify_strict};

/// An op of a key that a record names, by its place in that key's logs. 32 zero bytes for the chain hash: none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Spot {
    pub epoch: u64,
    pub seq: u64,
    pub head: Digest,
}

impl Spot {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        reader.array_of(3, "expected the place [epoch, seq, digest]")?;
        Ok(Self {
            epoch: reader.uint_in(1..=EPOCH_MAX, "epoch must be 1..2^53-1")?,
            seq: reader.uint_in(1..=SEQ_MAX, "seq must be 1..2^53")?,
            head: reader.bytes_of("the head of a place must be 32 bytes")?,
        })
    }

    fn read_all(reader: &mut Reader<'_>) -> Result<Vec<Self>, Malformed> {
        (0..reader.array()?).map(|_| Self::read(reader)).collect()
    }

    fn write_all(list: &[Self], writer: &mut Writer) {
        writer.array(list.len());
        for spot in list {
            writer.array(3).uint(spot.epoch).uint(spot.seq).bytes(&spot.head);
        }
    }
}

/// A member record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// 0 none, 1 reader, 2 agent, 3 peer, 4 admin.
    pub role: u8,
    /// It binds, and so not what is within these; none when it does not bind.
    pub places: Option<Vec<Spot>>,
    /// The commitment to the member's next key.
    pub next: Option<Digest>,
    /// A key that came after version 1 has another type, and counts as if it was not there.
    pub odd: bool,
}

impl Record {
    /// Reads and checks a whole member record.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let count = reader.map()?;
        let at = reader.at();
        if count == 0 || reader.uint()? != 1 {
            return Err(reader.broken(at, "a member record needs the key 1"));
        }
        let role = u8::try_from(reader.uint_in(0..=4, "a role must be 0..4")?).unwrap_or_default();
        let (mut from, mut more, mut next, mut odd) = (None, Vec::new(), None, false);
        let mut before: &[u8] = &[];
        for _ in 1..count {
            let at = reader.at();
            match reader.key(&mut before)? {
                Head::Uint(2) => {
                    let at = reader.at();
                    if reader.text()?.len() > 64 {
                        return Err(reader.broken(at, "a member's name must be at most 64 bytes"));
                    }
                }
                Head::Uint(3) => from = Some(Spot::read(reader)?),
                Head::Uint(4) => match Spot::read_all(&mut Reader::new(reader.item(1)?)) {
                    Ok(spots) => more = spots,
                    Err(_) => odd = true,
                },
                Head::Uint(5) => match Reader::new(reader.item(1)?).bytes_of("") {
                    Ok(digest) => next = Some(digest),
                    Err(_) => odd = true,
                },
                Head::Uint(key) if key > 5 => {
                    reader.item(1)?;
                }
                _ => return Err(reader.broken(at, "an unknown member key must be an integer above 3")),
            }
        }
        let places = from.map(|from| std::iter::once(from).chain(more).collect());
        Ok(Self { role, places, next, odd })
    }

    /// The record of a value that was checked before.
    #[must_use]
    pub fn of(value: &[u8]) -> Option<Self> {
        Self::read(&mut Reader::new(value)).ok()
    }

    /// Its subject is out, and for good: only what is within its places stays.
    #[must_use]
    pub fn revokes(&self) -> bool {
        self.role == 0 && self.places.is_some()
    }
}

/// A key's statement about the one that follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotation {
    pub new: Key,
    sig: Signature,
    /// The commitment to the key after the new one.
    pub next: Option<Digest>,
    /// What stays of the old key's other logs and branches.
    pub keeps: Vec<Spot>,
    /// The value without its signature.
    rest: Vec<u8>,
}

impl Rotation {
    /// Reads and checks a whole rotation but its signature.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let count = reader.map()?;
        let at = reader.at();
        if count < 2 || reader.uint()? != 1 {
            return Err(reader.broken(at, "a rotation needs the keys 1 and 2"));
        }
        let new = reader.bytes_of("a new key must be 32 bytes")?;
        let at = reader.at();
        if reader.uint()? != 2 {
            return Err(reader.broken(at, "a rotation needs the keys 1 and 2"));
        }
        let sig = reader.bytes_of("the signature of a rotation must be 64 bytes")?;
        let mut rest = Writer::new();
        rest.map(count - 1).uint(1).bytes(&new);
        let (mut next, mut keeps) = (None, Vec::new());
        let mut before: &[u8] = &[];
        for _ in 2..count {
            let at = reader.at();
            match reader.key(&mut before)? {
                Head::Uint(3) => next = Some(reader.bytes_of("the commitment of a rotation must be 32 bytes")?),
                Head::Uint(4) => keeps = Spot::read_all(reader)?,
                Head::Uint(key) if key > 4 => {
                    reader.item(1)?;
                }
                _ => return Err(reader.broken(at, "an unknown rotation key must be an integer above 4")),
            }
            rest.raw(reader.since(at));
        }
        Ok(Self { new, sig, next, keeps, rest: rest.into_bytes() })
    }

    /// The rotation of a value that was checked before.
    #[must_use]
    pub fn of(value: &[u8]) -> Option<Self> {
        Self::read(&mut Reader::new(value)).ok()
    }

    /// Whether the new key agrees to follow `old` by the op at `seq` behind the chain hash `before`.
    #[must_use]
    pub fn is_signed(&self, mesh_id: &Digest, old: &Key, epoch: u64, seq: u64, before: &Digest) -> bool {
        self.new != *old && verify_strict(&self.new, &rotation_message(mesh_id, old, epoch, seq, before, &self.rest), &self.sig).is_ok()
    }

    #[must_use]
    pub fn commitment(&self) -> Digest {
        next_key(&self.new)
    }

    /// The value of a rotation of `old` to `new` by the op at `seq` behind the chain hash `before`.
    #[must_use]
    pub fn sign(mesh_id: &Digest, old: &Key, (epoch, seq, before): (u64, u64, &Digest), new: &SigningKey, next: Option<&Digest>, keeps: &[Spot]) -> Vec<u8> {
        let count = 1 + usize::from(next.is_some()) + usize::from(!keeps.is_empty());
        let tail = |writer: &mut Writer| {
            if let Some(next) = next {
                writer.uint(3).bytes(next);
            }
            if !keeps.is_empty() {
                writer.uint(4);
                Spot::write_all(keeps, writer);
            }
        };
        let mut rest = Writer::new();
        rest.map(count).uint(1).bytes(&new.public());
        tail(&mut rest);
        let sig = new.sign(&rotation_message(mesh_id, old, epoch, seq, before, rest.as_bytes()));
        let mut value = Writer::new();
        value.map(count + 1).uint(1).bytes(&new.public()).uint(2).bytes(&sig);
        tail(&mut value);
        value.into_bytes()
    }
}
