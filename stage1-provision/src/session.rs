//! The session with the authority, as the journal keeps it.
//!
//! # Threats
//! *Power is cut between question and answer.* Everything that the request is made of is in the journal before the request
//! is sent, so that the answer can be read whenever it comes: the same nonce, the same ephemeral key, the same evidence,
//! and so the same request byte for byte. The evidence is kept with it, since a die whose fuses closing has begun to burn
//! cannot make the same statement again.

use alloc::vec::Vec;

use boot_crypto::{Digest, Key, alias_key, ephemeral_key, equal, journal_key};
use boot_info::{FUSE_FACTS_BYTES, SignedStatement};
use factory_proto::device::{self, Device, VerifiedTicket};
use factory_proto::identity;
use memory_map::qemu_virt::BOARD;
use sealed_image::Es256;
use zeroize::Zeroizing;

use crate::Error;
use crate::born::DeviceKeys;
use crate::handoff::Handoff;
use crate::journal;
use crate::machine::Entry;
use crate::place::Place;
use crate::random::Random;
use crate::secret_entry::{self, OVERHEAD};
use crate::trust::Trust;

const STATEMENT_BYTES: usize = SignedStatement::MAX_BYTES;
/// Bytes of a session in the journal, before they are sealed.
const CONTENT: usize = 3 * 32 + FUSE_FACTS_BYTES + STATEMENT_BYTES;

/// A session.
pub(crate) struct Session {
    nonce: [u8; 32],
    /// Makes the ephemeral key, together with the stage secret.
    seed: Key,
    package_id: Digest,
    fuse_facts: [u8; FUSE_FACTS_BYTES],
    statement: [u8; STATEMENT_BYTES],
}

impl Session {
    /// Draws a session for the place where the device stands.
    pub(crate) fn draw(random: &mut Random, handoff: &Handoff, place: &Place) -> Result<Self, Error> {
        Ok(Self {
            nonce: random.nonce(),
            seed: random.draw(),
            package_id: place.package_id,
            fuse_facts: handoff.evidence.fuse_facts,
            // A statement for a stage's key has this length, and no other.
            statement: handoff
                .evidence
                .statement
                .as_bytes()
                .try_into()
                .map_err(|_| Error::NotForThisStage)?,
        })
    }

    /// Opens the journalled session.
    pub(crate) fn open(handoff: &Handoff, untrusted: &[u8]) -> Result<Self, Error> {
        let key = journal_key(&handoff.stage_secret);
        let content: Option<Zeroizing<[u8; CONTENT]>> =
            secret_entry::open(&key, &[journal::kind(Entry::Session)], untrusted);
        let sealed = Error::EntrySealed { entry: Entry::Session };
        let content = content.ok_or(sealed)?;
        let (nonce, rest) = content.split_first_chunk().ok_or(sealed)?;
        let (seed, rest) = rest.split_first_chunk().ok_or(sealed)?;
        let (package_id, rest) = rest.split_first_chunk().ok_or(sealed)?;
        let (fuse_facts, rest) = rest.split_first_chunk().ok_or(sealed)?;
        let statement = rest.first_chunk().ok_or(sealed)?;
        Ok(Self {
            nonce: *nonce,
            seed: Key::new(*seed),
            package_id: *package_id,
            fuse_facts: *fuse_facts,
            statement: *statement,
        })
    }

    /// Seals the session for the journal.
    pub(crate) fn seal(&self, handoff: &Handoff, random: &mut Random) -> Result<Vec<u8>, Error> {
        let mut content = Zeroizing::new([0; CONTENT]);
        let fields: [&[u8]; 5] =
            [&self.nonce, self.seed.expose(), &self.package_id, &self.fuse_facts, &self.statement];
        content.iter_mut().zip(fields.into_iter().flatten()).for_each(|(to, from)| *to = *from);
        let key = journal_key(&handoff.stage_secret);
        let sealed: Option<[u8; CONTENT + OVERHEAD]> =
            secret_entry::seal(&key, &[journal::kind(Entry::Session)], random, &content);
        Ok(sealed.ok_or(Error::OutOfOrder)?.to_vec())
    }

    /// Tells whether the session was drawn for where the device stands now.
    pub(crate) fn fits(&self, handoff: &Handoff, place: &Place) -> bool {
        equal(&self.package_id, &place.package_id)
            .and(equal(&self.fuse_facts, &handoff.evidence.fuse_facts))
            .and(equal(&self.statement, handoff.evidence.statement.as_bytes()))
            .accepts()
    }

    /// Returns the package that was asked for.
    pub(crate) const fn package_id(&self) -> &Digest {
        &self.package_id
    }

    /// Makes the request.
    pub(crate) fn request(&self, handoff: &Handoff, place: &Place) -> Result<Vec<u8>, Error> {
        self.with(handoff, place, |session| Ok(session.request().to_vec()))
    }

    /// Verifies a ticket and takes what it grants.
    pub(crate) fn open_ticket(
        &self,
        handoff: &Handoff,
        place: &Place,
        trust: &Trust,
        untrusted: &[u8],
    ) -> Result<VerifiedTicket, Error> {
        self.with(handoff, place, |session| session.verify_ticket::<Es256>(untrusted, &trust.authority()))
    }

    /// Makes the message that asks for a certificate.
    pub(crate) fn csr(
        &self,
        handoff: &Handoff,
        place: &Place,
        ticket: &VerifiedTicket,
        keys: &DeviceKeys,
    ) -> Result<Vec<u8>, Error> {
        let der = identity::request(&keys.identity, &handoff.info.chip_id, &ticket.serial)?;
        self.with(handoff, place, |session| session.csr(ticket, &der))
    }

    /// Verifies the receipt for that message.
    pub(crate) fn verify_receipt(
        &self,
        handoff: &Handoff,
        place: &Place,
        trust: &Trust,
        ticket: &VerifiedTicket,
        keys: &DeviceKeys,
        untrusted: &[u8],
    ) -> Result<(), Error> {
        let der = identity::request(&keys.identity, &handoff.info.chip_id, &ticket.serial)?;
        self.with(handoff, place, |session| {
            session.verify_receipt::<Es256>(untrusted, &trust.authority(), ticket, &der)
        })
    }

    /// Makes the session of the protocol, which is made again for each message: it lends what this one keeps.
    fn with<T>(
        &self,
        handoff: &Handoff,
        place: &Place,
        work: impl FnOnce(&device::Session<'_>) -> Result<T, factory_proto::Error>,
    ) -> Result<T, Error> {
        let stage_key = alias_key(&handoff.stage_secret);
        let ephemeral = ephemeral_key(&handoff.stage_secret, self.seed.expose());
        let die_chain: Vec<&[u8]> = place.untrusted_die_chain.iter().map(Vec::as_slice).collect();
        let device = Device {
            board: BOARD,
            chip_id: &handoff.info.chip_id,
            package_id: &self.package_id,
            die_chain: &die_chain,
            statement: &self.statement,
            fuse_facts: &self.fuse_facts,
        };
        Ok(work(&device::Session::new(device, &stage_key, ephemeral, self.nonce)?)?)
    }
}
