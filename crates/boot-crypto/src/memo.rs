//! Decisions about signatures that were made before, for rigs that verify the same ones a million times.
//!
//! The outcome of a verification follows from key, digest and signature alone. While a thread is within [`remembering`],
//! it looks one up by all three, whole; outside of it, and on every device, nothing is remembered.

use core::cell::RefCell;
use std::collections::HashMap;
use std::thread_local;

use crate::{Decision, Digest};

type Memo = HashMap<([u8; 64], Digest, [u8; 64]), Decision>;

thread_local! {
    static MEMO: RefCell<Option<Memo>> = const { RefCell::new(None) };
}

/// Runs `work`, during which this thread verifies each signature once only. For tests.
pub fn remembering<T>(work: impl FnOnce() -> T) -> T {
    MEMO.set(Some(Memo::new()));
    let outcome = work();
    MEMO.set(None);
    outcome
}

pub(crate) fn decided(
    public_key: &[u8; 64],
    digest: &Digest,
    signature: &[u8; 64],
    decide: impl FnOnce() -> Decision,
) -> Decision {
    MEMO.with_borrow_mut(|memo| match memo {
        Some(memo) => *memo.entry((*public_key, *digest, *signature)).or_insert_with(decide),
        None => decide(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EcKey, es256_verify, sha256};

    #[test]
    fn what_is_remembered_is_what_was_decided() {
        let key = EcKey::from_scalar(&[7; 32]).unwrap();
        let (public, digest) = (key.public(), sha256(b"a message"));
        let signature = key.sign(&digest);
        remembering(|| {
            for _ in 0..2 {
                assert!(es256_verify(&public, &digest, &signature).accepts());
                for bit in 0..512 {
                    let mut other = signature;
                    other[bit / 8] ^= 1 << (bit % 8);
                    assert!(!es256_verify(&public, &digest, &other).accepts(), "bit {bit}");
                }
                assert!(!es256_verify(&public, &sha256(b"another"), &signature).accepts());
            }
            assert_eq!(MEMO.with_borrow(|memo| memo.as_ref().map(HashMap::len)), Some(514));
        });
        assert!(MEMO.with_borrow(Option::is_none));
    }
}
