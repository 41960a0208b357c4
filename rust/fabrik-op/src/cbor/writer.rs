//! Writing: shortest forms only. The caller writes map keys in order (or uses [`Writer::sorted_map`]).

/// An encoder into a growing buffer.
#[derive(Debug, Clone, Default)]
pub struct Writer {
    out: Vec<u8>,
}

impl Writer {
    #[must_use]
    pub const fn new() -> Self {
        Self { out: Vec::new() }
    }

    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self { out: Vec::with_capacity(bytes) }
    }

    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.out
    }

    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.out
    }

    /// Forgets what was written and keeps the memory.
    pub fn clear(&mut self) {
        self.out.clear();
    }

    pub fn uint(&mut self, number: u64) -> &mut Self {
        self.head(0, number)
    }

    pub fn int(&mut self, number: i64) -> &mut Self {
        if number < 0 { self.head(1, (-1 - number).unsigned_abs()) } else { self.head(0, number.unsigned_abs()) }
    }

    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.head(2, bytes.len() as u64).raw(bytes)
    }

    pub fn text(&mut self, text: &str) -> &mut Self {
        self.head(3, text.len() as u64).raw(text.as_bytes())
    }

    /// The head of an array; `count` items follow.
    pub fn array(&mut self, count: usize) -> &mut Self {
        self.head(4, count as u64)
    }

    /// The head of a map; `count` pairs follow in order of their encoded keys.
    pub fn map(&mut self, count: usize) -> &mut Self {
        self.head(5, count as u64)
    }

    pub fn bool(&mut self, value: bool) -> &mut Self {
        self.raw(if value { &[0xf5] } else { &[0xf4] })
    }

    pub fn null(&mut self) -> &mut Self {
        self.raw(&[0xf6])
    }

    /// Bytes that are encoded already.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.out.extend_from_slice(bytes);
        self
    }

    /// A map of encoded keys and values, sorted here. False, with nothing written, when two keys are equal.
    pub fn sorted_map(&mut self, mut pairs: Vec<(Vec<u8>, Vec<u8>)>) -> bool {
        pairs.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        if pairs.iter().zip(pairs.iter().skip(1)).any(|(one, next)| one.0 == next.0) {
            return false;
        }
        self.map(pairs.len());
        for (key, value) in &pairs {
            self.raw(key).raw(value);
        }
        true
    }

    #[inline]
    fn head(&mut self, major: u8, argument: u64) -> &mut Self {
        let kind = major << 5;
        let wide = argument.to_be_bytes();
        match argument {
            0..=23 => self.raw(&[kind | wide[7]]),
            24..=0xff => self.raw(&[kind | 0x18, wide[7]]),
            0x100..=0xffff => self.raw(&[kind | 0x19, wide[6], wide[7]]),
            0x1_0000..=0xffff_ffff => self.raw(&[kind | 0x1a]).raw(&wide[4..]),
            _ => self.raw(&[kind | 0x1b]).raw(&wide),
        }
    }
}
