//! Nothing about an image can be altered: every bit, every length.

use crate::common::{image, open, open_payload, opener, parts, plain};
use fail_code::FailCode::{self, *};
use std::collections::BTreeMap;

#[test]
fn every_flipped_bit_of_the_metadata_is_refused_with_a_code_of_its_part() {
    let image = image();
    assert_eq!(open(&image).unwrap(), plain());
    let allowed: BTreeMap<&str, &[FailCode]> = BTreeMap::from([
        (
            "header",
            &[
                HeaderMagic,
                HeaderVersion,
                HeaderInvalid,
                ImageTruncated,
                DelegationMalformed,
                ManifestMalformed,
                SealingMalformed,
                PaddingNotZero,
            ][..],
        ),
        ("delegation", &[DelegationMalformed, DelegationSignature, RootUnknown]),
        ("manifest", &[ManifestMalformed, SignatureInvalid]),
        ("sealing", &[SealingMalformed, KeyUnwrap, ChunkTag]),
        ("table", &[ChunkTag, ChunkDigest, HeaderInvalid]),
        ("padding", &[PaddingNotZero]),
    ]);
    let bits: Vec<_> = parts(&image)
        .into_iter()
        .flat_map(|(part, range)| (range.start * 8..range.end * 8).map(move |bit| (part, bit)))
        .collect();
    assert_eq!(bits.len(), 4096 * 8);
    let refuse = |(part, bit): (&str, usize)| {
        let mut altered = image.clone();
        altered[bit / 8] ^= 1 << (bit % 8);
        let code = open(&altered).expect_err("an altered image was taken").code();
        assert!(allowed[part].contains(&code), "{part}, byte {}, bit {}: {code}", bit / 8, bit % 8);
    };
    // Each of these is a full verification: two threads take every other bit.
    std::thread::scope(|scope| {
        for first in 0..2 {
            let bits = bits.iter().skip(first).step_by(2);
            let refuse = &refuse;
            scope.spawn(move || bits.for_each(|bit| refuse(*bit)));
        }
    });
}

#[test]
fn the_fixed_fields_of_the_header_have_their_own_codes() {
    let image = image();
    let code = |byte: usize| {
        let mut altered = image.clone();
        altered[byte] ^= 1;
        open(&altered).unwrap_err().code()
    };
    assert!((0..8).all(|byte| code(byte) == HeaderMagic));
    assert!((8..12).all(|byte| code(byte) == HeaderVersion));
    assert!((28..64).all(|byte| code(byte) == HeaderInvalid));
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
