//! Journal entries that hold secrets.
//!
//! ```text
//! salt (32 bytes) ‖ AES-256-GCM(key of the entry, nonce 0, associated data: binding, content) ‖ tag (16 bytes)
//! ```
//!
//! The key of an entry belongs to its salt, and the salt to one binding and content, so its nonce may be constant. It comes
//! from stage0's secret for this die, this lifecycle and this very stage: another die, or another stage1, opens nothing.
//!
//! # Threats
//! *Whoever writes the journal puts entries together that this die sealed in several sessions.* An entry opens with its
//! binding only: the kind that it is of, and for what was drawn under a ticket the digest of that ticket.

use boot_crypto::{AES_GCM_TAG_BYTES, GcmKey, Key, Sha256, journal_entry_key};
use zeroize::Zeroizing;

use crate::random::Random;

/// The key is used once.
const NONCE: [u8; 12] = [0; 12];
/// What is added to the content.
pub(crate) const OVERHEAD: usize = 32 + AES_GCM_TAG_BYTES;

/// Seals a content of `N` bytes into an entry of `M`, which is [`OVERHEAD`] more.
pub(crate) fn seal<const N: usize, const M: usize>(
    journal_key: &Key,
    binding: &[u8],
    random: &mut Random,
    content: &[u8; N],
) -> Option<[u8; M]> {
    const { assert!(M == N + OVERHEAD) };
    let mut hash = Sha256::new();
    hash.update(content);
    hash.update(binding);
    let salt = random.entry_salt(journal_key, &hash.finish());
    let mut sealed = Zeroizing::new(*content);
    let tag = GcmKey::new(&journal_entry_key(journal_key, &salt)).seal(&NONCE, binding, &mut *sealed)?;
    let mut entry = [0; M];
    let parts = salt.iter().chain(&*sealed).chain(&tag);
    entry.iter_mut().zip(parts).for_each(|(to, from)| *to = *from);
    Some(entry)
}

/// Opens an entry; `None` if it was not sealed by this stage on this die for this.
pub fn open<const N: usize>(
    journal_key: &Key,
    binding: &[u8],
    untrusted: &[u8],
) -> Option<Zeroizing<[u8; N]>> {
    let (salt, rest) = untrusted.split_first_chunk::<32>()?;
    let (sealed, tag) = rest.split_last_chunk::<AES_GCM_TAG_BYTES>()?;
    let mut content = Zeroizing::new(<[u8; N]>::try_from(sealed).ok()?);
    let key = GcmKey::new(&journal_entry_key(journal_key, salt));
    key.open(&NONCE, binding, &mut *content, tag).ok()?;
    Some(content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::HealthyEntropy;
    use hal::{DmaDevices, ReadError, Storage};

    struct NoDisk;

    impl Storage for NoDisk {
        fn size(&self) -> u64 {
            0
        }

        fn read(&mut self, offset: u64, _: &mut [u8]) -> Result<(), ReadError> {
            Err(ReadError { offset })
        }
    }

    /// An entropy source that the adversary knows: it counts.
    #[derive(Default)]
    struct Counting(u64);

    impl DmaDevices for Counting {
        type Disk = NoDisk;

        fn start(&mut self) {}
        fn stop(&mut self) {}

        fn disk(&mut self) -> Option<&mut NoDisk> {
            None
        }

        fn entropy(&mut self, into: &mut [u8]) -> bool {
            for byte in into {
                self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                *byte = (self.0 >> 56) as u8;
            }
            true
        }
    }

    fn random(secret: u8, transcript: u8, now: u64) -> Random {
        let mut source = HealthyEntropy::default();
        let mut devices = Counting::default();
        Random::start(&mut source, &mut devices, &Key::new([secret; 32]), &[transcript; 32], now).unwrap()
    }

    #[test]
    fn only_the_same_key_and_binding_open_an_entry_and_every_bit_counts() {
        let key = Key::new([1; 32]);
        let binding = [3, 7, 7];
        let entry: [u8; 80] = seal(&key, &binding, &mut random(1, 1, 1), &[9; 32]).unwrap();
        assert!(!entry.windows(4).any(|window| window == [9; 4]));
        assert_eq!(*open::<32>(&key, &binding, &entry).unwrap(), [9; 32]);
        for other in [&[4, 7, 7][..], &[3, 7, 6], &[3, 7], &[3, 7, 7, 0], &[]] {
            assert!(open::<32>(&key, other, &entry).is_none(), "{other:?}");
        }
        assert!(open::<32>(&Key::new([2; 32]), &binding, &entry).is_none());
        assert!(open::<31>(&key, &binding, &entry).is_none());
        for len in 0..80 {
            assert!(open::<32>(&key, &binding, &entry[..len]).is_none());
        }
        for bit in 0..640 {
            let mut bad = entry;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(open::<32>(&key, &binding, &bad).is_none(), "bit {bit}");
        }
    }

    #[test]
    fn a_generator_that_repeats_itself_seals_other_contents_and_for_other_bindings_under_other_keys() {
        let key = Key::new([1; 32]);
        let sealed = |binding: u8, content: u8| -> [u8; 80] {
            seal(&key, &[binding], &mut random(1, 1, 1), &[content; 32]).unwrap()
        };
        assert_eq!(sealed(3, 5), sealed(3, 5));
        assert_ne!(sealed(3, 5)[..32], sealed(3, 6)[..32]);
        assert_ne!(sealed(3, 5)[..32], sealed(4, 5)[..32]);
    }

    #[test]
    fn with_known_entropy_every_other_input_still_changes_every_number() {
        let first: Vec<[u8; 32]> =
            [(1, 1, 1), (2, 1, 1), (1, 2, 1), (1, 1, 2)].map(|(s, t, n)| random(s, t, n).nonce()).to_vec();
        let mut joined = random(1, 1, 1);
        joined.join(&mut HealthyEntropy::default(), &mut Counting(7), &Key::new([8; 32]), b"ticket").unwrap();
        let mut other = random(1, 1, 1);
        other.join(&mut HealthyEntropy::default(), &mut Counting(7), &Key::new([9; 32]), b"ticket").unwrap();
        let all = [first, vec![joined.nonce(), other.nonce()]].concat();
        for (i, a) in all.iter().enumerate() {
            assert!(all.iter().skip(i + 1).all(|b| a != b), "{i}");
        }
    }
}
