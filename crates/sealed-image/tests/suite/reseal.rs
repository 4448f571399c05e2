//! Sealing again: two copies of one opening, and nothing in the clear that is not sealed.

use boot_crypto::{GcmKey, Key, sha256};
use sealed_image::host::SignedPayload;
use sealed_image::{
    Compression, Error, Es256, Fresh, Header, Resealer, Tally, UntrustedImage, VerifiedImage,
};

use crate::common::*;

fn fresh(n: u8) -> Fresh {
    Fresh { salt: [n; 32], data_key: Key::new([n + 1; 32]) }
}

fn split(image: &[u8]) -> (&[u8], &[u8]) {
    image.split_at(Header::parse(image).unwrap().metadata_len() as usize)
}

fn verified(metadata: &[u8]) -> VerifiedImage<'_> {
    UntrustedImage::parse(metadata).unwrap().verify::<Es256>(&policy(&roots())).unwrap()
}

/// Makes two copies of an image at once, both for the key that the tests open images with.
fn twice(image: &[u8]) -> [Vec<u8>; 2] {
    let (metadata, payload) = split(image);
    let verified = verified(metadata);
    let mut new = [1, 2].map(|n| (fresh(n), vec![0; metadata.len()], Tally::default(), Vec::new()));
    let resealers = new
        .each_mut()
        .map(|(fresh, metadata, _, _)| Resealer::new(&verified, &kek(), &kek(), fresh, metadata).unwrap());
    let [(_, metadata_a, tally_a, payload_a), (_, metadata_b, tally_b, payload_b)] = &mut new;
    for chunk in resealers[0].chunks() {
        let stored = &payload[chunk.stored_offset as usize..][..chunk.stored_len as usize];
        let mut stored = stored.to_vec();
        let [mut first, mut second] = [(); 2].map(|()| vec![0; chunk.plain_len as usize]);
        let open = if resealers[0].in_place() {
            first.copy_from_slice(&stored);
            resealers[0].open(chunk.index, &mut first).unwrap()
        } else {
            resealers[0].open_into(chunk.index, &mut stored, &mut first).unwrap()
        };
        let b = open.seal_copy(&resealers[1], &mut second).unwrap();
        let a = open.seal().unwrap();
        assert_ne!(first, second, "one key for two copies");
        resealers[0].put_tag(metadata_a, &a).unwrap();
        resealers[1].put_tag(metadata_b, &b).unwrap();
        tally_a.add(&a.tally);
        tally_b.add(&b.tally);
        payload_a.extend(first);
        payload_b.extend(second);
    }
    let _whole = resealers[0].finish(tally_a).unwrap();
    let _whole = resealers[1].finish(tally_b).unwrap();
    new.map(|(_, metadata, _, payload)| [metadata, payload].concat())
}

#[test]
fn two_copies_of_one_opening_are_read_as_the_image_that_they_were_made_from() {
    for compression in [Compression::None, Compression::Lz4] {
        let image = signed().seal(&kek(), compression).unwrap();
        for copy in twice(&image) {
            assert_eq!(open(&copy).unwrap(), plain());
            assert_ne!(copy, image);
        }
    }
}

/// Whoever knows the key of a copy can make a tag that fits anything; the digest of each chunk is the owner's.
#[test]
fn a_chunk_that_whoever_has_the_key_made_is_refused_by_its_digest_and_wiped() {
    let [mut copy, _] = twice(&image());
    let data_key = fresh(1).data_key;
    let [.., (_, manifest), (_, sealing), (_, table), _] = parts(&copy);
    let binding = sha256(&[&copy[manifest], &copy[sealing]].concat());
    let aad = [&0_u32.to_le_bytes()[..], &2_u32.to_le_bytes(), &binding].concat();
    let payload = split(&copy).0.len();
    let mut forged = [0x66; CHUNK as usize];
    let tag = GcmKey::new(&data_key).seal(&[0; 12], &aad, &mut forged).unwrap();
    copy[table.start..][..tag.len()].copy_from_slice(&tag);
    copy[payload..][..forged.len()].copy_from_slice(&forged);
    assert_eq!(open(&copy), Err(Error::ChunkDigest { index: 0 }));

    let opener = opener(&copy);
    let mut stored = forged;
    assert_eq!(opener.open_chunk(0, &mut stored), Err(Error::ChunkDigest { index: 0 }));
    assert_eq!(stored, [0; CHUNK as usize]);
    let (mut stored, mut plain) = (forged, [0xEE; CHUNK as usize]);
    assert_eq!(opener.open_chunk_into(0, &mut stored, &mut plain), Err(Error::ChunkDigest { index: 0 }));
    assert_eq!((stored, plain), ([0; CHUNK as usize], [0; CHUNK as usize]));
}

#[test]
fn a_chunk_that_is_opened_and_not_sealed_is_wiped() {
    let image = image();
    let (metadata, payload) = split(&image);
    let verified = verified(metadata);
    let mut new = vec![0; metadata.len()];
    let resealer = Resealer::new(&verified, &kek(), &kek(), &fresh(1), &mut new).unwrap();
    let chunk = resealer.chunks().next().unwrap();
    let mut bytes = payload[..chunk.stored_len as usize].to_vec();
    drop(resealer.open(chunk.index, &mut bytes).unwrap());
    assert!(bytes.iter().all(|byte| *byte == 0));

    // A copy of another length gets nothing, and what was open is wiped all the same.
    let mut bytes = payload[..chunk.stored_len as usize].to_vec();
    let mut short = vec![0xA5; bytes.len() - 1];
    let open = resealer.open(chunk.index, &mut bytes).unwrap();
    let wrong = Error::ChunkLength { index: 0, found: short.len() as u32 };
    assert_eq!(open.seal_copy(&resealer, &mut short), Err(wrong));
    drop(open);
    assert!(short.iter().all(|byte| *byte == 0xA5) && bytes.iter().all(|byte| *byte == 0));

    // What does not open is left as it was.
    let mut bytes = payload[..chunk.stored_len as usize].to_vec();
    bytes[0] ^= 1;
    let before = bytes.clone();
    assert_eq!(resealer.open(chunk.index, &mut bytes).err(), Some(Error::ChunkTag { index: 0 }));
    assert_eq!(bytes, before);
}

#[test]
fn a_copy_of_another_image_does_not_come_to_its_end() {
    let image = image();
    let other =
        SignedPayload::sign(&facts(), [9; 10_000].to_vec(), &delegate(&[boot_grant(&boot())]), &[&boot()]);
    let other = other.unwrap().seal(&kek(), Compression::None).unwrap();
    let [ours, theirs] = [&image, &other].map(|image| split(image));
    let (image_a, image_b) = (verified(ours.0), verified(theirs.0));
    let (mut new_a, mut new_b) = (vec![0; ours.0.len()], vec![0; theirs.0.len()]);
    let a = Resealer::new(&image_a, &kek(), &kek(), &fresh(1), &mut new_a).unwrap();
    let b = Resealer::new(&image_b, &kek(), &kek(), &fresh(2), &mut new_b).unwrap();
    let mut tally = Tally::default();
    for chunk in a.chunks() {
        let mut bytes = ours.1[chunk.stored_offset as usize..][..chunk.stored_len as usize].to_vec();
        let mut copy = vec![0; bytes.len()];
        tally.add(&a.open(chunk.index, &mut bytes).unwrap().seal_copy(&b, &mut copy).unwrap().tally);
    }
    assert!(matches!(b.finish(&tally), Err(Error::Incomplete { .. })));
    assert!(a.finish(&tally).is_ok());
}
