//! Known answers: published vectors through the functions that provisioning uses.

use boot_crypto::{Drbg, EcKey, GcmKey, Key, equal, es256_verify, hkdf_sha256, sha256};
use fail_code::FailCode;

/// Runs every known-answer test, and returns how many there are.
///
/// # Errors
/// [`FailCode::SelfTestCrypto`]: at least one answer is wrong.
pub fn check() -> Result<usize, FailCode> {
    let all = [digest(), derivation(), encryption(), signature(), agreement(), generator()];
    if all.into_iter().all(|right| right) { Ok(all.len()) } else { Err(FailCode::SelfTestCrypto) }
}

/// FIPS 180-4, the example of one block.
fn digest() -> bool {
    let expected: [u8; 32] = hex("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    equal(&sha256(b"abc"), &expected).accepts()
}

/// RFC 5869 appendix A.1.
fn derivation() -> bool {
    let mut okm = [0; 42];
    let salt: [u8; 13] = hex("000102030405060708090a0b0c");
    let info: [u8; 10] = hex("f0f1f2f3f4f5f6f7f8f9");
    hkdf_sha256(&salt, &[0x0B; 22], &[&info], &mut okm);
    let expected: [u8; 42] =
        hex("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865");
    equal(&okm, &expected).accepts()
}

/// McGrew and Viega, "The Galois/Counter Mode of Operation", test case 16: both directions, and a wrong tag.
fn encryption() -> bool {
    let key: [u8; 32] = hex("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308");
    let key = GcmKey::new(&Key::new(key));
    let nonce: [u8; 12] = hex("cafebabefacedbaddecaf888");
    let aad: [u8; 20] = hex("feedfacedeadbeeffeedfacedeadbeefabaddad2");
    let plain: [u8; 60] = hex(concat!(
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72",
        "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
    ));
    let sealed: [u8; 60] = hex(concat!(
        "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa",
        "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662"
    ));
    let tag: [u8; 16] = hex("76fc6ece0f4e1768cddf8853bb2d551b");

    let mut data = plain;
    let found = key.seal(&nonce, &aad, &mut data);
    let seals = found.is_some_and(|found| equal(&found, &tag).accepts()) && equal(&data, &sealed).accepts();
    let mut wrong = tag;
    wrong.iter_mut().take(1).for_each(|byte| *byte ^= 1);
    let refuses = key.open(&nonce, &aad, &mut data, &wrong).is_err();
    seals && refuses && key.open(&nonce, &aad, &mut data, &tag).is_ok() && equal(&data, &plain).accepts()
}

/// RFC 6979 appendix A.2.5, message "sample": made, accepted, and refused for another message.
fn signature() -> bool {
    let scalar = hex("c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721");
    let Some(key) = EcKey::from_scalar(&scalar) else { return false };
    let expected: [u8; 64] = hex(concat!(
        "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716",
        "f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8"
    ));
    let (public, digest) = (key.public(), sha256(b"sample"));
    equal(&key.sign(&digest), &expected).accepts()
        && es256_verify(&public, &digest, &expected).accepts()
        && !es256_verify(&public, &sha256(b"Sample"), &expected).accepts()
}

/// RFC 5903 section 8.1.
fn agreement() -> bool {
    let scalar = hex("c88f01f510d9ac3f70a292daa2316de544e9aab8afe84049c62a9c57862d1433");
    let other: [u8; 64] = hex(concat!(
        "d12dfb5289c8d4f81208b70270398c342296970a0bccb74c736fc7554494bf63",
        "56fbf3ca366cc23e8157854c13c58d6aac23f046ada30f8353e74f33039872ab"
    ));
    let expected: [u8; 32] = hex("d6840f6b42f6edafd13116e0e12565202fef8e9ece7dce03812464d04b9442de");
    let shared = EcKey::from_scalar(&scalar).and_then(|key| key.agree(&other));
    shared.is_some_and(|shared| equal(shared.expose(), &expected).accepts())
}

/// CAVP, HMAC_DRBG.rsp, SHA-256 with reseeding: the first of its group.
fn generator() -> bool {
    let entropy: [u8; 32] = hex("06032cd5eed33f39265f49ecb142c511da9aff2af71203bffaf34a9ca5bd9c0d");
    let nonce: [u8; 16] = hex("0e66f71edc43e42a45ad3c6fc6cdc4df");
    let fresh: [u8; 32] = hex("01920a4e669ed3a85ae8a33b35a74ad7fb2a6bb4cf395ce00334a9c9a5a5d552");
    let expected: [u8; 128] = hex(concat!(
        "76fc79fe9b50beccc991a11b5635783a83536add03c157fb30645e611c2898bb",
        "2b1bc215000209208cd506cb28da2a51bdb03826aaf2bd2335d576d519160842",
        "e7158ad0949d1a9ec3e66ea1b1a064b005de914eac2e9d4f2d72a8616a802254",
        "22918250ff66a41bd2f864a6a38cc5b6499dc43f7f2bd09e1e0f8f5885935124"
    ));
    let mut drbg = Drbg::new(&entropy, &nonce, &[]);
    drbg.reseed(&fresh);
    let mut out = [0; 128];
    drbg.fill(&mut out);
    drbg.fill(&mut out);
    equal(&out, &expected).accepts()
}

/// Reads hexadecimal digits; what is none, or missing, comes out as zero, and then no answer is right.
const fn hex<const N: usize>(text: &str) -> [u8; N] {
    let text = text.as_bytes();
    let mut bytes = [0; N];
    let mut i = 0;
    while i < N && 2 * i + 1 < text.len() {
        bytes[i] = digit_value(text[2 * i]) << 4 | digit_value(text[2 * i + 1]);
        i += 1;
    }
    bytes
}

const fn digit_value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_answer_is_the_known_one() {
        assert!(super::digest());
        assert!(super::derivation());
        assert!(super::encryption());
        assert!(super::signature());
        assert!(super::agreement());
        assert!(super::generator());
        assert_eq!(super::check(), Ok(6));
    }
}
