//! The claim value: one atomic statement about who works on an item.

use fabrik_op::cbor::{Head, Malformed, Reader};
use fabrik_op::{Fence, Key};

/// What the merge needs of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The claim's own receipt, epoch and id: the fence of what its holder writes.
    pub fence: Fence,
    /// 0 tentative, 1 confirmed, 2 released.
    pub state: u8,
    pub node: Key,
}

impl Claim {
    /// Reads and checks a whole claim value.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let start = reader.at();
        let count = reader.map()?;
        let mut left = Keys { left: count };
        left.required(reader, 1)?;
        let claim_id = reader.bytes_of::<16>("claim id must be 16 bytes")?;
        left.required(reader, 2)?;
        let epoch = reader.uint()?;
        left.required(reader, 3)?;
        let receipt = reader.uint()?;
        left.required(reader, 4)?;
        let at = reader.at();
        let state = match reader.uint()? {
            0 => 0,
            1 => 1,
            2 => 2,
            _ => return Err(reader.broken(at, "claim state must be 0, 1 or 2")),
        };
        left.required(reader, 5)?;
        let node = reader.bytes_of::<32>("claim node must be 32 bytes")?;
        left.required(reader, 6)?;
        reader.text()?;
        left.required(reader, 7)?;
        reader.uint()?;
        left.required(reader, 8)?;
        reader.text()?;
        let mut before: &[u8] = &[];
        for _ in 0..left.left {
            let at = reader.at();
            match reader.key(&mut before)? {
                Head::Uint(9) => {
                    reader.text()?;
                }
                Head::Uint(10) => {
                    reader.bytes()?;
                }
                Head::Uint(11) => {
                    reader.bytes_of::<16>("the claim id that it follows must be 16 bytes")?;
                }
                Head::Uint(key) if key > 11 => {
                    reader.item(1)?;
                }
                _ => return Err(reader.broken(at, "an unknown claim key must be an integer above 11")),
            }
        }
        debug_assert!(reader.at() > start);
        Ok(Self { fence: Fence { receipt, epoch, claim_id }, state, node })
    }

    /// The claim of a value that was checked before.
    #[must_use]
    pub fn of(value: &[u8]) -> Option<Self> {
        Self::read(&mut Reader::new(value)).ok()
    }
}

/// Required keys stand first, in order.
struct Keys {
    left: usize,
}

impl Keys {
    fn required(&mut self, reader: &mut Reader<'_>, key: u64) -> Result<(), Malformed> {
        let at = reader.at();
        match self.left.checked_sub(1) {
            Some(left) if reader.uint()? == key => {
                self.left = left;
                Ok(())
            }
            _ => Err(reader.broken(at, "a claim needs the keys 1 to 8")),
        }
    }
}
