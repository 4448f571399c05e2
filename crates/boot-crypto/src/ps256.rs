//! RSASSA-PSS over SHA-256 digests: PS256 (RFC 8230 section 2).

use crate::{Decision, Digest};
use rsa::signature::hazmat::PrehashVerifier as _;

/// Verifies an RSASSA-PSS signature with SHA-256, MGF1-SHA-256 and a salt of 32 bytes. `modulus` is
/// big-endian and of exactly 3072 or 4096 bits; the public exponent is 65537. Any other key refuses.
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
