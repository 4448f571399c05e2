//! Strict CBOR: one value, one encoding (RFC 8949 section 4.2.1).
//!
//! Everything is decoded, encoded again, and compared with what came: whatever the decoder would forgive (longer
//! integers, indefinite lengths, another order, bytes left over) does not come out the same.

use boot_crypto::{Digest, Sha256};
use core::convert::Infallible;
use minicbor::data::Tag;
use minicbor::encode::{self, Write};
use minicbor::{Decoder, Encoder};

/// A value with exactly one encoding.
pub(crate) trait Canonical<'b>: Sized {
    /// Reads the value; may be lax about how it is encoded, never about what it says.
    fn decode(d: &mut Decoder<'b>) -> Option<Self>;

    /// Writes the one encoding.
    fn encode(&self, e: &mut Writer<'_>);
}

/// Encodes into a sink.
pub(crate) struct Writer<'a>(Encoder<Sink<'a>>);

// Not inlined: what is written is spelled out often, and stage0 has little room.
impl Writer<'_> {
    #[inline(never)]
    pub(crate) fn uint(&mut self, value: u64) -> &mut Self {
        let written = self.0.u64(value).map(drop);
        self.check(written)
    }

    #[inline(never)]
    pub(crate) fn int(&mut self, value: i8) -> &mut Self {
        let written = self.0.i8(value).map(drop);
        self.check(written)
    }

    #[inline(never)]
    pub(crate) fn bytes(&mut self, value: &[u8]) -> &mut Self {
        let written = self.0.bytes(value).map(drop);
        self.check(written)
    }

    #[inline(never)]
    pub(crate) fn text(&mut self, value: &str) -> &mut Self {
        let written = self.0.str(value).map(drop);
        self.check(written)
    }

    #[inline(never)]
    pub(crate) fn array(&mut self, items: u64) -> &mut Self {
        let written = self.0.array(items).map(drop);
        self.check(written)
    }

    #[inline(never)]
    pub(crate) fn map(&mut self, pairs: u64) -> &mut Self {
        let written = self.0.map(pairs).map(drop);
        self.check(written)
    }

    #[inline(never)]
    pub(crate) fn tag(&mut self, number: u64) -> &mut Self {
        let written = self.0.tag(Tag::new(number)).map(drop);
        self.check(written)
    }

    /// A sink takes every byte; if the encoder fails all the same, what was written matches nothing.
    fn check(&mut self, written: Result<(), encode::Error<Infallible>>) -> &mut Self {
        if written.is_err() {
            *self.0.writer_mut() = Sink::Expect(None);
        }
        self
    }
}

/// Parses the one encoding of `T` that fills `untrusted`; otherwise tells the offset where that was noticed.
pub(crate) fn parse_exact<'b, T: Canonical<'b>>(untrusted: &'b [u8]) -> Result<T, usize> {
    let mut d = Decoder::new(untrusted);
    let value = T::decode(&mut d).ok_or(d.position())?;
    let mut e = Writer(Encoder::new(Sink::Expect(Some(untrusted))));
    value.encode(&mut e);
    match e.0.into_writer() {
        Sink::Expect(Some([])) => Ok(value),
        _ => Err(d.position()),
    }
}

/// Hashes what `write` writes.
pub(crate) fn digest_of(write: impl FnOnce(&mut Writer<'_>)) -> Digest {
    let mut e = Writer(Encoder::new(Sink::Hash(Sha256::new())));
    write(&mut e);
    match e.0.into_writer() {
        Sink::Hash(hash) => hash.finish(),
        // Cannot be; and the digest of nothing is the digest of no key and of no structure.
        _ => Sha256::new().finish(),
    }
}

/// Where encoded bytes go.
pub(crate) enum Sink<'a> {
    /// They must be these; `None` after they differed.
    Expect(Option<&'a [u8]>),
    /// Into a hash.
    Hash(Sha256),
    /// Into memory.
    #[cfg(feature = "host")]
    Memory(std::vec::Vec<u8>),
}

impl Write for Sink<'_> {
    type Error = Infallible;

    #[inline(never)]
    fn write_all(&mut self, bytes: &[u8]) -> Result<(), Infallible> {
        match self {
            Self::Expect(rest) => *rest = rest.and_then(|rest| rest.strip_prefix(bytes)),
            Self::Hash(hash) => hash.update(bytes),
            #[cfg(feature = "host")]
            Self::Memory(memory) => memory.extend_from_slice(bytes),
        }
        Ok(())
    }
}

// The decoder's errors are large and every caller drops them: each method is called from one place only.

/// Reads an integer.
#[inline(never)]
fn integer(d: &mut Decoder<'_>) -> Option<i128> {
    d.int().ok().map(i128::from)
}

/// Reads an unsigned integer that fits `T`.
pub(crate) fn uint<T: TryFrom<i128>>(d: &mut Decoder<'_>) -> Option<T> {
    integer(d)?.try_into().ok()
}

/// Reads the integer `expected`.
#[inline(never)]
pub(crate) fn int(d: &mut Decoder<'_>, expected: i8) -> Option<()> {
    (integer(d)? == i128::from(expected)).then_some(())
}

/// Reads the tag `expected`.
pub(crate) fn tag(d: &mut Decoder<'_>, expected: u64) -> Option<()> {
    (d.tag().ok()?.as_u64() == expected).then_some(())
}

/// Reads the header of an array of known length.
#[inline(never)]
pub(crate) fn array_len(d: &mut Decoder<'_>) -> Option<u64> {
    d.array().ok()?
}

/// Reads an array header of exactly `count` items.
pub(crate) fn array(d: &mut Decoder<'_>, count: u64) -> Option<()> {
    (array_len(d)? == count).then_some(())
}

/// Reads the header of a map of known length.
#[inline(never)]
pub(crate) fn map_len(d: &mut Decoder<'_>) -> Option<u64> {
    d.map().ok()?
}

/// Reads a map header of exactly `count` pairs.
pub(crate) fn map(d: &mut Decoder<'_>, count: u64) -> Option<()> {
    (map_len(d)? == count).then_some(())
}

/// Reads a byte string.
#[inline(never)]
pub(crate) fn bytes<'b>(d: &mut Decoder<'b>) -> Option<&'b [u8]> {
    d.bytes().ok()
}

/// Reads a byte string of exactly `N` bytes.
pub(crate) fn fixed<'b, const N: usize>(d: &mut Decoder<'b>) -> Option<&'b [u8; N]> {
    bytes(d)?.try_into().ok()
}

/// Reads a text.
#[inline(never)]
pub(crate) fn text<'b>(d: &mut Decoder<'b>) -> Option<&'b str> {
    d.str().ok()
}

/// Reads the name of a board: 1 to [`crate::MAX_NAME`] of `a-z`, `0-9`, `-`.
#[inline(never)]
pub(crate) fn name<'b>(d: &mut Decoder<'b>) -> Option<&'b str> {
    let name = text(d)?;
    let plain = name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    (plain && (1..=crate::MAX_NAME).contains(&name.len())).then_some(name)
}

/// Encodes what `write` writes.
#[cfg(feature = "host")]
pub(crate) fn encode(write: impl FnOnce(&mut Writer<'_>)) -> std::vec::Vec<u8> {
    let mut e = Writer(Encoder::new(Sink::Memory(std::vec::Vec::new())));
    write(&mut e);
    match e.0.into_writer() {
        Sink::Memory(bytes) => bytes,
        _ => unreachable!("memory takes every byte"),
    }
}

/// Encodes a value.
#[cfg(feature = "host")]
pub(crate) fn to_vec<'b, T: Canonical<'b>>(value: &T) -> std::vec::Vec<u8> {
    encode(|e| value.encode(e))
}
