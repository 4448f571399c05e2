//! HMAC_DRBG with SHA-256 (NIST SP 800-90A revision 1, section 10.1.2), 256 bits strong.

use crate::hmac::HmacSha256;
use zeroize::ZeroizeOnDrop;

/// Most bytes between two updates of the state (table 2: 2¹⁹ bits for each request).
const REQUEST_BYTES: usize = 1 << 16;

/// A deterministic random bit generator: wiped when dropped; not copied, compared or printed.
///
/// Its output is as unpredictable as everything that went in, taken together: who knows the entropy source but
/// not the personalization string knows nothing. 2⁴⁸ requests may follow a seed, more than any stage lives for.
#[derive(ZeroizeOnDrop)]
pub struct Drbg {
    key: [u8; 32],
    value: [u8; 32],
}

impl Drbg {
    /// Instantiates the generator from an entropy input, a nonce and a personalization string (section 10.1.2.3).
    pub fn new(entropy: &[u8], nonce: &[u8], personalization: &[u8]) -> Self {
        let mut drbg = Self { key: [0; 32], value: [1; 32] };
        drbg.update(&[entropy, nonce, personalization]);
        drbg
    }

    /// Mixes further entropy in (section 10.1.2.4). Nothing of the strength that was there is lost.
    pub fn reseed(&mut self, entropy: &[u8]) {
        self.update(&[entropy]);
    }

    /// Fills `into` with random bytes (section 10.1.2.5).
    #[inline(never)]
    pub fn fill(&mut self, into: &mut [u8]) {
        for request in into.chunks_mut(REQUEST_BYTES) {
            for block in request.chunks_mut(32) {
                self.next_value();
                block.iter_mut().zip(&self.value).for_each(|(to, from)| *to = *from);
            }
            self.update(&[]);
        }
    }

    /// Updates key and value with what is provided, which may be nothing (section 10.1.2.2).
    #[inline(never)]
    fn update(&mut self, provided: &[&[u8]]) {
        let rounds: &[u8] = if provided.is_empty() { &[0] } else { &[0, 1] };
        for round in rounds {
            let mut hmac = HmacSha256::new(&self.key);
            hmac.update(&self.value);
            hmac.update(&[*round]);
            provided.iter().for_each(|piece| hmac.update(piece));
            self.key = hmac.finish();
            self.next_value();
        }
    }

    fn next_value(&mut self) {
        let mut hmac = HmacSha256::new(&self.key);
        hmac.update(&self.value);
        self.value = hmac.finish();
    }
}
