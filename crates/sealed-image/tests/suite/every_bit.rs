//! Nothing about an image can be altered: every bit, every length.

use crate::common::{image, open, open_payload, opener, plain};
use crate::exact::Contents;
use fail_code::FailCode::*;
use figures::Figure;
use std::sync::Mutex;

#[test]
fn every_flipped_bit_of_the_metadata_is_refused_with_the_code_of_what_it_hit() {
    let image = image();
    assert_eq!(open(&image).unwrap(), plain());
    let contents = Contents::of(&image);
    let wrong = Mutex::new(Vec::new());
    // Each of these is a full verification: two threads take every other bit.
    std::thread::scope(|scope| {
        for first in 0..2 {
            let (image, contents, wrong) = (&image, &contents, &wrong);
            scope.spawn(move || {
                for bit in (first..4096 * 8).step_by(2) {
                    let mut altered = image.clone();
                    altered[bit / 8] ^= 1 << (bit % 8);
                    let code = open(&altered).err().map(|error| error.code());
                    let expected = contents.code(image, bit);
                    if code != Some(expected) {
                        let part = contents.part(bit / 8);
                        let what =
                            format!("{part}, byte {}, bit {}: {code:?}, not {expected}", bit / 8, bit % 8);
                        wrong.lock().unwrap().push(what);
                    }
                }
            });
        }
    });
    Figure::new("bits flipped in an image's metadata", "bits", 32_768)
        .ran(4096 * 8)
        .violations(&wrong.into_inner().unwrap())
        .note(
            "header, delegation, manifest, sealing record, chunk table, padding; the exact code of each bit",
        )
        .report();
}

#[test]
fn every_flipped_bit_of_the_payload_fails_its_tag() {
    let image = image();
    let (metadata, payload) = image.split_at(4096);
    let opener = opener(metadata);
    let mut altered = payload.to_vec();
    for bit in 0..payload.len() * 8 {
        altered[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(open_payload(&opener, &altered).unwrap_err().code(), ChunkTag, "bit {bit}");
        altered[bit / 8] ^= 1 << (bit % 8);
    }
    assert_eq!(open_payload(&opener, &altered).unwrap(), plain());
    assert_eq!(payload.len(), plain().len());
}

#[test]
fn an_image_cut_off_anywhere_is_refused_as_truncated() {
    let image = image();
    for length in 0..4096 {
        assert_eq!(open(&image[..length]).unwrap_err().code(), ImageTruncated, "{length} bytes");
    }
    let opener = opener(&image);
    for length in 4096..image.len() {
        let error = open_payload(&opener, &image[4096..length]).unwrap_err();
        assert_eq!(error.code(), ImageTruncated, "{length} bytes");
    }
}

#[test]
fn metadata_longer_than_the_header_says_is_refused() {
    let image = image();
    let result = sealed_image::UntrustedImage::parse(&image[..4097]).map(|_| ());
    assert_eq!(result.unwrap_err().code(), ImageTruncated);
}
