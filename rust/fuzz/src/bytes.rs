//! Choices from bytes. When they are used up, every choice is 0, so that a short input is a small world.

/// A script: bytes that are read as choices.
pub struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    pub fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    pub fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        let (byte, rest) = self.0.split_first().map_or((0, self.0), |(byte, rest)| (*byte, rest));
        self.0 = rest;
        byte
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        let high = if end > 256 { usize::from(self.byte()) << 8 } else { 0 };
        (high + usize::from(self.byte())) % end
    }

    /// At most `max` bytes; how many is a choice.
    pub fn some(&mut self, max: usize) -> &'a [u8] {
        let count = self.below(max + 1).min(self.0.len());
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken
    }
}
