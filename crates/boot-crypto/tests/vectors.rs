//! Published vectors of the private-key operations and of the generator.

use boot_crypto::{Drbg, EcKey, es256_low_s, es256_verify, sha256};

/// RFC 6979 appendix A.2.5: P-256, SHA-256.
#[test]
fn signatures_are_those_of_rfc_6979() {
    let key =
        EcKey::from_scalar(&hex("c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721")).unwrap();
    let public = hex(concat!(
        "60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6",
        "7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299"
    ));
    assert_eq!(key.public(), public);
    let sample = hex(concat!(
        "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716",
        "f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8"
    ));
    let test = hex(concat!(
        "f1abb023518351cd71d881567b1ea663ed3efcf6c5132b354f28d3b0b7d38367",
        "019f4113742a2b14bd25926b49c649155f267e60d3814b4c0cc84250e46f0083"
    ));
    // The same with n - s in the place of s, which is in the lower half.
    let low = hex(concat!(
        "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716",
        "0834e36ad29a83bf2bc9385e491d6099c8fdf9d1ed67aa7ea5f51f93782857a9"
    ));
    assert_eq!(
        (es256_low_s(&sample), es256_low_s(&low), es256_low_s(&test)),
        (Some(low), Some(low), Some(test))
    );
    assert!(es256_verify(&public, &sha256(b"sample"), &low).accepts());
    assert_eq!((es256_low_s(&[0; 64]), es256_low_s(&[0xFF; 64])), (None, None));
    for (message, signature) in [(&b"sample"[..], sample), (b"test", test)] {
        let digest = sha256(message);
        assert_eq!(key.sign(&digest), signature);
        assert!(es256_verify(&public, &digest, &signature).accepts());
    }
}

/// A digest above the order of the curve is reduced, as verifiers do.
#[test]
fn digests_of_every_size_are_signed() {
    let key = EcKey::from_scalar(&[7; 32]).unwrap();
    for digest in [[0; 32], [0xFF; 32], [0x80; 32]] {
        assert!(es256_verify(&key.public(), &digest, &key.sign(&digest)).accepts());
    }
}

#[test]
fn what_is_no_scalar_is_no_key() {
    let order = hex::<32>("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551");
    let mut last = order;
    last[31] -= 1;
    assert!(EcKey::from_scalar(&[0; 32]).is_none());
    assert!(EcKey::from_scalar(&order).is_none());
    assert!(EcKey::from_scalar(&[0xFF; 32]).is_none());
    assert!(EcKey::from_scalar(&last).is_some());
}

/// CAVP HMAC_DRBG.rsp, SHA-256, no prediction resistance, 256-bit entropy, 128-bit nonce, count 0 of the groups
/// without reseeding and with it.
#[test]
fn generator_gives_what_cavp_lists() {
    let mut out = [0; 128];
    let mut drbg = Drbg::new(
        &hex::<32>("ca851911349384bffe89de1cbdc46e6831e44d34a4fb935ee285dd14b71a7488"),
        &hex::<16>("659ba96c601dc69fc902940805ec0ca8"),
        &[],
    );
    drbg.fill(&mut out);
    drbg.fill(&mut out);
    assert_eq!(
        out,
        hex(concat!(
            "e528e9abf2dece54d47c7e75e5fe302149f817ea9fb4bee6f4199697d04d5b89",
            "d54fbb978a15b5c443c9ec21036d2460b6f73ebad0dc2aba6e624abf07745bc1",
            "07694bb7547bb0995f70de25d6b29e2d3011bb19d27676c07162c8b5ccde0668",
            "961df86803482cb37ed6d5c0bb8d50cf1f50d476aa0458bdaba806f48be9dcb8"
        ))
    );

    let mut drbg = Drbg::new(
        &hex::<32>("06032cd5eed33f39265f49ecb142c511da9aff2af71203bffaf34a9ca5bd9c0d"),
        &hex::<16>("0e66f71edc43e42a45ad3c6fc6cdc4df"),
        &[],
    );
    drbg.reseed(&hex::<32>("01920a4e669ed3a85ae8a33b35a74ad7fb2a6bb4cf395ce00334a9c9a5a5d552"));
    drbg.fill(&mut out);
    drbg.fill(&mut out);
    assert_eq!(
        out,
        hex(concat!(
            "76fc79fe9b50beccc991a11b5635783a83536add03c157fb30645e611c2898bb",
            "2b1bc215000209208cd506cb28da2a51bdb03826aaf2bd2335d576d519160842",
            "e7158ad0949d1a9ec3e66ea1b1a064b005de914eac2e9d4f2d72a8616a802254",
            "22918250ff66a41bd2f864a6a38cc5b6499dc43f7f2bd09e1e0f8f5885935124"
        ))
    );
}

/// The output of one long request is cut into requests that the standard allows.
#[test]
fn long_requests_are_several() {
    let mut whole = vec![0; (1 << 16) + 40];
    Drbg::new(&[1; 32], &[2; 16], b"here").fill(&mut whole);
    let mut pieces = Drbg::new(&[1; 32], &[2; 16], b"here");
    let (first, second) = whole.split_at(1 << 16);
    for expected in [first, second] {
        let mut got = vec![0; expected.len()];
        pieces.fill(&mut got);
        assert_eq!(got, expected);
    }
    let mut other = vec![0; whole.len()];
    Drbg::new(&[1; 32], &[2; 16], b"there").fill(&mut other);
    assert_ne!(other, whole);
}

fn hex<const N: usize>(text: &str) -> [u8; N] {
    assert_eq!(text.len(), 2 * N);
    core::array::from_fn(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap())
}
