//! Strict CBOR: one value, one encoding (RFC 8949 section 4.2.1).
//!
//! The reader accepts the deterministic encoding only: every head in its shortest form, definite lengths, the
//! fields of a map in their order, nothing left over. It is a few hundred bytes of code, a third of what it takes
//! to decode leniently, encode again and compare; that matters in stage0. Whoever writes encodes with `minicbor`
//! (feature `alloc`), so each side is checked by the other.

use boot_crypto::Sha256;

const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;

/// A value that is read from its one encoding.
pub trait Decode<'b>: Sized {
    /// Reads the value; `None` for anything else.
    fn decode(r: &mut Reader<'b>) -> Option<Self>;
}

/// Parses the one encoding of `T` that fills `untrusted`; otherwise tells the offset where that was noticed.
pub fn parse_exact<'b, T: Decode<'b>>(untrusted: &'b [u8]) -> Result<T, u32> {
    let mut r = Reader { rest: untrusted };
    match T::decode(&mut r) {
        Some(value) if r.rest.is_empty() => Ok(value),
        _ => Err(untrusted.len().saturating_sub(r.rest.len()) as u32),
    }
}

/// Reads items one after the other. Where a method returns `None`, the bytes are not what they must be.
pub struct Reader<'b> {
    rest: &'b [u8],
}

impl<'b> Reader<'b> {
    /// Starts at the first of these bytes.
    pub const fn new(untrusted: &'b [u8]) -> Self {
        Self { rest: untrusted }
    }

    /// Succeeds if nothing is left over.
    pub fn end(&self) -> Option<()> {
        self.rest.is_empty().then_some(())
    }

    /// Reads the head of an item of this major type and returns its argument (RFC 8949 section 3).
    #[inline(never)]
    fn head(&mut self, major: u8) -> Option<u64> {
        let (first, rest) = self.rest.split_first()?;
        if first >> 5 != major {
            return None;
        }
        // The argument, where it ends, and the least value that needs this form.
        let (argument, rest, least) = match first & 0x1F {
            small @ 0..24 => (u64::from(small), rest, 0),
            24 => wide::<1>(rest, 24)?,
            25 => wide::<2>(rest, 1 << 8)?,
            26 => wide::<4>(rest, 1 << 16)?,
            27 => wide::<8>(rest, 1 << 32)?,
            _ => return None,
        };
        if argument < least {
            return None;
        }
        self.rest = rest;
        Some(argument)
    }

    /// Reads an item of this major type with as many bytes as its head says.
    #[inline(never)]
    fn string(&mut self, major: u8) -> Option<&'b [u8]> {
        let length = usize::try_from(self.head(major)?).ok()?;
        let (string, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(string)
    }

    /// Reads an unsigned integer that fits `T`.
    pub fn uint<T: TryFrom<u64>>(&mut self) -> Option<T> {
        self.head(UNSIGNED)?.try_into().ok()
    }

    /// Reads a key of a map, 0 to 23.
    pub fn key(&mut self, key: u8) -> Option<()> {
        self.literal(&[key])
    }

    /// Reads a negative integer and returns its argument: -1 less the value.
    pub fn negative(&mut self) -> Option<u64> {
        self.head(NEGATIVE)
    }

    /// Reads a byte string.
    pub fn bytes(&mut self) -> Option<&'b [u8]> {
        self.string(BYTES)
    }

    /// Reads a byte string of exactly `N` bytes.
    pub fn fixed<const N: usize>(&mut self) -> Option<&'b [u8; N]> {
        self.string(BYTES)?.try_into().ok()
    }

    /// Reads a text.
    pub fn text(&mut self) -> Option<&'b str> {
        core::str::from_utf8(self.string(TEXT)?).ok()
    }

    /// Reads the name of a board: 1 to [`crate::MAX_NAME`] of `a-z`, `0-9`, `-`.
    #[inline(never)]
    pub fn name(&mut self) -> Option<&'b str> {
        let name = self.text()?;
        let plain = name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
        (plain && (1..=crate::MAX_NAME).contains(&name.len())).then_some(name)
    }

    /// Reads the head of an array of at most `most` items and returns their number.
    pub fn array_up_to(&mut self, most: usize) -> Option<usize> {
        usize::try_from(self.head(ARRAY)?).ok().filter(|items| *items <= most)
    }

    /// Reads the head of an array of exactly `items`.
    pub fn array(&mut self, items: u64) -> Option<()> {
        (self.head(ARRAY)? == items).then_some(())
    }

    /// Reads the head of a map of exactly `pairs`.
    pub fn map(&mut self, pairs: u64) -> Option<()> {
        (self.head(MAP)? == pairs).then_some(())
    }

    /// Reads exactly these bytes: the encoding of a constant.
    #[inline(never)]
    pub fn literal(&mut self, encoding: &[u8]) -> Option<()> {
        self.rest = self.rest.strip_prefix(encoding)?;
        Some(())
    }

    /// Reads `N` bytes as they are: the content of an item whose head was a [`Reader::literal`].
    pub fn raw<const N: usize>(&mut self) -> Option<&'b [u8; N]> {
        let (raw, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(raw)
    }
}

/// Reads an argument of `N` bytes, big-endian.
fn wide<const N: usize>(bytes: &[u8], least: u64) -> Option<(u64, &[u8], u64)> {
    let (argument, rest) = bytes.split_first_chunk::<N>()?;
    Some((argument.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)), rest, least))
}

/// Hashes the encoding of a byte string. None is as long as 4 GiB: metadata is bounded.
#[inline(never)]
pub fn hash_bytes(hash: &mut Sha256, bytes: &[u8]) {
    let length = (bytes.len() as u32).to_be_bytes();
    let [a, b, c, d] = length;
    match length {
        [0, 0, 0, 0..24] => hash.update(&[BYTES << 5 | d]),
        [0, 0, 0, _] => hash.update(&[BYTES << 5 | 24, d]),
        [0, 0, ..] => hash.update(&[BYTES << 5 | 25, c, d]),
        _ => hash.update(&[BYTES << 5 | 26, a, b, c, d]),
    }
    hash.update(bytes);
}

/// Tells whether [`Reader::name`] takes a name.
#[cfg(feature = "host")]
pub(crate) fn is_name(name: &str) -> bool {
    let encoded = encode(|e| e.str(name)?.ok());
    Reader::new(&encoded).name().is_some()
}

/// What an encoder that writes to a vector returns.
#[cfg(feature = "alloc")]
pub type Encoded = Result<(), minicbor::encode::Error<core::convert::Infallible>>;

/// Encodes with an independent encoder; the caller writes fields in the order of their keys.
#[cfg(feature = "alloc")]
pub fn encode(
    write: impl FnOnce(&mut minicbor::Encoder<alloc::vec::Vec<u8>>) -> Encoded,
) -> alloc::vec::Vec<u8> {
    let mut e = minicbor::Encoder::new(alloc::vec::Vec::new());
    // A vector takes every byte; if it ever did not, a truncated encoding is one that no reader takes.
    let _ = write(&mut e);
    e.into_writer()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(encoding: &[u8], major: u8) -> Option<u64> {
        Reader { rest: encoding }.head(major)
    }

    #[test]
    fn every_head_has_one_form() {
        let values = [
            0,
            1,
            23,
            24,
            25,
            255,
            256,
            65535,
            65536,
            u64::from(u32::MAX),
            u64::from(u32::MAX) + 1,
            u64::MAX,
        ];
        for value in values {
            let mut accepted = 0;
            let all_forms = [
                u8::try_from(value).ok().filter(|value| *value < 24).map(|value| vec![value]),
                u8::try_from(value).ok().map(|value| vec![24, value]),
                u16::try_from(value).ok().map(|value| [&[25], &value.to_be_bytes()[..]].concat()),
                u32::try_from(value).ok().map(|value| [&[26], &value.to_be_bytes()[..]].concat()),
                Some([&[27], &value.to_be_bytes()[..]].concat()),
            ];
            for form in all_forms.into_iter().flatten() {
                for length in 0..form.len() {
                    assert_eq!(head(&form[..length], UNSIGNED), None);
                }
                if let Some(read) = head(&form, UNSIGNED) {
                    assert_eq!(read, value);
                    accepted += 1;
                }
                assert_eq!(head(&form, BYTES), None, "another major type");
            }
            assert_eq!(accepted, 1, "{value}");
        }
        // Reserved and indefinite.
        assert!((28..32).all(|low| head(&[low; 9], UNSIGNED).is_none()));
    }

    #[test]
    fn strings_end_where_their_head_says() {
        let read = |encoding: &'static [u8]| Reader { rest: encoding }.bytes();
        assert_eq!(read(b"\x42ab"), Some(&b"ab"[..]));
        assert_eq!(read(b"\x42a"), None);
        assert_eq!(read(b"\x5B\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFFab"), None);
        assert_eq!(read(b"\x62ab"), None);
    }

    #[test]
    fn hashed_strings_are_what_an_independent_encoder_writes() {
        for length in [0, 1, 23, 24, 255, 256, 65535, 65536] {
            let bytes = vec![0xA5; length];
            let mut hash = Sha256::new();
            hash_bytes(&mut hash, &bytes);
            let encoded = encode(|e| e.bytes(&bytes)?.ok());
            assert_eq!(hash.finish(), boot_crypto::sha256(&encoded), "{length}");
        }
    }

    use std::vec;
}
