//! The names of rows.

use std::ops::RangeInclusive;

use crate::schema;

/// The kind and id of a register; orders like the bytes of its key in the state digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowKey([u8; 33]);

impl RowKey {
    /// The caller has checked that `id` has the kind's length.
    #[must_use]
    #[inline]
    pub fn new(kind: u8, id: &[u8]) -> Self {
        let mut key = [0; 33];
        key[0] = kind;
        for (to, from) in key[1..].iter_mut().zip(id) {
            *to = *from;
        }
        Self(key)
    }

    #[must_use]
    pub fn kind(&self) -> u8 {
        self.0[0]
    }

    #[must_use]
    pub fn id(&self) -> &[u8] {
        let bytes = schema::kind_entry(self.kind()).map_or(0, |kind| kind.id_bytes);
        self.0.get(1..=bytes).unwrap_or_default()
    }

    /// In which bucket it is.
    #[must_use]
    pub fn bucket(&self) -> u8 {
        self.id().last().copied().unwrap_or_default()
    }

    /// Every key of a kind.
    pub fn all_of(kind: u8) -> RangeInclusive<Self> {
        let (mut first, mut last) = (Self([0; 33]), Self([0xff; 33]));
        (first.0[0], last.0[0]) = (kind, kind);
        first..=last
    }
}
