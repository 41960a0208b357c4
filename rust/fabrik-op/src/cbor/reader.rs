//! Reading: every call checks canonical form and leaves the reader behind what it read.

use std::fmt;
use std::ops::RangeInclusive;

use crate::limits::DEPTH_MAX;

/// Bytes that are not the canonical encoding of what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed {
    /// Offset in bytes from the start of the reader's input.
    pub at: usize,
    /// The rule that was broken.
    pub rule: &'static str,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {}: {}", self.at, self.rule)
    }
}

impl std::error::Error for Malformed {}

type Result<T> = std::result::Result<T, Malformed>;

/// The first part of an item: its type and its number or length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    Uint(u64),
    /// A negative integer, down to `i64::MIN`.
    Negative(i64),
    /// A byte string of this many bytes.
    Bytes(usize),
    /// A text of this many bytes.
    Text(usize),
    /// An array of this many items.
    Array(usize),
    /// A map of this many pairs.
    Map(usize),
    Bool(bool),
    Null,
}

/// A cursor over CBOR bytes that borrows all that it returns.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    data: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    #[must_use]
    pub const fn new(data: &'a [u8]) -> Self {
        Self { data, at: 0 }
    }

    /// Bytes read so far.
    #[must_use]
    pub const fn at(&self) -> usize {
        self.at
    }

    /// Refuses bytes after the item.
    pub fn end(&self) -> Result<()> {
        if self.at == self.data.len() { Ok(()) } else { Err(self.broken(self.at, "bytes after the item")) }
    }

    /// Reads the head of the next item.
    #[inline]
    pub fn head(&mut self) -> Result<Head> {
        let start = self.at;
        let first = self.byte()?;
        if first >= 0xe0 {
            return match first {
                0xf4 => Ok(Head::Bool(false)),
                0xf5 => Ok(Head::Bool(true)),
                0xf6 => Ok(Head::Null),
                0xf9..=0xfb => Err(self.broken(start, "a float")),
                0xff => Err(self.broken(start, "a break outside an indefinite item")),
                _ => Err(self.broken(start, "a simple value other than false, true and null")),
            };
        }
        let argument = self.argument(start, first & 0x1f)?;
        match first >> 5 {
            0 => Ok(Head::Uint(argument)),
            1 => match i64::try_from(argument) {
                Ok(number) => Ok(Head::Negative(-1 - number)),
                Err(_) => Err(self.broken(start, "a negative integer below -2^63")),
            },
            2 => Ok(Head::Bytes(self.length(start, argument, 1)?)),
            3 => Ok(Head::Text(self.length(start, argument, 1)?)),
            4 => Ok(Head::Array(self.length(start, argument, 1)?)),
            5 => Ok(Head::Map(self.length(start, argument, 2)?)),
            _ => Err(self.broken(start, "a tag")),
        }
    }

    pub fn uint(&mut self) -> Result<u64> {
        let start = self.at;
        match self.head()? {
            Head::Uint(number) => Ok(number),
            _ => Err(self.broken(start, "expected an unsigned integer")),
        }
    }

    /// An unsigned integer within `range`; `rule` says what it must be.
    pub fn uint_in(&mut self, range: RangeInclusive<u64>, rule: &'static str) -> Result<u64> {
        let start = self.at;
        match self.head()? {
            Head::Uint(number) if range.contains(&number) => Ok(number),
            _ => Err(self.broken(start, rule)),
        }
    }

    pub fn bytes(&mut self) -> Result<&'a [u8]> {
        let start = self.at;
        match self.head()? {
            Head::Bytes(length) => Ok(self.take(length)),
            _ => Err(self.broken(start, "expected a byte string")),
        }
    }

    /// A byte string of exactly `N` bytes; `rule` says what it must be.
    pub fn bytes_of<const N: usize>(&mut self, rule: &'static str) -> Result<[u8; N]> {
        let start = self.at;
        match self.head()? {
            Head::Bytes(length) => <[u8; N]>::try_from(self.take(length)).map_err(|_| self.broken(start, rule)),
            _ => Err(self.broken(start, rule)),
        }
    }

    pub fn text(&mut self) -> Result<&'a str> {
        let start = self.at;
        match self.head()? {
            Head::Text(length) => self.utf8(start, length),
            _ => Err(self.broken(start, "expected a text")),
        }
    }

    /// The number of items of an array.
    pub fn array(&mut self) -> Result<usize> {
        let start = self.at;
        match self.head()? {
            Head::Array(count) => Ok(count),
            _ => Err(self.broken(start, "expected an array")),
        }
    }

    /// The head of an array of exactly `count` items; `rule` says what it must be.
    pub fn array_of(&mut self, count: usize, rule: &'static str) -> Result<()> {
        let start = self.at;
        match self.head()? {
            Head::Array(found) if found == count => Ok(()),
            _ => Err(self.broken(start, rule)),
        }
    }

    /// The number of pairs of a map. The caller reads each key with [`Reader::key`].
    pub fn map(&mut self) -> Result<usize> {
        let start = self.at;
        match self.head()? {
            Head::Map(count) => Ok(count),
            _ => Err(self.broken(start, "expected a map")),
        }
    }

    /// Reads one map key, which must be greater than `before` (the bytes of the key before it, or none at the start).
    pub fn key(&mut self, before: &mut &'a [u8]) -> Result<Head> {
        let start = self.at;
        let head = self.head()?;
        match head {
            Head::Uint(_) | Head::Negative(_) => {}
            Head::Bytes(length) => {
                self.take(length);
            }
            Head::Text(length) => {
                self.utf8(start, length)?;
            }
            _ => return Err(self.broken(start, "a map key that is not an integer, byte string or text")),
        }
        let key = self.since(start);
        if !before.is_empty() && *before >= key {
            let rule = if *before == key { "a duplicate map key" } else { "map keys out of order" };
            return Err(self.broken(start, rule));
        }
        *before = key;
        Ok(head)
    }

    /// Checks one whole item that stands inside `open` arrays and maps, and returns its bytes.
    #[inline]
    pub fn item(&mut self, open: usize) -> Result<&'a [u8]> {
        let start = self.at;
        self.skip(open)?;
        Ok(self.since(start))
    }

    /// The bytes from `start` up to here.
    #[must_use]
    pub fn since(&self, start: usize) -> &'a [u8] {
        self.data.get(start..self.at).unwrap_or_default()
    }

    /// A [`Malformed`] at `at`.
    #[must_use]
    pub const fn broken(&self, at: usize, rule: &'static str) -> Malformed {
        Malformed { at, rule }
    }

    /// The next `length` bytes, which [`Reader::head`] has checked to be there.
    pub fn take(&mut self, length: usize) -> &'a [u8] {
        let start = self.at;
        self.at = start + length;
        self.since(start)
    }

    /// The next `length` bytes as text that begins (with its head) at `start`.
    pub fn utf8(&mut self, start: usize, length: usize) -> Result<&'a str> {
        std::str::from_utf8(self.take(length)).map_err(|_| self.broken(start, "a text that is not UTF-8"))
    }

    fn skip(&mut self, open: usize) -> Result<()> {
        let start = self.at;
        match self.head()? {
            Head::Uint(_) | Head::Negative(_) | Head::Bool(_) | Head::Null => Ok(()),
            Head::Bytes(length) => {
                self.take(length);
                Ok(())
            }
            Head::Text(length) => self.utf8(start, length).map(|_| ()),
            Head::Array(_) | Head::Map(_) if open >= DEPTH_MAX => Err(self.broken(start, "nested deeper than 16")),
            Head::Array(count) => (0..count).try_for_each(|_| self.skip(open + 1)),
            Head::Map(count) => {
                let mut before: &[u8] = &[];
                (0..count).try_for_each(|_| {
                    self.key(&mut before)?;
                    self.skip(open + 1)
                })
            }
        }
    }

    #[inline]
    fn argument(&mut self, start: usize, info: u8) -> Result<u64> {
        let (argument, floor) = match info {
            0..=23 => return Ok(u64::from(info)),
            24 => (u64::from(u8::from_be_bytes(self.array_bytes()?)), 24),
            25 => (u64::from(u16::from_be_bytes(self.array_bytes()?)), 1 << 8),
            26 => (u64::from(u32::from_be_bytes(self.array_bytes()?)), 1 << 16),
            27 => (u64::from_be_bytes(self.array_bytes()?), 1 << 32),
            31 => return Err(self.broken(start, "an indefinite length")),
            _ => return Err(self.broken(start, "a reserved encoding")),
        };
        if argument < floor { Err(self.broken(start, "an integer or length that is not in its shortest form")) } else { Ok(argument) }
    }

    /// A length in items of at least `size` bytes each, all of which must be there: no length is believed before.
    #[inline]
    fn length(&self, start: usize, argument: u64, size: usize) -> Result<usize> {
        let left = self.data.len() - self.at;
        match usize::try_from(argument) {
            Ok(length) if length <= left / size => Ok(length),
            _ => Err(self.broken(start, "a length beyond the end")),
        }
    }

    #[inline]
    fn byte(&mut self) -> Result<u8> {
        match self.data.get(self.at) {
            Some(&byte) => {
                self.at += 1;
                Ok(byte)
            }
            None => Err(self.broken(self.at, "the end came too early")),
        }
    }

    #[inline]
    fn array_bytes<const N: usize>(&mut self) -> Result<[u8; N]> {
        match self.data.get(self.at..).and_then(|rest| rest.first_chunk::<N>()) {
            Some(chunk) => {
                self.at += N;
                Ok(*chunk)
            }
            None => Err(self.broken(self.at, "the end came too early")),
        }
    }
}
