//! The payload of an update's index, and the secret that holds an update key.

use crate::common::{cbor, cbor_bytes, malformed_values, map};
use boot_crypto::Key;
use fail_code::FailCode;
use sealed_image::{Kind, Package, PackageObject, Role, RoleIndices, Update, UpdateKey, Version};

fn pairs(pairs: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = vec![0x80 | pairs.len() as u8];
    pairs.iter().for_each(|(first, second)| bytes.extend([&[0x82], &cbor(*first)[..], second].concat()));
    bytes
}

fn indices(indices: &[(u8, u32)]) -> Vec<u8> {
    pairs(&indices.iter().map(|(role, index)| (*role, cbor(*index))).collect::<Vec<_>>())
}

fn objects(kinds: &[u8]) -> Vec<u8> {
    pairs(&kinds.iter().map(|kind| (*kind, cbor_bytes(&[*kind; 32]))).collect::<Vec<_>>())
}

/// Product, minimum version, rollback indices, objects.
fn values() -> Vec<Vec<u8>> {
    vec![cbor("demo"), cbor(1_u64 << 48), indices(&[(1, 4), (3, 5)]), objects(&[2, 9, 3, 4, 5])]
}

fn code(payload: &[u8]) -> Option<FailCode> {
    Update::parse(payload).err().map(|error| error.code())
}

fn with(field: usize, value: Vec<u8>) -> Option<FailCode> {
    let mut values = values();
    values[field] = value;
    code(&map(&values))
}

const MALFORMED: Option<FailCode> = Some(FailCode::UpdateMalformed);

#[test]
fn a_sound_index_says_what_was_put_in() {
    let payload = map(&values());
    let update = Update::parse(&payload).unwrap();
    let kinds: Vec<_> = update.objects().map(|object| object.kind).collect();
    assert_eq!(kinds, [Kind::Stage2, Kind::Bundle, Kind::Kernel, Kind::DeviceTree, Kind::Initramfs]);
    assert_eq!((update.product, update.minimum_version), ("demo", Version::new(1, 0, 0)));
    assert_eq!(update.indices.iter().collect::<Vec<_>>(), [(Role::Boot, 4), (Role::Os, 5)]);
    assert_eq!((update.indices.of(Role::Os), update.indices.of(Role::Provision)), (Some(5), None));
    assert!(update.objects().all(|object| *object.manifest_digest == [object.kind.number(); 32]));

    let listed: Vec<PackageObject<'_>> = update.objects().copied().collect();
    let made = |product, listed: &[_]| Update::new(product, Version::new(1, 0, 0), update.indices, listed);
    assert_eq!(made("demo", &listed).unwrap().encode(), payload);
    assert!(made("Demo", &listed).is_err() && made("", &listed).is_err());
    assert!(made("demo", &listed[2..]).is_err() && made("demo", &listed[1..]).is_err());
    assert!(made("demo", &[listed[0]; 11]).is_err());
}

#[test]
fn every_malformed_value_of_every_field_is_refused() {
    let mut tried = 0;
    for (field, sound) in values().iter().enumerate() {
        let longer = [&sound[..], &[0]].concat();
        let cut = (0..sound.len()).map(|length| &sound[..length]);
        for value in malformed_values().iter().copied().chain(cut).chain([&longer[..]]) {
            assert_eq!(with(field, value.to_vec()), MALFORMED, "field {}: {value:02X?}", field + 1);
            tried += 1;
        }
    }
    assert!(tried >= 4 * 30 + 150, "{tried}");
    for (field, value) in [
        (0, cbor("Demo")),
        (0, cbor("de mo")),
        (0, cbor("x".repeat(33))),
        (0, cbor_bytes(b"demo")),
        (1, cbor("1.0.0")),
        (2, cbor(5_u32)),
        (3, map(&[])),
    ] {
        assert_eq!(with(field, value.clone()), MALFORMED, "field {}: {value:02X?}", field + 1);
    }
    let sound = values();
    assert_eq!(code(&map(&sound[..3])), MALFORMED, "a field is missing");
    assert_eq!(code(&map(&[&sound[..], &[cbor(1)]].concat())), MALFORMED, "an unknown field");
    let mut exchanged = map(&sound);
    exchanged[1] = 2;
    assert_eq!(code(&exchanged), MALFORMED, "another key");
}

#[test]
fn every_cut_and_every_trailing_byte_is_refused() {
    let sound = map(&values());
    assert_eq!(code(&sound), None);
    for length in 0..sound.len() {
        assert_eq!(code(&sound[..length]), MALFORMED, "{length}");
    }
    assert_eq!(code(&[&sound[..], b"\0"].concat()), MALFORMED);
}

/// Whatever a flipped bit makes of an index is refused, or it is the one encoding of another.
#[test]
fn every_flipped_bit_is_refused_or_says_something_else() {
    let sound = map(&values());
    let (mut taken, mut refused) = (0, 0);
    for bit in 0..sound.len() * 8 {
        let mut altered = sound.clone();
        altered[bit / 8] ^= 1 << (bit % 8);
        match Update::parse(&altered) {
            Ok(update) => {
                assert_eq!(update.encode(), altered, "bit {bit}");
                taken += 1;
            }
            Err(_) => refused += 1,
        }
    }
    // Five digests of 256 bits, and some bits of the numbers and the name.
    assert!(taken >= 5 * 256 && refused >= 200, "{taken} taken, {refused} refused");
}

#[test]
fn objects_that_are_out_of_order_doubled_missing_or_unknown_have_their_code() {
    let (twice, missing) = (Some(FailCode::UpdateTwice), Some(FailCode::UpdateIncomplete));
    let with_os = |kinds: &[u8]| {
        let signers: &[(u8, u32)] = if kinds.contains(&2) { &[(1, 4), (3, 5)] } else { &[(3, 5)] };
        code(&map(&[cbor("demo"), cbor(0_u8), indices(signers), objects(kinds)]))
    };
    for kinds in [&[9, 3, 4][..], &[2, 9, 3, 4], &[9, 4, 3, 5], &[2, 9, 5, 4, 3]] {
        assert_eq!(with_os(kinds), None, "{kinds:?}");
    }
    for (kinds, expected) in [
        (&[][..], missing),
        (&[2], missing),
        (&[9], missing),
        (&[2, 9, 3], missing),
        (&[9, 4, 5], missing),
        (&[2, 3, 4], MALFORMED),
        (&[3, 4, 9], MALFORMED),
        (&[9, 2, 3, 4], MALFORMED),
        (&[9, 3, 2, 4], MALFORMED),
        (&[9, 3, 4, 2], MALFORMED),
        (&[2, 2, 9, 3, 4], twice),
        (&[2, 9, 9, 3, 4], twice),
        (&[9, 3, 4, 9], twice),
        (&[9, 3, 3, 4], twice),
        (&[9, 3, 4, 5, 4], twice),
        (&[9, 3, 4, 6], Some(FailCode::KindReserved)),
        (&[9, 3, 4, 1], MALFORMED),
        (&[9, 3, 4, 7], MALFORMED),
        (&[9, 3, 4, 8], MALFORMED),
        (&[9, 3, 4, 10], MALFORMED),
        (&[9, 3, 4, 11], MALFORMED),
        (&[9, 3, 4, 0], MALFORMED),
        (&[9, 3, 4, 12], MALFORMED),
        (&[2, 9, 3, 4, 5, 3, 4, 5, 3, 4], twice),
        (&[2, 9, 3, 4, 5, 3, 4, 5, 3, 4, 5], MALFORMED),
    ] {
        assert_eq!(with_os(kinds), expected, "{kinds:?}");
    }
}

#[test]
fn each_role_that_signs_something_has_one_index_and_no_other_role_has_any() {
    let with_roles = |listed: &[(u8, u32)]| with(2, indices(listed));
    assert_eq!(with_roles(&[(1, 0), (3, u32::MAX)]), None);
    for listed in [
        &[][..],
        &[(1, 4)],
        &[(3, 5)],
        &[(3, 5), (1, 4)],
        &[(1, 4), (1, 4)],
        &[(1, 4), (1, 4), (3, 5)],
        &[(1, 4), (2, 9), (3, 5)],
        &[(1, 4), (3, 5), (4, 1)],
        &[(1, 4), (3, 5), (6, 1)],
        &[(0, 4), (3, 5)],
        &[(1, 4), (3, 5), (7, 1)],
        &[(1, 4), (2, 4), (3, 5), (4, 4), (5, 4), (6, 4), (7, 4)],
    ] {
        assert_eq!(with_roles(listed), MALFORMED, "{listed:?}");
    }
    let wide = pairs(&[(1, cbor(4)), (3, cbor(1_u64 << 32))]);
    assert_eq!(with(2, wide), MALFORMED);
    // Without a production stage the role boot has none.
    let without =
        |listed: &[(u8, u32)]| code(&map(&[cbor("demo"), cbor(0_u8), indices(listed), objects(&[9, 3, 4])]));
    assert_eq!(without(&[(3, 5)]), None);
    assert_eq!(without(&[(1, 4), (3, 5)]), MALFORMED);
}

#[test]
fn the_indices_of_roles_are_kept_apart() {
    let mut kept = RoleIndices::default();
    assert!(kept.iter().next().is_none());
    for (role, index) in Role::ALL.into_iter().zip(10..) {
        kept.set(role, index);
    }
    assert_eq!(kept.iter().collect::<Vec<_>>(), Role::ALL.into_iter().zip(10..).collect::<Vec<_>>());
    kept.set(Role::Os, 1);
    assert_eq!(
        (kept.of(Role::Provision), kept.of(Role::Os), kept.of(Role::Authority)),
        (Some(11), Some(1), Some(13))
    );
}

#[test]
fn the_index_of_an_update_and_that_of_a_package_are_not_taken_for_each_other() {
    let update = map(&values());
    let code = Package::parse(&update).unwrap_err().code();
    assert_eq!(code, FailCode::PackageMalformed);
    let digests = [[1; 32], [2; 32], [3; 32], [4; 32]];
    let kinds = [Kind::Stage2, Kind::Bundle, Kind::Kernel, Kind::DeviceTree];
    let named: Vec<_> = kinds
        .into_iter()
        .zip(&digests)
        .map(|(kind, manifest_digest)| PackageObject { kind, manifest_digest })
        .collect();
    let package = Package::new(&named, "demo").unwrap().encode();
    assert_eq!(super::update_index::code(&package), MALFORMED);
}

#[test]
fn an_update_key_is_known_among_other_secrets_and_is_not_shown() {
    let key = Key::new([0xA5; 32]);
    let written = UpdateKey::new("demo", &key).unwrap().encode();
    let expected =
        minicbor::to_vec(("kiln update key", "demo", minicbor::bytes::ByteArray::from([0xA5; 32])));
    assert_eq!(**written, expected.unwrap());
    let read = UpdateKey::parse(&written).unwrap();
    assert_eq!((read.product, read.key().expose()), ("demo", &[0xA5; 32]));
    assert_eq!(format!("{read:?}"), "UpdateKey { product: \"demo\", .. }");
    for name in ["", "Demo", "de mo", &"x".repeat(33)] {
        assert!(UpdateKey::new(name, &key).is_none(), "{name}");
    }

    for length in 0..written.len() {
        assert!(UpdateKey::parse(&written[..length]).is_none(), "{length}");
    }
    assert!(UpdateKey::parse(&[&written[..], b"\0"].concat()).is_none());
    for secret in [&b"the key of a customer"[..], &[0xA5; 32], b"kiln update key", &written[1..]] {
        assert!(UpdateKey::parse(secret).is_none(), "{secret:02X?}");
    }
    // A bit of the name or of the key makes it another one; everywhere else it is no update key.
    let known = (0..written.len() * 8).filter(|bit| {
        let mut altered = written.to_vec();
        altered[bit / 8] ^= 1 << (bit % 8);
        UpdateKey::parse(&altered).is_some()
    });
    assert!((256..256 + 32).contains(&known.count()));
}

#[test]
fn the_sealing_key_is_that_of_one_product_and_is_not_the_update_key() {
    let (a, b) = (Key::new([1; 32]), Key::new([2; 32]));
    let sealing = |product, key| *UpdateKey::new(product, key).unwrap().sealing_key().expose();
    let all = [sealing("demo", &a), sealing("demo", &b), sealing("demo-2", &a), sealing("dem", &a), [1; 32]];
    for (i, one) in all.iter().enumerate() {
        assert!(all.iter().skip(i + 1).all(|other| other != one), "{i}");
    }
    assert_eq!(sealing("demo", &a), all[0]);
}
