//! Signatures over SHA-256 digests: ES256 (RFC 9053 section 2.1) and PS256 (RFC 8230 section 2).

use crate::{Decision, Digest};
use p256::ecdsa::signature::hazmat::PrehashVerifier as _;
use p256::ecdsa::{Signature, VerifyingKey};

/// Verifies an ECDSA signature over P-256 with SHA-256. `public_key` is x followed by y, `signature` is r
/// followed by s, each 32 bytes big-endian. A key that is no point of the curve refuses, as does r or s out
/// of range.
#[inline(never)]
pub fn es256_verify(public_key: &[u8; 64], digest: &Digest, signature: &[u8; 64]) -> Decision {
    let (x, y) = public_key.split_at(32);
    let (Ok(x), Ok(y)) = (<&[u8; 32]>::try_from(x), <&[u8; 32]>::try_from(y)) else {
        return Decision::REFUSE;
    };
    let point = p256::Sec1Point::from_affine_coordinates(x.into(), y.into(), false);
    let (Ok(key), Ok(signature)) =
        (VerifyingKey::from_sec1_point(&point), Signature::from_bytes(signature.into()))
    else {
        return Decision::REFUSE;
    };
    Decision::from_bool(key.verify_prehash(digest, &signature).is_ok())
}

/// Returns the signature whose s is in the lower half of its range, of the two that are equally valid for a key and a
/// digest: whoever names a message by a digest over its signature takes no other. `None` for r or s out of range.
#[inline(never)]
pub fn es256_low_s(signature: &[u8; 64]) -> Option<[u8; 64]> {
    Some(Signature::from_bytes(signature.into()).ok()?.normalize_s().to_bytes().into())
}

/// Verifies an RSASSA-PSS signature with SHA-256, MGF1-SHA-256 and a salt of 32 bytes. `modulus` is
/// big-endian and of exactly 3072 or 4096 bits; the public exponent is 65537. Any other key refuses.
#[cfg(feature = "rsa")]
#[inline(never)]
pub fn ps256_verify(modulus: &[u8], digest: &Digest, signature: &[u8]) -> Decision {
    use rsa::{BoxedUint, RsaPublicKey, pss};

    let full_length = modulus.first().is_some_and(|byte| byte & 0x80 != 0);
    if !matches!(modulus.len(), 384 | 512) || !full_length || signature.len() != modulus.len() {
        return Decision::REFUSE;
    }
    let modulus = BoxedUint::from_be_slice_vartime(modulus);
    let Ok(key) = RsaPublicKey::new(modulus, BoxedUint::from(65537_u64)) else {
        return Decision::REFUSE;
    };
    let Ok(signature) = pss::Signature::try_from(signature) else {
        return Decision::REFUSE;
    };
    let key = pss::VerifyingKey::<sha2::Sha256>::new(key);
    Decision::from_bool(key.verify_prehash(digest, &signature).is_ok())
}
