//! What a stage hands to the next beside the `BootInfo`: secrets, and the evidence of the boot.
//!
//! # Threats
//! Between the last look of the giver and the first of the receiver a fault alters the page, and the receiver works with keys that
//! nobody derived: what it seals is lost, or opens with a key that an attacker knows. So the page ends with a check value, by
//! which the receiver refuses a page that was spoiled. It guards against faults alone: secure RAM is out of reach of whoever could forge it. It is
//! a CRC and no digest, since that is computed in registers, and leaves no copies of the secrets on the stack.

use core::mem::{offset_of, size_of};

use boot_crypto::{Decision, Key, equal};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};
use zeroize::Zeroize;

use crate::crc::crc32c;
use crate::{FUSE_FACTS_BYTES, SignedStatement};

const MAGIC: [u8; 8] = *b"KILNSECR";
const PRODUCTION: u8 = 1;
const PROVISION: u8 = 2;
const STATEMENT_ROOM: usize = 256;

/// Secrets for the next stage, derived by stage0. Which ones follows from the lifecycle.
pub enum Secrets {
    /// For stage2.
    Production {
        /// The key under which the data keys of OS objects are wrapped.
        os_storage_key: Key,
        /// A secret that joins every random value made later, since the entropy source may be another's.
        rng_secret: Key,
    },
    /// For stage1.
    Provision {
        /// The secret of this stage on this die: another stage gets another.
        stage_secret: Key,
        /// The secret that the device root is derived from, with the device seed.
        die_secret: Key,
    },
}

/// What stage0 vouches for, to be shown to the authority. Not secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The statement, signed with the die key.
    pub statement: SignedStatement,
    /// The fuse facts whose digest the statement holds, encoded.
    pub fuse_facts: [u8; FUSE_FACTS_BYTES],
    /// The install that the statement is for; zero in a statement for a stage key.
    pub install: [u8; 32],
}

/// The page that goes with a `BootInfo`.
pub struct SecretPage {
    /// Secrets for the receiver.
    pub secrets: Secrets,
    /// The evidence: always for stage1, for stage2 only while closing is pending.
    pub evidence: Option<Evidence>,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct Wire {
    magic: [u8; 8],
    kind: u8,
    has_evidence: u8,
    statement_len: u16,
    reserved: u32,
    secrets: [[u8; 32]; 2],
    install: [u8; 32],
    statement: [u8; STATEMENT_ROOM],
    fuse_facts: [u8; FUSE_FACTS_BYTES],
    padding: [u8; (FUSE_FACTS_BYTES + 4).next_multiple_of(8) - 4 - FUSE_FACTS_BYTES],
    check: [u8; 4],
}

const _: () = {
    assert!(offset_of!(Wire, kind) == 8);
    assert!(offset_of!(Wire, statement_len) == 10);
    assert!(offset_of!(Wire, secrets) == 16);
    assert!(offset_of!(Wire, install) == 80);
    assert!(offset_of!(Wire, statement) == 112);
    assert!(offset_of!(Wire, fuse_facts) == 368);
    assert!(offset_of!(Wire, check) == 596);
    assert!(size_of::<Wire>() == SecretPage::SIZE);
    assert!(SignedStatement::MAX_BYTES <= STATEMENT_ROOM);
};

impl Wire {
    /// The check value over all that comes before it.
    fn checked(&self) -> [u8; 4] {
        let before = self.as_bytes().split_last_chunk::<4>().map_or(&[][..], |(before, _)| before);
        crc32c(before).to_le_bytes()
    }
}

impl SecretPage {
    /// Length of the encoded form in bytes.
    pub const SIZE: usize = 368 + (FUSE_FACTS_BYTES + 4).next_multiple_of(8);

    /// Writes the encoded form, check value included, to the start of `page`; false if it does not fit.
    #[must_use]
    pub fn write(&self, page: &mut [u8]) -> bool {
        let Some((place, _)) = page.split_first_chunk_mut::<{ Self::SIZE }>() else { return false };
        let Ok(wire) = Wire::mut_from_bytes(place) else { return false };
        wire.zero();
        wire.magic = MAGIC;
        let (kind, secrets) = match &self.secrets {
            Secrets::Production { os_storage_key, rng_secret } => (PRODUCTION, [os_storage_key, rng_secret]),
            Secrets::Provision { stage_secret, die_secret } => (PROVISION, [stage_secret, die_secret]),
        };
        wire.kind = kind;
        wire.secrets.iter_mut().zip(secrets).for_each(|(to, from)| *to = *from.expose());
        if let Some(evidence) = &self.evidence {
            let statement = evidence.statement.as_bytes();
            wire.has_evidence = 1;
            wire.statement_len = statement.len() as u16;
            wire.statement.iter_mut().zip(statement).for_each(|(to, from)| *to = *from);
            wire.install = evidence.install;
            wire.fuse_facts = evidence.fuse_facts;
        }
        wire.check = wire.checked();
        true
    }

    /// Tells whether two encoded forms are the same.
    pub fn confirms(written: &[u8], again: &[u8]) -> Decision {
        match (written.first_chunk::<{ Self::SIZE }>(), again.first_chunk::<{ Self::SIZE }>()) {
            (Some(written), Some(again)) => equal(written, again),
            _ => Decision::REFUSE,
        }
    }

    /// Reads the encoded form from the start of `page` and wipes the whole page; `None` if the page holds none, one that
    /// this release does not know, or one that was altered after it was written.
    pub fn take(page: &mut [u8]) -> Option<Self> {
        let taken = Wire::ref_from_prefix(page).ok().and_then(|(wire, _)| Self::from_wire(wire));
        page.zeroize();
        taken
    }

    /// Reads the key that the data keys of OS objects are wrapped under, and leaves it in the page; `None` as for
    /// [`SecretPage::take`], and for a page with other secrets.
    pub fn os_storage_key(page: &[u8]) -> Option<Key> {
        Some(Key::new(Self::production(page)?.secrets[0]))
    }

    /// Reads the secret that joins random values, as [`SecretPage::os_storage_key`] reads that key.
    pub fn rng_secret(page: &[u8]) -> Option<Key> {
        Some(Key::new(Self::production(page)?.secrets[1]))
    }

    /// Finds the page of stage2.
    fn production(page: &[u8]) -> Option<&Wire> {
        let wire = Wire::ref_from_prefix(page).ok()?.0;
        Self::evidence_of(wire)?;
        (wire.kind == PRODUCTION).then_some(wire)
    }

    /// Reads the evidence, where a page has some, and leaves the secrets in the page. They are nowhere else meanwhile: a
    /// fault here that makes evidence out of what lies on the stack does not make it out of secrets. `None` if the page
    /// is malformed; whether it is of a kind that this release knows, [`SecretPage::take`] tells.
    pub fn evidence(page: &[u8]) -> Option<Option<Evidence>> {
        Self::evidence_of(Wire::ref_from_prefix(page).ok()?.0)
    }

    fn evidence_of(wire: &Wire) -> Option<Option<Evidence>> {
        let statement = wire.statement.split_at_checked(usize::from(wire.statement_len))?;
        let unused = statement.1.iter().chain(&wire.padding);
        let sound = wire.magic == MAGIC && wire.check == wire.checked();
        if !sound || wire.reserved != 0 || unused.copied().any(|byte| byte != 0) {
            return None;
        }
        match wire.has_evidence {
            0 if statement.0.is_empty()
                && wire.install == [0; 32]
                && wire.fuse_facts.iter().all(|it| *it == 0) =>
            {
                Some(None)
            }
            1 => Some(Some(Evidence {
                statement: SignedStatement::from_untrusted(statement.0)?,
                fuse_facts: wire.fuse_facts,
                install: wire.install,
            })),
            _ => None,
        }
    }

    fn from_wire(wire: &Wire) -> Option<Self> {
        let evidence = Self::evidence_of(wire)?;
        let [first, second] = wire.secrets.each_ref().map(|secret| Key::new(*secret));
        let secrets = match wire.kind {
            PRODUCTION => Secrets::Production { os_storage_key: first, rng_secret: second },
            PROVISION => Secrets::Provision { stage_secret: first, die_secret: second },
            _ => return None,
        };
        Some(Self { secrets, evidence })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Statement, Subject};
    use boot_crypto::EcKey;

    fn key(byte: u8) -> Key {
        Key::new([byte; 32])
    }

    fn evidence(subject: Subject) -> Evidence {
        let statement =
            Statement { lifecycle: 0x8000_0000, measurement: [1; 32], fuse_digest: [2; 32], subject };
        Evidence {
            statement: statement.sign(&EcKey::from_scalar(&[9; 32]).unwrap()),
            fuse_facts: core::array::from_fn(|i| i as u8),
            install: match subject {
                Subject::Closed(_) => [7; 32],
                Subject::StageKey(_) => [0; 32],
            },
        }
    }

    fn all() -> [SecretPage; 3] {
        let production = || Secrets::Production { os_storage_key: key(1), rng_secret: key(2) };
        let provision = Secrets::Provision { stage_secret: key(3), die_secret: key(4) };
        [
            SecretPage { secrets: production(), evidence: None },
            SecretPage { secrets: production(), evidence: Some(evidence(Subject::Closed([5; 32]))) },
            SecretPage { secrets: provision, evidence: Some(evidence(Subject::StageKey([6; 64]))) },
        ]
    }

    fn exposed(secrets: &Secrets) -> (u8, [[u8; 32]; 2]) {
        match secrets {
            Secrets::Production { os_storage_key, rng_secret } => {
                (PRODUCTION, [*os_storage_key.expose(), *rng_secret.expose()])
            }
            Secrets::Provision { stage_secret, die_secret } => {
                (PROVISION, [*stage_secret.expose(), *die_secret.expose()])
            }
        }
    }

    /// The page with another byte, checked again: what is refused then is not refused for its check value.
    fn altered(page: &SecretPage, offset: usize, value: u8) -> [u8; SecretPage::SIZE] {
        let mut bytes = [0; SecretPage::SIZE];
        assert!(page.write(&mut bytes));
        bytes[offset] = value;
        let wire = Wire::mut_from_bytes(&mut bytes).unwrap();
        wire.check = wire.checked();
        bytes
    }

    #[test]
    fn a_page_that_was_altered_after_it_was_written_is_refused_whatever_byte_it_was() {
        for written in all() {
            let mut good = [0; SecretPage::SIZE];
            assert!(written.write(&mut good));
            for at in 0..good.len() {
                for value in [good[at] ^ 1, good[at] ^ 0x80, !good[at]] {
                    let mut page = good;
                    page[at] = value;
                    assert_eq!(SecretPage::evidence(&page), None, "byte {at}");
                    assert!(SecretPage::take(&mut page).is_none(), "byte {at}");
                    assert_eq!(page, [0; SecretPage::SIZE]);
                }
            }
            let mut cleared = good;
            cleared[16..80].fill(0);
            assert!(SecretPage::take(&mut cleared).is_none(), "a page whose secrets were cleared");
        }
    }

    #[test]
    fn a_page_is_taken_once_and_wiped() {
        for written in all() {
            let mut page = [0xAA; 4096];
            assert!(written.write(&mut page));
            assert_eq!(SecretPage::evidence(&page), Some(written.evidence.clone()));
            let taken = SecretPage::take(&mut page).unwrap();
            assert_eq!(exposed(&taken.secrets), exposed(&written.secrets));
            assert_eq!(taken.evidence, written.evidence);
            assert_eq!(page, [0; 4096]);
            assert!(SecretPage::take(&mut page).is_none());
        }
    }

    #[test]
    fn unknown_kinds_lengths_and_reserved_bits_are_refused_and_the_page_is_wiped_all_the_same() {
        let alterations = [(0, 0), (8, 0), (8, 3), (9, 2), (10, 255), (11, 2), (12, 1), (15, 1), (367, 1)];
        for (offset, value) in alterations.into_iter().chain([(SecretPage::SIZE - 5, 1)]) {
            for written in all() {
                let mut page = altered(&written, offset, value);
                assert!(SecretPage::take(&mut page).is_none(), "offset {offset}");
                assert_eq!(page, [0; SecretPage::SIZE]);
            }
        }
    }

    #[test]
    fn parts_of_evidence_in_a_page_that_says_that_it_has_none_are_refused() {
        for offset in [80, 111, 368, 368 + FUSE_FACTS_BYTES - 1] {
            let [without, ..] = all();
            let mut page = altered(&without, offset, 1);
            assert_eq!(SecretPage::evidence(&page), None, "offset {offset}");
            assert!(SecretPage::take(&mut page).is_none(), "offset {offset}");
        }
    }

    #[test]
    fn a_page_is_confirmed_by_the_same_and_by_no_other() {
        for page in all() {
            let mut good = [0; SecretPage::SIZE];
            assert!(page.write(&mut good));
            assert!(SecretPage::confirms(&good, &good).accepts());
            for at in 0..good.len() {
                let mut other = good;
                other[at] ^= 1;
                assert!(!SecretPage::confirms(&good, &other).accepts(), "byte {at}");
            }
            assert!(!SecretPage::confirms(&good, &good[1..]).accepts());
            assert!(!SecretPage::confirms(&good[1..], &good[1..]).accepts());
        }
    }

    #[test]
    fn the_keys_of_stage2_are_read_where_they_lie_and_of_no_other_page() {
        for page in all() {
            let (mut bytes, mut altered) = ([0; SecretPage::SIZE], [0; SecretPage::SIZE]);
            assert!(page.write(&mut bytes) && page.write(&mut altered));
            let before = bytes;
            let keys = [SecretPage::os_storage_key(&bytes), SecretPage::rng_secret(&bytes)];
            assert_eq!(bytes, before);
            match page.secrets {
                Secrets::Production { os_storage_key, rng_secret } => {
                    let expected = [os_storage_key, rng_secret].map(|key| *key.expose());
                    assert_eq!(keys.map(|key| *key.unwrap().expose()), expected);
                }
                Secrets::Provision { .. } => assert!(keys.iter().all(Option::is_none)),
            }
            altered[SecretPage::SIZE / 2] ^= 1;
            assert!(
                SecretPage::os_storage_key(&altered).is_none() && SecretPage::rng_secret(&altered).is_none()
            );
        }
    }

    #[test]
    fn a_page_that_is_too_small_is_refused() {
        let [page, ..] = all();
        assert!(!page.write(&mut [0; SecretPage::SIZE - 1]));
        assert_eq!(SecretPage::evidence(&[0; SecretPage::SIZE - 1]), None);
        assert!(SecretPage::take(&mut [0; SecretPage::SIZE - 1]).is_none());
    }
}
