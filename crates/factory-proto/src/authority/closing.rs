//! Closing proofs.

use super::{verify_facts, verify_statement};
use crate::device::same;
use crate::{CHIP_ID_BYTES, ClosingProof, Error, Field, Message};
use boot_crypto::{Digest, closing_digest, equal};
use boot_info::Subject;
use lifecycle::{FuseFacts, Lifecycle};

/// A die that is closed, by the word of its own key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClosedDevice {
    /// Measurement of the stage that it booted.
    pub measurement: Digest,
    /// The fuses, to be compared with the lot's policy.
    pub fuse_facts: FuseFacts,
}

/// Verifies that a die is in `Production` and was closed for its install, with the identity that was certified for it:
/// storage that is set back to an earlier session, and forward again, makes a device burn another seed than the one it
/// asked a certificate for. All but the proof is from the authority's own record of the install that the proof names.
///
/// # Errors
/// The first reason to refuse.
pub fn verify_closing(
    proof: &ClosingProof<'_>,
    die_key: &[u8; 64],
    install: &[u8; 32],
    chip_id: &[u8; CHIP_ID_BYTES],
    identity: &[u8; 64],
) -> Result<ClosedDevice, Error> {
    let named = same(Message::ClosingProof, Field::Install, proof.install, install)?.and(same(
        Message::ClosingProof,
        Field::ChipId,
        proof.chip_id,
        chip_id,
    )?);
    let statement = verify_statement(proof.statement, die_key)?;
    let wrong = Error::Lifecycle { found: statement.lifecycle };
    if statement.lifecycle != Lifecycle::Production.codeword() {
        return Err(wrong);
    }
    let Subject::Closed(stated) = statement.subject else {
        return Err(wrong);
    };
    let bound = equal(&stated, &closing_digest(install, identity));
    if !bound.accepts() {
        return Err(Error::ClosingUnbound);
    }
    let fuse_facts = verify_facts(proof.fuse_facts, &statement)?;
    if !named.and(bound).accepts() {
        return Err(Error::Mismatch { message: Message::ClosingProof, field: Field::Install });
    }
    Ok(ClosedDevice { measurement: statement.measurement, fuse_facts })
}
