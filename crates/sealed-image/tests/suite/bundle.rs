//! The payload of a bundle.

use crate::common::{cbor, cbor_bytes, malformed_values, map};
use fail_code::FailCode;
use sealed_image::{Bundle, BundleObject, Kind, MAX_CMDLINE};

fn object(kind: u8) -> Vec<u8> {
    [b"\x82".to_vec(), cbor(kind), cbor_bytes(&[kind; 32])].concat()
}

fn objects(kinds: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x80 | kinds.len() as u8];
    kinds.iter().for_each(|kind| bytes.extend(object(*kind)));
    bytes
}

fn values() -> Vec<Vec<u8>> {
    vec![objects(&[3, 4, 5]), cbor("quiet"), cbor(7_u32)]
}

fn code(payload: &[u8]) -> Option<FailCode> {
    Bundle::parse(payload).err().map(|error| error.code())
}

#[test]
fn a_sound_bundle_says_what_was_put_in() {
    let payload = map(&values());
    let bundle = Bundle::parse(&payload).unwrap();
    let kinds: Vec<_> = bundle.objects().map(|object| object.kind).collect();
    assert_eq!(kinds, [Kind::Kernel, Kind::DeviceTree, Kind::Initramfs]);
    assert_eq!((bundle.cmdline, bundle.rollback_index), ("quiet", 7));
    assert_eq!(bundle.object(Kind::DeviceTree).unwrap().manifest_digest, &[4; 32]);
    assert_eq!(bundle.object(Kind::Tee), None);

    let listed: Vec<BundleObject<'_>> = bundle.objects().copied().collect();
    assert_eq!(Bundle::new(&listed, "quiet", 7).unwrap().encode(), payload);
    assert!(Bundle::new(&listed, "qui\tet", 7).is_err());
    assert!(Bundle::new(&listed[1..], "quiet", 7).is_err());
}

#[test]
fn every_malformed_value_of_every_field_is_refused() {
    let mut tried = 0;
    for field in 0..3 {
        for value in malformed_values() {
            let mut values = values();
            values[field] = value.to_vec();
            // Without a command line a kernel starts as well.
            let expected =
                if field == 1 && *value == *b"\x60" { None } else { Some(FailCode::BundleMalformed) };
            assert_eq!(code(&map(&values)), expected, "field {}: {value:02X?}", field + 1);
            tried += 1;
        }
    }
    assert_eq!(tried, 90);
}

#[test]
fn what_cannot_start_or_is_not_supported_has_its_code() {
    let with = |kinds: &[u8]| code(&map(&[objects(kinds), cbor("quiet"), cbor(7_u32)]));
    assert_eq!(with(&[3, 4]), None);
    assert_eq!(with(&[4, 3]), None);
    assert_eq!(with(&[3, 4, 6]), Some(FailCode::KindReserved));
    assert_eq!(with(&[]), Some(FailCode::ObjectMissing));
    assert_eq!(with(&[3]), Some(FailCode::ObjectMissing));
    assert_eq!(with(&[4, 5]), Some(FailCode::ObjectMissing));
    assert_eq!(with(&[3, 4, 3]), Some(FailCode::ObjectTwice));
    for kind in [0, 1, 2, 7, 8, 9, 10, 11, 255] {
        assert_eq!(with(&[3, 4, kind]), Some(FailCode::BundleMalformed), "{kind}");
    }
    assert_eq!(with(&[3, 4, 5, 3, 4, 5, 3, 4]), Some(FailCode::ObjectTwice));
    assert_eq!(with(&[3, 4, 5, 3, 4, 5, 3, 4, 5]), Some(FailCode::BundleMalformed));
}

#[test]
fn the_command_line_is_bounded_and_printable() {
    let with = |cmdline: &str| code(&map(&[objects(&[3, 4]), cbor(cmdline), cbor(7_u32)]));
    assert_eq!(with(&"x".repeat(MAX_CMDLINE)), None);
    for cmdline in [&"x".repeat(MAX_CMDLINE + 1), "a\0b", "a\nb", "a\x7Fb", "ä", "a\x1Bb"] {
        assert_eq!(with(cmdline), Some(FailCode::BundleMalformed), "{cmdline:?}");
    }
}

#[test]
fn every_cut_and_every_trailing_byte_is_refused() {
    let sound = map(&values());
    for length in 0..sound.len() {
        assert_eq!(code(&sound[..length]), Some(FailCode::BundleMalformed), "{length}");
    }
    assert_eq!(code(&[&sound[..], b"\0"].concat()), Some(FailCode::BundleMalformed));
}
