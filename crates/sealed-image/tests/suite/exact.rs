//! The one code that a flipped bit of each byte of an image's metadata is refused with.
//!
//! An independent decoder finds what the parts are made of. Whatever is a head, a key or a constant is malformed once a
//! bit of it differs; of the contents between them it is known which check notices.

use crate::common::parts;
use fail_code::FailCode::{self, *};
use minicbor::Decoder;
use std::ops::Range;

/// Bytes of a tag, a digest and a length in the table of chunks.
const ENTRY: [usize; 3] = [16, 32, 4];

/// Who notices what, by byte of a sound image; what is in no list is malformed structure of its part.
pub(crate) struct Contents {
    parts: [(&'static str, Range<usize>); 6],
    contents: Vec<(Range<usize>, FailCode)>,
    compression: usize,
}

impl Contents {
    pub(crate) fn of(image: &[u8]) -> Self {
        let parts = parts(image);
        let mut contents = Vec::new();
        let [_, (_, delegation), (_, manifest), (_, sealing), (_, table), _] = parts.clone();

        let mut d = decoder(image, &delegation);
        d.array().unwrap();
        d.map().unwrap();
        for coordinate in 0..4 {
            d.i64().unwrap();
            match coordinate {
                0 | 1 => drop(d.i64().unwrap()),
                _ => contents.push((string(&mut d), RootUnknown)),
            }
        }
        while d.position() < delegation.end {
            d.tag().unwrap();
            d.array().unwrap();
            contents.push((key_id(&string(&mut d)), DelegationSignature));
            d.map().unwrap();
            contents.push((string(&mut d), DelegationSignature));
            contents.push((string(&mut d), DelegationSignature));
        }
        assert_eq!(d.position(), delegation.end);

        let mut d = decoder(image, &manifest);
        d.tag().unwrap();
        d.array().unwrap();
        string(&mut d);
        d.map().unwrap();
        contents.push((string(&mut d), SignatureInvalid));
        for _ in 0..d.array().unwrap().unwrap() {
            d.array().unwrap();
            contents.push((key_id(&string(&mut d)), SignatureInvalid));
            d.map().unwrap();
            contents.push((string(&mut d), SignatureInvalid));
        }
        assert_eq!(d.position(), manifest.end);

        let mut d = decoder(image, &sealing);
        d.map().unwrap();
        let mut compression = 0;
        for key in 1..=4_u64 {
            assert_eq!(d.u64().unwrap(), key);
            match key {
                1 => drop(d.u8().unwrap()),
                2 => {
                    compression = d.position();
                    d.u8().unwrap();
                }
                _ => contents.push((string(&mut d), KeyUnwrap)),
            }
        }
        assert_eq!(d.position(), sealing.end);

        let mut at = table.start;
        while at < table.end {
            for (length, code) in ENTRY.into_iter().zip([ChunkTag, ChunkDigest, HeaderInvalid]) {
                contents.push((at..at + length, code));
                at += length;
            }
        }
        assert_eq!(at, table.end);
        Self { parts, contents, compression }
    }

    /// Returns the code that this image is refused with once this bit is flipped.
    pub(crate) fn code(&self, image: &[u8], bit: usize) -> FailCode {
        let byte = bit / 8;
        if let Some((_, code)) = self.contents.iter().find(|(range, _)| range.contains(&byte)) {
            return *code;
        }
        let (part, _) = self.parts.iter().find(|(_, range)| range.contains(&byte)).unwrap();
        match (*part, byte) {
            ("header", 0..8) => HeaderMagic,
            ("header", 8..12) => HeaderVersion,
            ("header", 12..24) => self.length(image, bit),
            ("header", _) => HeaderInvalid,
            ("delegation", _) => DelegationMalformed,
            ("manifest", _) => ManifestMalformed,
            // The one other compression that exists: the tags of the chunks cover which it is.
            ("sealing", byte) if byte == self.compression && bit.is_multiple_of(8) => ChunkTag,
            ("sealing", _) => SealingMalformed,
            ("padding", _) => PaddingNotZero,
            (part, byte) => panic!("nothing is known of byte {byte}, in the {part}"),
        }
    }

    /// The code for a bit of a part's length. What a shorter part leaves at the end of the table is padding; else the table
    /// is read where it does not lie.
    fn length(&self, image: &[u8], bit: usize) -> FailCode {
        let (_, table) = &self.parts[4];
        let moved = 1_usize << (bit % 32);
        let shorter = image[bit / 8] >> (bit % 8) & 1 == 1;
        let left = if shorter { &image[table.end - moved..table.end] } else { &[] };
        if left.iter().any(|byte| *byte != 0) { PaddingNotZero } else { HeaderInvalid }
    }

    /// The part of the image that this byte lies in.
    pub(crate) fn part(&self, byte: usize) -> &'static str {
        self.parts.iter().find(|(_, range)| range.contains(&byte)).unwrap().0
    }
}

fn decoder<'a>(image: &'a [u8], part: &Range<usize>) -> Decoder<'a> {
    let mut d = Decoder::new(&image[..part.end]);
    d.set_position(part.start);
    d
}

/// Reads a byte string and returns where its content lies.
fn string(d: &mut Decoder<'_>) -> Range<usize> {
    let length = d.bytes().unwrap().len();
    d.position() - length..d.position()
}

/// Where the key id lies in a protected header: at its end; all before it is constant.
fn key_id(header: &Range<usize>) -> Range<usize> {
    header.end - 32..header.end
}
