//! Manifests and delegation certificates by themselves are refused for what the whole image is refused for.

use crate::common::*;
use sealed_image::host::{
    Facts, InspectedCertificate, InspectedManifest, Signer, certify, encode_grant, verify_certificate,
    verify_manifest,
};
use sealed_image::{Error, Es256, Kind, Policy, Role, Root, UntrustedImage};

/// What a device says of the metadata of an image.
fn device(image: &[u8], policy: &Policy<'_>) -> Option<Error> {
    let metadata = &image[..parts(&crate::common::image())[5].1.end];
    UntrustedImage::parse(metadata).and_then(|image| image.verify::<Es256>(policy).map(|_| ())).err()
}

#[test]
fn a_bare_manifest_is_judged_as_in_its_image_bit_by_bit() {
    let (image, roots) = (image(), roots());
    let [_, (_, delegation), (_, manifest), ..] = parts(&image);
    let delegation = &image[delegation];
    let policy = policy(&roots);
    let found = verify_manifest::<Es256>(delegation, &image[manifest.clone()], &policy).unwrap();
    assert_eq!((found.kind, found.board, found.plain_size), (Kind::Stage2, BOARD, plain().len() as u64));
    let mut refused = 0;
    for bit in 8 * manifest.start..8 * manifest.end {
        let mut altered = image.clone();
        altered[bit / 8] ^= 1 << (bit % 8);
        let expected = device(&altered, &policy);
        let found = verify_manifest::<Es256>(delegation, &altered[manifest.clone()], &policy).err();
        assert_eq!(found.map(|error| error.code()), expected.map(|error| error.code()), "bit {bit}");
        refused += u32::from(found.is_some());
    }
    assert_eq!(refused as usize, 8 * manifest.len(), "every bit is signed, or is the signature");
    for length in 0..manifest.len() {
        let cut = &image[manifest.start..manifest.start + length];
        assert!(verify_manifest::<Es256>(delegation, cut, &policy).is_err(), "{length} bytes");
    }
}

#[test]
fn what_a_bare_manifest_says_is_held_against_the_policy() {
    let roots = roots();
    let right = signed();
    let refused = |policy: &Policy<'_>| {
        verify_manifest::<Es256>(&right.delegation, &right.manifest, policy).err().map(|error| error.code())
    };
    let policy = policy(&roots);
    assert_eq!(refused(&policy), None);
    use fail_code::FailCode as F;
    assert_eq!(refused(&Policy { rollback_floor: 6, ..policy }), Some(F::RolledBack));
    assert_eq!(refused(&Policy { kind: Kind::Stage1, ..policy }), Some(F::KindWrong));
    assert_eq!(refused(&Policy { board: "other", ..policy }), Some(F::BoardWrong));
    let revoked = [Root { revoked: true, ..roots[0] }];
    assert_eq!(refused(&Policy { roots: &revoked, ..policy }), Some(F::RootRevoked));
    assert_eq!(refused(&Policy { roots: &[], ..policy }), Some(F::RootUnknown));

    // The delegation comes from elsewhere, and another one does not do.
    let other = signed_by(&facts(), &[boot_grant(&key(7))], &[&key(7)]);
    let code = verify_manifest::<Es256>(&other.delegation, &right.manifest, &policy).err().unwrap().code();
    assert_eq!(code, F::SignatureInvalid);
    for part in [&b""[..], b"no CBOR"] {
        assert!(verify_manifest::<Es256>(part, &right.manifest, &policy).is_err());
    }
    // Nor is a payload known: a manifest of many chunks is as good as one of few.
    let large = Facts { rollback_index: 5, ..facts() };
    let large = sealed_image::host::SignedPayload::sign(
        &large,
        vec![1; 2000 * CHUNK as usize],
        &delegate(&[boot_grant(&boot())]),
        &[&boot()],
    );
    let large = large.unwrap();
    assert!(verify_manifest::<Es256>(&large.delegation, &large.manifest, &policy).is_ok());
}

#[test]
fn a_certificate_by_itself_needs_its_root_and_every_bit() {
    let boot = boot();
    let grant = boot_grant(&boot);
    let certificate = certify(&root(), &encode_grant(&grant)).unwrap();
    let (public, roots) = (root().public(), roots());
    assert_eq!(verify_certificate(&certificate, &public, &roots, true), Ok(grant));
    let said = InspectedCertificate::of(&certificate).unwrap();
    assert_eq!((said.root, said.grant.role), (roots[0].digest, Role::Boot));
    for bit in 0..8 * certificate.len() {
        let mut altered = certificate.clone();
        altered[bit / 8] ^= 1 << (bit % 8);
        assert!(verify_certificate(&altered, &public, &roots, true).is_err(), "bit {bit}");
    }
    for length in 0..certificate.len() {
        assert!(verify_certificate(&certificate[..length], &public, &roots, true).is_err(), "{length}");
    }
    let revoked = [Root { revoked: true, ..roots[0] }];
    assert_eq!(verify_certificate(&certificate, &public, &revoked, true), Err(Error::RootRevoked));
    assert_eq!(verify_certificate(&certificate, &key(3).public(), &roots, true), Err(Error::RootUnknown));
    let theirs = certify(&key(3), &encode_grant(&grant)).unwrap();
    let found = verify_certificate(&theirs, &public, &roots, true);
    assert_eq!(found, Err(Error::DelegationSignature { index: 0 }));
}

#[test]
fn a_bare_manifest_says_who_signed_it_and_nothing_else_is_one() {
    let signed = signed();
    let said = InspectedManifest::of(&signed.manifest).unwrap();
    assert_eq!(said.manifest_digest, signed.manifest_digest);
    assert_eq!(said.signers, [boot().public_key().thumbprint()]);
    for other in [&signed.delegation[..], &image(), b""] {
        assert!(InspectedManifest::of(other).is_err());
    }
}
