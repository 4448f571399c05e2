//! Changes sealed images at places that have names.

use std::ops::Range;

use sealed_image::{ENTRY_BYTES, HEADER_BYTES, Header};

/// Where the parts of a sealed image lie, in bytes from its start.
#[derive(Clone, Debug)]
pub struct Parts {
    /// Root key and certificates.
    pub delegation: Range<usize>,
    /// Manifest and signatures.
    pub manifest: Range<usize>,
    /// Sealing record.
    pub sealing: Range<usize>,
    /// Chunk table: for each chunk its tag, plain digest and stored length.
    pub table: Range<usize>,
    /// Zeros up to the payload.
    pub padding: Range<usize>,
    /// The encrypted chunks.
    pub payload: Range<usize>,
    /// How many they are.
    pub chunks: usize,
}

impl Parts {
    /// Finds the parts of an image that is right.
    pub fn of(image: &[u8]) -> Self {
        let header = Header::parse(image).expect("an image that is right");
        let mut at = HEADER_BYTES;
        let mut part = |length: usize| {
            at += length;
            at - length..at
        };
        let delegation = part(header.delegation_len as usize);
        let manifest = part(header.manifest_len as usize);
        let sealing = part(header.sealing_len as usize);
        let table = part(header.chunk_count as usize * ENTRY_BYTES);
        let padding = table.end..header.payload_offset as usize;
        let payload = padding.end..padding.end + header.payload_len as usize;
        assert_eq!(image.len(), payload.end, "an image that is right ends with its payload");
        Self { delegation, manifest, sealing, table, padding, payload, chunks: header.chunk_count as usize }
    }

    /// Returns the place of a chunk in the table.
    pub fn entry(&self, chunk: usize) -> Range<usize> {
        assert!(chunk < self.chunks);
        let start = self.table.start + chunk * ENTRY_BYTES;
        start..start + ENTRY_BYTES
    }

    /// Returns the place of the first byte of a chunk of 4096 bytes.
    pub fn chunk(&self, chunk: usize) -> usize {
        assert!(chunk < self.chunks);
        self.payload.start + chunk * 4096
    }
}

/// Flips the lowest bit of the byte at `at`.
pub fn flip(mut image: Vec<u8>, at: usize) -> Vec<u8> {
    image[at] ^= 1;
    image
}

/// Writes `bytes` over the image from `at` on.
pub fn put(mut image: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    image[at..at + bytes.len()].copy_from_slice(bytes);
    image
}

/// Finds the one place in `range` of the image that holds `bytes`.
pub fn find(image: &[u8], range: Range<usize>, bytes: &[u8]) -> usize {
    let windows = image[range.clone()].windows(bytes.len());
    let places: Vec<usize> =
        (range.start..).zip(windows).filter(|(_, it)| *it == bytes).map(|it| it.0).collect();
    assert_eq!(places.len(), 1, "the bytes are there once");
    places[0]
}

/// Moves the part of `from` to the same place in `into`; both must have it at the same place.
pub fn transplant(into: Vec<u8>, from: &[u8], part: impl Fn(&Parts) -> Range<usize>) -> Vec<u8> {
    let place = part(&Parts::of(&into));
    assert_eq!(place, part(&Parts::of(from)), "the part lies at the same place in both images");
    assert_ne!(into[place.clone()], from[place.clone()], "the two parts differ");
    put(into, place.start, &from[place])
}
