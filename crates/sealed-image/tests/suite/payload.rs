//! Sealing records, chunks, compression, and the account of what was opened.

use crate::common::*;
use fail_code::FailCode;
use sealed_image::host::{Facts, SignedPayload};
use sealed_image::{Compression, Error, Es256, Tally, UntrustedImage};

fn sign(plain: Vec<u8>, chunk_size: u32) -> SignedPayload {
    let facts = Facts { chunk_size, ..facts() };
    SignedPayload::sign(&facts, plain, &delegate(&[boot_grant(&boot())]), &[&boot()]).unwrap()
}

#[test]
fn payloads_of_every_awkward_length_come_back() {
    for length in [12, 13, 4095, 4096, 4097, 8191, 8192, 8193, 100_000] {
        for compression in [Compression::None, Compression::Lz4] {
            let plain: Vec<u8> = (0..length).map(|i| (i / 100) as u8).collect();
            let image = sign(plain.clone(), 4096).seal(&kek(), compression).unwrap();
            assert_eq!(open(&image).unwrap(), plain, "{length} bytes, {compression:?}");
        }
    }
}

#[test]
fn chunks_that_do_not_shrink_are_stored_plain_in_a_compressed_image() {
    let mut plain = vec![0; 4096];
    plain.extend(boot_crypto::host::random::<4096>());
    let image = sign(plain.clone(), 4096).seal(&kek(), Compression::Lz4).unwrap();
    let lengths: Vec<_> = opener(&image).chunks().map(|chunk| chunk.stored_len).collect();
    assert!(lengths[0] < 100 && lengths[1] == 4096, "{lengths:?}");
    assert_eq!(open(&image).unwrap(), plain);
    assert!(!opener(&image).in_place());
    let mut stored = image[4096..4096 + lengths[0] as usize].to_vec();
    assert_eq!(opener(&image).open_chunk(0, &mut stored), Err(Error::Compressed { index: 0 }));
}

#[test]
fn a_wrong_key_or_a_key_of_another_place_does_not_unwrap() {
    let image = image();
    let metadata = &image[..4096];
    let verified = UntrustedImage::parse(metadata).unwrap().verify::<Es256>(&policy(&roots())).unwrap();
    let wrong = boot_crypto::Key::new([8; 32]);
    assert!(matches!(verified.unwrap_key(&wrong), Err(Error::KeyUnwrap)));
    assert!(verified.unwrap_key(&kek()).is_ok());
}

#[test]
fn every_malformed_value_of_every_sealing_field_is_refused() {
    let image = image();
    let range = parts(&image)[3].1.clone();
    // The record: map(4), 1: cipher, 2: compression, 3: salt, 4: wrapped key.
    let record = image[range.clone()].to_vec();
    let values =
        vec![record[2..3].to_vec(), record[4..5].to_vec(), record[6..40].to_vec(), record[41..].to_vec()];
    assert_eq!(map(&values), record);
    let code = |values: &[Vec<u8>]| {
        let mut altered = image.clone();
        let record = map(values);
        altered.splice(range.clone(), record.iter().copied());
        altered[20..24].copy_from_slice(&(record.len() as u32).to_le_bytes());
        // Take the difference from the padding, so that all else stays in place.
        let table_end = range.start + record.len() + 104;
        altered.drain(4096.min(table_end)..altered.len() - plain().len());
        altered.splice(table_end..table_end, vec![0; 4096 - table_end]);
        open(&altered).err().map(|error| error.code())
    };
    assert_eq!(code(&values), None);
    let mut tried = 0;
    for field in 0..4 {
        for value in malformed_values() {
            // 1 is the one cipher, and a sound compression.
            let mut values = values.clone();
            values[field] = value.to_vec();
            assert_eq!(code(&values), Some(FailCode::SealingMalformed), "field {}: {value:02X?}", field + 1);
            tried += 1;
        }
    }
    assert_eq!(tried, 120);
    for (field, value) in [(0, vec![0]), (0, vec![2]), (1, vec![2]), (1, vec![23])] {
        let mut values = values.clone();
        values[field] = value;
        assert_eq!(code(&values), Some(FailCode::SealingMalformed));
    }
}

#[test]
fn only_a_full_account_of_the_chunks_finishes() {
    let image = image();
    let opener = opener(&image);
    assert_eq!((opener.chunk_count(), opener.chunks().count()), (2, 2));
    let chunk = |index: u32| {
        let place = opener.chunks().nth(index as usize).unwrap();
        let start = 4096 + place.stored_offset as usize;
        let mut stored = image[start..start + place.stored_len as usize].to_vec();
        opener.open_chunk(index, &mut stored).unwrap()
    };
    let finish = |indices: &[u32]| {
        let mut tally = Tally::default();
        indices.iter().for_each(|index| tally.add(&chunk(*index)));
        opener.finish(&tally).map(|_| ())
    };
    assert_eq!(finish(&[0, 1]), Ok(()));
    assert_eq!(finish(&[1, 0]), Ok(()));
    for wrong in [&[][..], &[0], &[1], &[0, 0], &[1, 1], &[0, 1, 1], &[0, 1, 0, 1]] {
        let opened = wrong.len() as u32;
        assert_eq!(finish(wrong), Err(Error::Incomplete { opened, expected: 2 }), "{wrong:?}");
    }
}

#[test]
fn chunks_open_on_several_cores_at_once() {
    let plain: Vec<u8> = (0..64 * 4096_u32).map(|i| (i >> 9) as u8).collect();
    let image = sign(plain.clone(), 4096).seal(&kek(), Compression::None).unwrap();
    let opener = opener(&image);
    assert!(opener.in_place());
    let mut memory = image[image.len() - plain.len()..].to_vec();
    let mut work: Vec<_> = (0..).zip(memory.chunks_mut(4096)).collect();
    let (left, right) = work.split_at_mut(32);
    let tallies = std::thread::scope(|scope| {
        [left, right]
            .map(|half| {
                let opener = &opener;
                scope.spawn(move || {
                    let mut tally = Tally::default();
                    half.iter_mut()
                        .for_each(|(index, chunk)| tally.add(&opener.open_chunk(*index, chunk).unwrap()));
                    tally
                })
            })
            .map(|core| core.join().unwrap())
    });
    let mut tally = tallies[0];
    assert!(opener.finish(&tally).is_err());
    tally.add(&tallies[1]);
    assert!(opener.finish(&tally).is_ok());
    assert_eq!(memory, plain);
}

#[test]
fn failures_leave_no_plaintext() {
    let image = image();
    let opener = opener(&image);
    let stored = &image[4096..8192];
    let mut buffer = stored.to_vec();
    buffer[0] ^= 1;
    let before = buffer.clone();
    assert_eq!(opener.open_chunk(0, &mut buffer), Err(Error::ChunkTag { index: 0 }));
    assert_eq!(buffer, before, "nothing was decrypted");
    assert_eq!(opener.open_chunk(2, &mut buffer), Err(Error::NoSuchChunk { index: 2 }));
    assert_eq!(opener.open_chunk(u32::MAX, &mut buffer), Err(Error::NoSuchChunk { index: u32::MAX }));
    let short = Error::ChunkLength { index: 0, found: 4095 };
    assert_eq!(opener.open_chunk(0, &mut buffer[1..]), Err(short));
    let short = Error::ChunkLength { index: 0, found: 10 };
    assert_eq!(opener.open_chunk_into(0, &mut stored.to_vec(), &mut [0; 10]), Err(short));
    let mut plain_out = vec![0xEE; 4096];
    assert!(opener.open_chunk_into(0, &mut stored.to_vec(), &mut plain_out).is_ok());
    assert_eq!(plain_out, plain()[..4096]);
}
