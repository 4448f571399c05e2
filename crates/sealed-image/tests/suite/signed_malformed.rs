//! A signature makes nothing sound: malformed facts are refused although the right key signed them.

use crate::common::*;
use boot_crypto::sha256;
use fail_code::FailCode;
use figures::Figure;
use sealed_image::host::{SignedPayload, certify, delegation};
use sealed_image::{Compression, Kind};

/// The nine values of a sound manifest, encoded.
fn manifest_values() -> Vec<Vec<u8>> {
    let mut list = Vec::new();
    plain().chunks(CHUNK as usize).for_each(|chunk| list.extend(sha256(chunk)));
    vec![
        cbor(2_u8),
        cbor(BOARD),
        cbor(1_u64 << 48 | 2 << 32 | 3),
        cbor(5_u32),
        cbor(LOAD),
        cbor(LOAD + 8),
        cbor(5000_u64),
        cbor(CHUNK),
        cbor_bytes(&sha256(&list)),
    ]
}

fn code_of_manifest(manifest: &[u8]) -> Option<FailCode> {
    let part = delegate(&[boot_grant(&boot())]);
    let signed = SignedPayload::sign_encoded(manifest, CHUNK, plain(), &part, &[&boot()]).unwrap();
    let image = signed.seal(&kek(), Compression::None).unwrap();
    open(&image).err().map(|error| error.code())
}

#[test]
fn every_malformed_value_of_every_field_is_refused_although_it_is_signed() {
    let (mut cases, mut wrong) = (0, Vec::new());
    let of_manifest: (_, _, fn(&[u8]) -> _) =
        (manifest_values(), FailCode::ManifestMalformed, code_of_manifest);
    let of_grant: (_, _, fn(&[u8]) -> _) = (grant_values(), FailCode::DelegationMalformed, code_of_grant);
    let fields = of_manifest.0.len() + of_grant.0.len();
    for (sound, expected, code) in [of_manifest, of_grant] {
        assert_eq!(code(&map(&sound)), None);
        for (field, value) in sound.iter().enumerate() {
            let longer = [&value[..], &[0]].concat();
            let cut = (0..value.len()).map(|length| &value[..length]);
            for value in malformed_values().iter().copied().chain(cut).chain([&longer[..]]) {
                let mut values = sound.clone();
                values[field] = value.to_vec();
                let code = code(&map(&values));
                if code != Some(expected) {
                    wrong.push(format!("field {}: {value:02X?}: {code:?}, not {expected}", field + 1));
                }
                cases += 1;
            }
        }
    }
    Figure::new("malformed fields of images, signed again", "cases", fields as u64 * 30)
        .ran(cases)
        .violations(&wrong)
        .note(format!("{fields} fields of manifests and delegations; the exact code of each"))
        .report();
}

#[test]
fn manifest_values_out_of_range_are_refused() {
    use FailCode::{HeaderInvalid, KindReserved, KindWrong, LoadAddress, ManifestMalformed};
    let end = u64::MAX;
    let cases: Vec<(usize, Vec<u8>, FailCode)> = vec![
        (1, cbor(0_u8), ManifestMalformed),
        (1, cbor(12_u8), ManifestMalformed),
        (1, cbor(255_u8), ManifestMalformed),
        (1, cbor(258_u16), ManifestMalformed),
        (1, cbor(1_u8), KindWrong),
        (1, cbor(3_u8), KindWrong),
        (1, cbor(6_u8), KindReserved),
        (1, cbor(7_u8), KindWrong),
        (1, cbor(11_u8), KindWrong),
        (1, cbor(8_u8), KindReserved),
        (1, cbor(10_u8), KindWrong),
        (2, cbor("Test-board"), ManifestMalformed),
        (2, cbor("test board"), ManifestMalformed),
        (2, cbor("test-board\0"), ManifestMalformed),
        (2, cbor("tést-board"), ManifestMalformed),
        (2, cbor("a23456789-123456789-123456789-123"), ManifestMalformed),
        (2, cbor("a23456789-123456789-123456789-12"), FailCode::BoardWrong),
        (2, cbor("test-boar"), FailCode::BoardWrong),
        (2, cbor("test-board2"), FailCode::BoardWrong),
        (3, cbor(0_u64), FailCode::VersionNotDelegated),
        (3, cbor(2_u64 << 48), FailCode::VersionNotDelegated),
        (3, cbor(u64::MAX), FailCode::VersionNotDelegated),
        (4, cbor(4_u32), FailCode::RolledBack),
        (4, cbor(0_u32), FailCode::RolledBack),
        (4, cbor(1_u64 << 32), ManifestMalformed),
        (4, cbor(u64::MAX), ManifestMalformed),
        (5, cbor(end), LoadAddress),
        (5, cbor(end - 4999), LoadAddress),
        (5, cbor(LOAD + 1), LoadAddress),
        (5, cbor(LOAD + 6), LoadAddress),
        (5, cbor(LOAD + 12), LoadAddress),
        (6, cbor(0_u64), LoadAddress),
        (6, cbor(LOAD - 4), LoadAddress),
        (6, cbor(LOAD + 5000), LoadAddress),
        (6, cbor(LOAD + 2), LoadAddress),
        (6, cbor(end), LoadAddress),
        (7, cbor(0_u64), LoadAddress),
        (7, cbor(end), LoadAddress),
        (7, cbor(end - LOAD), HeaderInvalid),
        (7, cbor(4096_u64), HeaderInvalid),
        (7, cbor(8193_u64), HeaderInvalid),
        (7, cbor(4999_u64), FailCode::SealingMalformed),
        (7, cbor(5001_u64), FailCode::SealingMalformed),
        (8, cbor(0_u32), ManifestMalformed),
        (8, cbor(1_u32), ManifestMalformed),
        (8, cbor(2048_u32), ManifestMalformed),
        (8, cbor(4095_u32), ManifestMalformed),
        (8, cbor(6144_u32), ManifestMalformed),
        (8, cbor(2 << 20), ManifestMalformed),
        (8, cbor(u32::MAX), ManifestMalformed),
        (8, cbor(8192_u32), HeaderInvalid),
        (9, cbor_bytes(&[0; 31]), ManifestMalformed),
        (9, cbor_bytes(&[0; 33]), ManifestMalformed),
        (9, cbor_bytes(&[0; 32]), FailCode::ChunkDigest),
    ];
    for (field, value, expected) in cases {
        let mut values = manifest_values();
        values[field - 1] = value.clone();
        assert_eq!(code_of_manifest(&map(&values)), Some(expected), "field {field}: {value:02X?}");
    }
}

#[test]
fn the_first_instruction_lies_in_the_payload_whole() {
    let code = |entry: u64, size: u64| {
        let mut values = manifest_values();
        (values[5], values[6]) = (cbor(entry), cbor(size));
        code_of_manifest(&map(&values))
    };
    assert_eq!(code(LOAD + 4996, 5000), None);
    for size in [4997, 4998, 4999] {
        assert_eq!(code(LOAD + 4996, size), Some(FailCode::LoadAddress), "{size} bytes");
    }
}

#[test]
fn manifests_of_another_shape_are_refused() {
    let sound = map(&manifest_values());
    let mut cases =
        vec![Vec::new(), vec![0xA0], [&sound[..], b"\0"].concat(), [b"\xC0", &sound[..]].concat()];
    cases.push(map(&manifest_values()[..8]));
    cases.push(map(&[manifest_values(), vec![cbor(0_u8)]].concat()));
    cases.push([b"\xB8\x09", &sound[1..]].concat());
    cases.push([b"\xBF", &sound[1..], b"\xFF"].concat());
    let mut swapped = sound.clone();
    swapped.splice(1..3, []);
    let board = 1 + 1 + cbor(BOARD).len();
    swapped.splice(board..board, [1, 2]);
    cases.push(swapped);
    for key in [0_u8, 2, 0x18, 0x20, 0x61] {
        let mut renamed = sound.clone();
        renamed[1] = key;
        cases.push(renamed);
    }
    (0..sound.len()).for_each(|length| cases.push(sound[..length].to_vec()));
    for case in cases {
        assert_eq!(code_of_manifest(&case), Some(FailCode::ManifestMalformed), "{case:02X?}");
    }
}

/// The six values of a sound grant, encoded.
fn grant_values() -> Vec<Vec<u8>> {
    vec![
        cbor(1_u8),
        sealed_image::host::encode_key(&sealed_image::PublicKey::P256(boot().public())),
        cbor([Kind::Stage2.number()]),
        cbor([BOARD]),
        cbor(1_u64 << 48),
        cbor(2_u64 << 48),
    ]
}

fn code_of_grant(grant: &[u8]) -> Option<FailCode> {
    let part =
        delegation(&sealed_image::PublicKey::P256(root().public()), &[certify(&root(), grant).unwrap()]);
    let signed = SignedPayload::sign(&facts(), plain(), &part, &[&boot()]).unwrap();
    let image = signed.seal(&kek(), Compression::None).unwrap();
    open(&image).err().map(|error| error.code())
}

#[test]
fn delegated_values_out_of_range_are_refused() {
    use FailCode::{DelegationMalformed, SignatureInvalid};
    let key = |edit: &dyn Fn(&mut Vec<u8>)| {
        let mut key = grant_values()[1].clone();
        edit(&mut key);
        key
    };
    let cases: Vec<(usize, Vec<u8>, FailCode)> = vec![
        (1, cbor(0_u8), DelegationMalformed),
        (1, cbor(7_u8), DelegationMalformed),
        (1, cbor(2_u8), FailCode::RoleWrong),
        (1, cbor(3_u8), FailCode::RoleWrong),
        (1, cbor(4_u8), FailCode::RoleWrong),
        (1, cbor(5_u8), FailCode::RoleWrong),
        (1, cbor(6_u8), FailCode::RoleWrong),
        (2, key(&|k| k[2] = 1), DelegationMalformed),
        (2, key(&|k| k[2] = 3), DelegationMalformed),
        (2, key(&|k| k[4] = 2), DelegationMalformed),
        (2, key(&|k| k[20] ^= 1), SignatureInvalid),
        (2, key(&|k| k[60] ^= 1), SignatureInvalid),
        (2, key(&|k| k.truncate(k.len() - 1)), DelegationMalformed),
        (2, key(&|k| k[5] = 0x22), DelegationMalformed),
        (3, cbor([0_u8]), DelegationMalformed),
        (3, cbor([12_u8]), DelegationMalformed),
        (3, cbor([2_u8, 2]), DelegationMalformed),
        (3, cbor([3_u8, 2]), DelegationMalformed),
        (3, cbor([0_u8; 0]), FailCode::KindNotDelegated),
        (3, cbor([1_u8, 3, 4, 5, 6, 7, 8, 9, 10, 11]), FailCode::KindNotDelegated),
        (4, cbor([""]), DelegationMalformed),
        (4, cbor(["Test-board"]), DelegationMalformed),
        (4, cbor([BOARD; 9]), DelegationMalformed),
        (4, cbor([""; 0]), FailCode::BoardNotDelegated),
        (4, cbor(["test-boar", "test-board2"]), FailCode::BoardNotDelegated),
        (5, cbor(1_u64 << 48 | 2 << 32 | 4), FailCode::VersionNotDelegated),
        (5, cbor(u64::MAX), FailCode::VersionNotDelegated),
        (6, cbor(1_u64 << 48 | 2 << 32 | 2), FailCode::VersionNotDelegated),
        (6, cbor(0_u64), FailCode::VersionNotDelegated),
    ];
    for (field, value, expected) in cases {
        let mut values = grant_values();
        values[field - 1] = value.clone();
        assert_eq!(code_of_grant(&map(&values)), Some(expected), "field {field}: {value:02X?}");
    }
}

#[test]
fn grants_of_another_shape_are_refused() {
    let sound = map(&grant_values());
    let mut cases = vec![Vec::new(), [&sound[..], b"\0"].concat(), map(&grant_values()[..5])];
    cases.push(map(&[grant_values(), vec![cbor(0_u8)]].concat()));
    (0..sound.len()).for_each(|length| cases.push(sound[..length].to_vec()));
    for case in cases {
        assert_eq!(code_of_grant(&case), Some(FailCode::DelegationMalformed), "{case:02X?}");
    }
}
