//! Images taken apart with nothing but AES-GCM and what the README says, and chunks that the holder of a key forged.

use crate::common::*;
use boot_crypto::{Digest, GcmKey, Key, sha256, wrap_key};
use sealed_image::host::SignedPayload;
use sealed_image::{Compression, Error, Es256, Fresh, Header, Resealer, UntrustedImage};
use std::ops::Range;

/// What seals the chunks of an image, as whoever has the key of its place finds it.
struct Secrets {
    key: GcmKey,
    binding: Digest,
    count: u32,
    table: usize,
    payload: usize,
}

impl Secrets {
    fn of(image: &[u8], signed: &SignedPayload) -> Self {
        let [.., (_, manifest), (_, sealing), (_, table), (_, padding)] = parts(image);
        // The record: map(4), 1: cipher, 2: compression, 3: salt, 4: wrapped key and its tag.
        let record = &image[sealing.clone()];
        let salt = record[8..40].try_into().unwrap();
        let mut data_key: [u8; 32] = record[43..75].try_into().unwrap();
        GcmKey::new(&wrap_key(&kek(), salt))
            .open(&[0; 12], &signed.manifest_digest, &mut data_key, record[75..].try_into().unwrap())
            .unwrap();
        Self {
            key: GcmKey::new(&Key::new(data_key)),
            binding: sha256(&[&image[manifest], record].concat()),
            count: table.len() as u32 / 52,
            table: table.start,
            payload: padding.end,
        }
    }

    /// The chunk number in 12 bytes, big-endian; chunk number, count and binding.
    fn nonce_and_aad(&self, index: u32) -> ([u8; 12], Vec<u8>) {
        let nonce = [&[0; 8][..], &index.to_be_bytes()].concat();
        let aad = [&index.to_le_bytes()[..], &self.count.to_le_bytes(), &self.binding].concat();
        (nonce.try_into().unwrap(), aad)
    }

    /// Where the tag of a chunk lies.
    fn tag(&self, index: u32) -> Range<usize> {
        let at = self.table + 52 * index as usize;
        at..at + 16
    }

    /// Puts other contents, as long as the old, into the first chunk, under a tag that fits.
    fn forge_first(&self, image: &[u8], contents: &[u8]) -> Vec<u8> {
        let (mut image, mut stored) = (image.to_vec(), contents.to_vec());
        let (nonce, aad) = self.nonce_and_aad(0);
        let tag = self.key.seal(&nonce, &aad, &mut stored).unwrap();
        image[self.tag(0)].copy_from_slice(&tag);
        image[self.payload..][..stored.len()].copy_from_slice(&stored);
        image
    }
}

/// Seals an image again, for the place whose key it already has.
fn reseal(image: &[u8]) -> Vec<u8> {
    let (metadata, payload) = image.split_at(Header::parse(image).unwrap().metadata_len() as usize);
    let verified = UntrustedImage::parse(metadata).unwrap().verify::<Es256>(&policy(&roots())).unwrap();
    let fresh = Fresh { salt: [3; 32], data_key: Key::new([4; 32]) };
    let (mut metadata, mut payload) = (metadata.to_vec(), payload.to_vec());
    let resealer = Resealer::new(&verified, &kek(), &kek(), &fresh, &mut metadata).unwrap();
    for chunk in resealer.chunks() {
        let place = &mut payload[chunk.plain_offset as usize..][..chunk.plain_len as usize];
        let sealed = resealer.open(chunk.index, place).unwrap().seal().unwrap();
        resealer.put_tag(&mut metadata, &sealed).unwrap();
    }
    [metadata, payload].concat()
}

fn sign(plain: Vec<u8>) -> SignedPayload {
    SignedPayload::sign(&facts(), plain, &delegate(&[boot_grant(&boot())]), &[&boot()]).unwrap()
}

/// A nonce that recurs under one key would give away what both chunks hold.
#[test]
fn each_chunk_has_the_nonce_of_its_number_and_is_bound_to_its_place() {
    let count = 258;
    let signed = sign((0..count * CHUNK).map(|i| (i >> 8) as u8).collect());
    let sealed = signed.seal(&kek(), Compression::None).unwrap();
    let mut opened = 0;
    for image in [reseal(&sealed), sealed] {
        let secrets = Secrets::of(&image, &signed);
        assert_eq!(secrets.count, count);
        let chunks = image[secrets.payload..].chunks(CHUNK as usize);
        for ((index, stored), plain) in (0..).zip(chunks).zip(signed.plain.chunks(CHUNK as usize)) {
            let (nonce, aad) = secrets.nonce_and_aad(index);
            let (tag, mut chunk) = (image[secrets.tag(index)].try_into().unwrap(), stored.to_vec());
            assert_eq!(secrets.key.open(&nonce, &aad, &mut chunk, tag), Ok(()), "chunk {index}");
            assert_eq!(chunk, plain, "chunk {index}");
            opened += 1;
        }
    }
    assert_eq!(opened, 2 * count);
}

/// An LZ4 block of so many bytes that stands for all but the first few of them, as they are.
fn literals(length: usize) -> Vec<u8> {
    let mut block = vec![0x66; length];
    block[0] = 0xF0;
    block[1] = u8::try_from(length - 2 - 15).unwrap();
    block
}

/// Whoever knows the key of a place can make a tag that fits any block.
#[test]
fn a_forged_block_that_does_not_fill_its_chunk_is_refused_as_such_and_wiped() {
    let signed = sign(vec![0x55; 5000]);
    let image = signed.seal(&kek(), Compression::Lz4).unwrap();
    let length = opener(&image).chunks().next().unwrap().stored_len as usize;
    assert!((17..=272).contains(&length), "a block of {length} bytes");
    let (shorter, nonsense) = (literals(length), vec![0xFF; length]);
    let filled = lz4_flex::block::decompress_into(&shorter, &mut [0; CHUNK as usize]).unwrap();
    assert_eq!(filled, length - 2);
    for block in [shorter, nonsense] {
        let forged = Secrets::of(&image, &signed).forge_first(&image, &block);
        assert_eq!(open(&forged), Err(Error::Decompress { index: 0 }));
        let payload = Header::parse(&forged).unwrap().metadata_len() as usize;
        let (mut stored, mut plain) = (forged[payload..][..length].to_vec(), [0xEE; CHUNK as usize]);
        let opened = opener(&forged).open_chunk_into(0, &mut stored, &mut plain);
        assert_eq!(opened, Err(Error::Decompress { index: 0 }));
        assert_eq!(plain, [0; CHUNK as usize]);
        assert!(stored.iter().all(|byte| *byte == 0));
    }
}
