//! What was computed on the curve before, for rigs in which a million devices compute the same.
//!
//! The outcome of a verification follows from key, digest and signature alone; a public key, a signature, an agreement from
//! the private key and what it is used with. While a thread is within [`remembering`], it looks such an outcome up by all of
//! that, whole; outside of it, and on every device, nothing is remembered.

use core::cell::RefCell;
use core::hash::Hash;
use std::collections::HashMap;
use std::thread_local;

use crate::{Decision, Digest, Key};

/// What is remembered, by what it follows from.
#[derive(Default)]
pub(crate) struct Memo {
    pub(crate) decided: HashMap<([u8; 64], Digest, [u8; 64]), Decision>,
    pub(crate) public: HashMap<[u8; 32], [u8; 64]>,
    pub(crate) signed: HashMap<([u8; 32], Digest), [u8; 64]>,
    pub(crate) agreed: HashMap<([u8; 32], [u8; 64]), Option<Key>>,
}

thread_local! {
    static MEMO: RefCell<Option<Memo>> = const { RefCell::new(None) };
}

/// Runs `work`, during which this thread computes nothing on the curve twice, private keys included, which it keeps until
/// then. For tests.
pub fn remembering<T>(work: impl FnOnce() -> T) -> T {
    /// Forgets, however `work` ends.
    struct Forget;
    impl Drop for Forget {
        fn drop(&mut self) {
            MEMO.set(None);
        }
    }
    MEMO.set(Some(Memo::default()));
    let _forget = Forget;
    work()
}

/// Looks up in one part of the memo what follows from `inputs`, or computes it.
pub(crate) fn remembered<I: Eq + Hash, O>(
    part: impl FnOnce(&mut Memo) -> &mut HashMap<I, O>,
    inputs: impl FnOnce() -> I,
    compute: impl FnOnce() -> O,
    copy: impl FnOnce(&O) -> O,
) -> O {
    MEMO.with_borrow_mut(|memo| match memo {
        Some(memo) => copy(part(memo).entry(inputs()).or_insert_with(compute)),
        None => compute(),
    })
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

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
            assert_eq!(MEMO.with_borrow(|memo| memo.as_ref().map(|memo| memo.decided.len())), Some(514));
        });
        assert!(MEMO.with_borrow(Option::is_none));
    }

    #[test]
    fn what_a_private_key_does_is_remembered_for_that_key_and_that_input_alone() {
        let keys = [7, 8].map(|byte| EcKey::from_scalar(&[byte; 32]).unwrap());
        let digests = [b"one", b"two"].map(|text| sha256(text));
        let publics = keys.each_ref().map(EcKey::public);
        let all = || {
            let pairs = || keys.iter().flat_map(|key| [0, 1].map(|other| (key, other)));
            let signed: Vec<_> = pairs().map(|(key, other)| key.sign(&digests[other])).collect();
            let agreed: Vec<_> =
                pairs().map(|(key, other)| *key.agree(&publics[other]).unwrap().expose()).collect();
            assert!(keys.iter().all(|key| key.agree(&[1; 64]).is_none()), "no point of the curve");
            (keys.each_ref().map(EcKey::public), signed, agreed)
        };
        let computed = all();
        remembering(|| {
            assert!(all() == computed && all() == computed);
            let counts = MEMO.with_borrow(|memo| {
                let memo = memo.as_ref().unwrap();
                [memo.public.len(), memo.signed.len(), memo.agreed.len()]
            });
            assert_eq!(counts, [2, 4, 6]);
        });
    }
}
