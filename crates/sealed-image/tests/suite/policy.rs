//! Who may sign what, and what belongs where.

use crate::common::*;
use boot_crypto::host::Ps256Key;
use boot_crypto::sha256;
use fail_code::FailCode;
use minicbor::data::Tag;
use sealed_image::cbor::encode;
use sealed_image::host::{Facts, SignedPayload, Signer, certify, delegation, encode_grant};
use sealed_image::{
    Algorithm, Compression, Error, Es256, Grant, Header, Kind, Policy, Role, Root, UntrustedImage, Version,
};

fn code(result: Result<Vec<u8>, Error>) -> Option<FailCode> {
    result.err().map(|error| error.code())
}

fn seal(signed: &SignedPayload) -> Vec<u8> {
    signed.seal(&kek(), Compression::None).unwrap()
}

fn rsa() -> Ps256Key {
    Ps256Key::from_pem(include_str!("../../../release/keys/TEST-ONLY-os-ps256.pem")).unwrap()
}

fn kernel() -> Facts {
    Facts { kind: Kind::Kernel, ..facts() }
}

#[test]
fn a_root_must_be_fused_and_not_revoked() {
    let image = image();
    let digest = roots()[0].digest;
    let with = |roots: &[Root]| code(open_with(&image, &policy(roots)));
    let (valid, revoked) = (Root { digest, revoked: false }, Root { digest, revoked: true });
    let other = Root { digest: [7; 32], revoked: false };
    assert_eq!(with(&[valid]), None);
    assert_eq!(with(&[other, valid]), None);
    assert_eq!(with(&[]), Some(FailCode::RootUnknown));
    assert_eq!(with(&[other]), Some(FailCode::RootUnknown));
    assert_eq!(with(&[revoked]), Some(FailCode::RootRevoked));
    assert_eq!(with(&[valid, revoked]), Some(FailCode::RootRevoked));
}

#[test]
fn a_root_of_the_same_name_cannot_be_forged() {
    // The attacker's own root signs; the certificate names the fused root.
    let forged = certify(&key(66), &encode_grant(&boot_grant(&boot()))).unwrap();
    let part = delegation(&root().public_key(), &[forged]);
    let signed = SignedPayload::sign(&facts(), plain(), &part, &[&boot()]).unwrap();
    assert_eq!(code(open(&seal(&signed))), Some(FailCode::DelegationSignature));
}

#[test]
fn the_signer_must_be_the_delegated_key() {
    let stranger = key(3);
    let signed = signed_by(&facts(), &[boot_grant(&boot())], &[&stranger]);
    assert_eq!(code(open(&seal(&signed))), Some(FailCode::SignatureInvalid));
    // The root itself signs delegations only.
    let signed = signed_by(&facts(), &[boot_grant(&boot())], &[&root()]);
    assert_eq!(code(open(&seal(&signed))), Some(FailCode::SignatureInvalid));
}

#[test]
fn place_board_role_and_floor_are_checked() {
    let image = image();
    let roots = roots();
    let sound = policy(&roots);
    let with = |policy: Policy<'_>| code(open_with(&image, &policy));
    assert_eq!(with(sound), None);
    assert_eq!(with(Policy { kind: Kind::Stage1, ..sound }), Some(FailCode::KindWrong));
    assert_eq!(with(Policy { board: "other-board", ..sound }), Some(FailCode::BoardWrong));
    assert_eq!(with(Policy { rollback_floor: 4, ..sound }), None, "an index above the floor");
    assert_eq!(with(Policy { rollback_floor: 6, ..sound }), Some(FailCode::RolledBack));
    assert_eq!(with(Policy { rollback_floor: u32::MAX, ..sound }), Some(FailCode::RolledBack));

    let key = boot();
    let by_os = grant(Role::Os, &[Kind::Stage2], key.public_key());
    let wrong_role = signed_by(&facts(), &[by_os], &[&key]);
    assert_eq!(code(open(&seal(&wrong_role))), Some(FailCode::RoleWrong));

    let tee = Facts { kind: Kind::Tee, ..facts() };
    let reserved = seal(&signed_by(&tee, &[boot_grant(&boot())], &[&boot()]));
    assert_eq!(code(open(&reserved)), Some(FailCode::KindReserved));
}

#[test]
fn a_grant_covers_both_ends_of_its_versions_and_nothing_beyond_them() {
    let key = boot();
    let with = |min_version, max_version| {
        let grant = Grant { min_version, max_version, ..boot_grant(&key) };
        code(open(&seal(&signed_by(&facts(), &[grant], &[&key]))))
    };
    let version = facts().version;
    let (before, after) = (Version(version.0 - 1), Version(version.0 + 1));
    assert_eq!(with(version, version), None);
    assert_eq!(with(before, after), None);
    assert_eq!(with(after, after), Some(FailCode::VersionNotDelegated));
    assert_eq!(with(before, before), Some(FailCode::VersionNotDelegated));
}

/// The signature itself holds: it is one over the header that names the other algorithm.
#[test]
fn a_signature_that_names_another_algorithm_than_its_keys_is_refused() {
    let (signed, key) = (signed(), boot());
    let mut d = minicbor::Decoder::new(&signed.manifest);
    d.tag().unwrap();
    d.array().unwrap();
    let body = d.bytes().unwrap();
    d.map().unwrap();
    let payload = d.bytes().unwrap();
    let manifest = |algorithm: i8| {
        let protected =
            encode(|e| e.map(2)?.u8(1)?.i8(algorithm)?.u8(4)?.bytes(&key.public_key().thumbprint())?.ok());
        let to_sign = encode(|e| {
            e.array(5)?.str("Signature")?.bytes(body)?.bytes(&protected)?.bytes(b"")?.bytes(payload)?.ok()
        });
        let signature = key.sign(&sha256(&to_sign));
        encode(|e| {
            e.tag(Tag::new(98))?.array(4)?.bytes(body)?.map(0)?.bytes(payload)?.array(1)?;
            e.array(3)?.bytes(&protected)?.map(0)?.bytes(&signature)?.ok()
        })
    };
    let with = |algorithm| {
        open(&seal(&SignedPayload { manifest: manifest(algorithm), ..signed.clone() })).map(|_| ())
    };
    assert_eq!(with(Algorithm::Es256 as i8), Ok(()));
    assert_eq!(with(Algorithm::Ps256 as i8), Err(Error::Signature { index: 0 }));
}

#[test]
fn an_image_with_the_sealing_record_of_another_copy_is_refused() {
    let signed = signed();
    let (a, b) = (seal(&signed), seal(&signed));
    let range = parts(&a)[3].1.clone();
    assert_eq!(parts(&b)[3].1, range);
    let mut swapped = a.clone();
    swapped[range.clone()].copy_from_slice(&b[range]);
    assert_eq!(code(open(&swapped)), Some(FailCode::ChunkTag));

    // From an image of another manifest the record does not even unwrap.
    let other = Facts { rollback_index: 6, ..facts() };
    let c = seal(&signed_by(&other, &[boot_grant(&boot())], &[&boot()]));
    let range = parts(&a)[3].1.clone();
    assert_eq!(parts(&c)[3].1, range);
    let mut swapped = a;
    swapped[range.clone()].copy_from_slice(&c[range]);
    assert_eq!(code(open(&swapped)), Some(FailCode::KeyUnwrap));
}

#[test]
fn chunks_cannot_change_places() {
    let facts = Facts { chunk_size: CHUNK, ..facts() };
    let part = delegate(&[boot_grant(&boot())]);
    let signed = SignedPayload::sign(&facts, vec![0x55; 8192], &part, &[&boot()]).unwrap();
    let image = seal(&signed);
    assert_eq!(open(&image).unwrap(), vec![0x55; 8192]);
    // Equal plaintext, so even the signed digests agree; payload and tags both swapped.
    let mut swapped = image.clone();
    let (first, second) = swapped[4096..].split_at_mut(4096);
    first.swap_with_slice(second);
    let table = parts(&image)[4].1.start;
    let (first, second) = swapped[table..table + 104].split_at_mut(52);
    first.swap_with_slice(second);
    assert_eq!(code(open(&swapped)), Some(FailCode::ChunkTag));
}

#[test]
fn all_of_several_signatures_must_hold() {
    let (a, b) = (boot(), key(3));
    let grants = [boot_grant(&a), boot_grant(&b)];
    let both = signed_by(&facts(), &grants, &[&a, &b]);
    assert_eq!(open(&seal(&both)).unwrap(), plain());

    let refused = |grants: &[Grant<'_>], signers: &[&dyn Signer]| {
        code(open(&seal(&signed_by(&facts(), grants, signers))))
    };
    let invalid = Some(FailCode::SignatureInvalid);
    assert_eq!(refused(&grants, &[&a]), invalid, "a signature is missing");
    assert_eq!(refused(&grants[..1], &[&a, &b]), invalid, "a certificate is missing");
    assert_eq!(refused(&grants, &[&b, &a]), invalid, "order");
    assert_eq!(refused(&grants, &[&a, &key(4)]), invalid, "a stranger");
    assert_eq!(refused(&[grants[0], grants[0]], &[&a, &a]), invalid, "one key twice");
    let os = grant(Role::Os, &[Kind::Stage2], b.public_key());
    assert_eq!(refused(&[grants[0], os], &[&a, &b]), Some(FailCode::RoleWrong), "every role counts");

    let keys: Vec<_> = (10..15).map(key).collect();
    let signers: Vec<&dyn Signer> = keys.iter().map(|key| key as _).collect();
    let grants: Vec<_> = signers.iter().map(|key| boot_grant(*key)).collect();
    assert_eq!(open(&seal(&signed_by(&facts(), &grants[..4], &signers[..4]))).unwrap(), plain());
    let five = SignedPayload::sign(&facts(), plain(), &delegate(&grants), &signers);
    assert!(matches!(five, Err(sealed_image::host::SealError::SignerCount { found: 5 })));
}

#[test]
fn ps256_signs_what_is_no_stage_where_it_is_linked() {
    let (rsa, boot) = (rsa(), boot());
    let os = |key: &'_ dyn Signer| -> Vec<u8> {
        let grant = grant(Role::Os, &[Kind::Kernel], key.public_key());
        seal(&signed_by(&kernel(), &[grant], &[key]))
    };
    let roots = roots();
    // The RSA key is a published test key.
    let policy = Policy { kind: Kind::Kernel, refuse_test_keys: false, ..policy(&roots) };
    assert_eq!(open_with(&os(&rsa), &policy).unwrap(), plain());
    assert_eq!(
        code(open_with(&os(&rsa), &Policy { refuse_test_keys: true, ..policy })),
        Some(FailCode::TestKey)
    );

    let image = os(&rsa);
    let metadata = &image[..Header::parse(&image).unwrap().metadata_len() as usize];
    let error = UntrustedImage::parse(metadata).unwrap().verify::<Es256>(&policy).map(|_| ()).unwrap_err();
    assert_eq!(error, Error::Algorithm { algorithm: Algorithm::Ps256 });

    let mixed = [
        grant(Role::Os, &[Kind::Kernel], boot.public_key()),
        grant(Role::Os, &[Kind::Kernel], rsa.public_key()),
    ];
    let image = seal(&signed_by(&kernel(), &mixed, &[&boot, &rsa]));
    assert_eq!(open_with(&image, &policy).unwrap(), plain());

    let stage = seal(&signed_by(&facts(), &[boot_grant(&rsa)], &[&rsa]));
    let policy = Policy { kind: Kind::Stage2, ..policy };
    assert_eq!(code(open_with(&stage, &policy)), Some(FailCode::AlgorithmUnsupported));
}

#[test]
fn an_rsa_root_is_refused() {
    let rsa = rsa();
    let cert = certify(&root(), &encode_grant(&boot_grant(&boot()))).unwrap();
    let part = delegation(&rsa.public_key(), &[cert]);
    let signed = SignedPayload::sign(&facts(), plain(), &part, &[&boot()]).unwrap();
    let roots = [Root { digest: rsa.public_key().thumbprint(), revoked: false }];
    assert_eq!(code(open_with(&seal(&signed), &policy(&roots))), Some(FailCode::AlgorithmUnsupported));
}

#[test]
fn every_flipped_bit_of_a_ps256_signature_is_refused() {
    let rsa = rsa();
    let grant = grant(Role::Os, &[Kind::Kernel], rsa.public_key());
    let image = seal(&signed_by(&kernel(), &[grant], &[&rsa]));
    let roots = roots();
    let policy = Policy { kind: Kind::Kernel, refuse_test_keys: false, ..policy(&roots) };
    let end = parts(&image)[2].1.end;
    let mut tried = 0;
    for byte in end - 384..end {
        let mut altered = image.clone();
        altered[byte] ^= 1 << (byte % 8);
        assert_eq!(code(open_with(&altered, &policy)), Some(FailCode::SignatureInvalid), "byte {byte}");
        tried += 1;
    }
    assert_eq!(tried, 384);
}
