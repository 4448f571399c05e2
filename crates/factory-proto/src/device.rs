//! The device's half of a session.
//!
//! # Threats
//!
//! Everything that comes over the link is the adversary's: the station relays, and may be the factory's. A device
//! takes an answer only if keys that its own fused root delegated to signed it, and only for the question that this
//! session asked. A ticket holds the digest of the whole request, so whatever was altered on the way to the authority
//! (another package, another key to encrypt to) is found here, and a ticket of another die or session is useless:
//! besides being refused, it does not open, since its key comes from this session's ephemeral key. A replayed ticket
//! is a ticket for another nonce. The content key leaves a ticket only after all of this held.
//!
//! A request is made again byte for byte from its nonce and the ephemeral key, which come from the journal: after a
//! power cut the authority sees the same request and gives the same ticket.

use crate::signed::sign1;
use crate::{CHIP_ID_BYTES, Csr, Error, Field, Message, Receipt, Release, Request, Ticket, Trust, link};
use alloc::string::String;
use alloc::vec::Vec;
use boot_crypto::{AES_GCM_TAG_BYTES, Digest, EcKey, GcmKey, Key, equal, sha256, ticket_key};
use sealed_image::Verifier;
use zeroize::Zeroizing;

/// A ticket's key encrypts once, so its nonce may be constant.
pub(crate) const SECRETS_NONCE: [u8; 12] = [0; 12];

/// What a device can say of itself.
#[derive(Clone, Copy, Debug)]
pub struct Device<'a> {
    /// The board.
    pub board: &'a str,
    /// The chip id.
    pub chip_id: &'a [u8; CHIP_ID_BYTES],
    /// Manifest digest of the package's index.
    pub package_id: &'a Digest,
    /// The silicon vendor's certificate for the die key, leaf first; DER.
    pub die_chain: &'a [&'a [u8]],
    /// stage0's statement.
    pub statement: &'a [u8],
    /// The fuse facts that the statement vouches for.
    pub fuse_facts: &'a [u8],
}

/// One try to be provisioned: a request, and what is needed to take its answers.
pub struct Session<'a> {
    device: Device<'a>,
    stage_key: &'a EcKey,
    ephemeral: EcKey,
    nonce: [u8; 32],
    request: Vec<u8>,
    request_digest: Digest,
}

impl<'a> Session<'a> {
    /// Makes the request of a session. `stage_key` is the key that the statement names, `nonce` is random, and
    /// `ephemeral` was derived from a random seed: both lie in the journal before the request is sent.
    ///
    /// # Errors
    /// What the authority would refuse as malformed: a field out of its bounds, or more than a frame holds.
    pub fn new(
        device: Device<'a>,
        stage_key: &'a EcKey,
        ephemeral: EcKey,
        nonce: [u8; 32],
    ) -> Result<Self, Error> {
        let payload = Request {
            nonce: &nonce,
            package_id: device.package_id,
            ephemeral: &ephemeral.public(),
            die_chain: device.die_chain.to_vec(),
            statement: device.statement,
            fuse_facts: device.fuse_facts,
            board: device.board,
        }
        .encode();
        Request::decode(&payload)?;
        let request = sign1(Message::Request, &payload, stage_key);
        link::check_length(Message::Request, &request)?;
        let request_digest = sha256(&request);
        Ok(Self { device, stage_key, ephemeral, nonce, request, request_digest })
    }

    /// Returns the request to send.
    pub fn request(&self) -> &[u8] {
        &self.request
    }

    /// Returns the SHA-256 of the request.
    pub const fn request_digest(&self) -> &Digest {
        &self.request_digest
    }

    /// Verifies a ticket and takes the content key out of it.
    ///
    /// # Errors
    /// The first reason to refuse; nothing was decrypted then.
    pub fn verify_ticket<V: Verifier>(
        &self,
        untrusted: &[u8],
        trust: &Trust<'_>,
    ) -> Result<VerifiedTicket, Error> {
        let ticket = Ticket::decode(trust.verify::<V>(Message::Ticket, untrusted)?)?;
        let bound = [
            same(Message::Ticket, Field::RequestDigest, ticket.request_digest, &self.request_digest)?,
            same(Message::Ticket, Field::ChipId, ticket.chip_id, self.device.chip_id)?,
            same(Message::Ticket, Field::Nonce, ticket.nonce, &self.nonce)?,
            same(Message::Ticket, Field::PackageId, ticket.package_id, self.device.package_id)?,
        ];
        let unbound = Error::Mismatch { message: Message::Ticket, field: Field::Secrets };
        // Each has refused by itself where it had to; here they are looked at together once more.
        if !bound.into_iter().all(|decision| decision.accepts()) {
            return Err(unbound);
        }
        let shared =
            self.ephemeral.agree(ticket.ephemeral).ok_or(Error::EphemeralKey { message: Message::Ticket })?;
        let key = GcmKey::new(&ticket_key(&shared, &self.request_digest));
        let (secrets, tag) = ticket.secrets.split_first_chunk::<64>().ok_or(unbound)?;
        let tag: &[u8; AES_GCM_TAG_BYTES] = tag.first_chunk().ok_or(unbound)?;
        let mut secrets = Zeroizing::new(*secrets);
        key.open(&SECRETS_NONCE, &self.request_digest, &mut *secrets, tag).map_err(|_| unbound)?;
        let (content_key, entropy) = secrets.split_at(32);
        Ok(VerifiedTicket {
            install: *ticket.install,
            serial: ticket.serial.into(),
            content_key: Key::from_slice(content_key).ok_or(unbound)?,
            entropy: Key::from_slice(entropy).ok_or(unbound)?,
        })
    }

    /// Makes the message that asks for a certificate; `der` is a PKCS#10 request
    #[cfg_attr(feature = "csr", doc = "([`crate::identity::request`]).")]
    #[cfg_attr(not(feature = "csr"), doc = "(feature `csr`).")]
    ///
    /// # Errors
    /// A request that is longer than 2048 bytes.
    pub fn csr(&self, ticket: &VerifiedTicket, der: &[u8]) -> Result<Vec<u8>, Error> {
        let payload = Csr { install: &ticket.install, request_digest: &self.request_digest, der }.encode();
        Csr::decode(&payload)?;
        Ok(sign1(Message::Csr, &payload, self.stage_key))
    }

    /// Verifies the authority's receipt for the certificate request that was sent.
    ///
    /// # Errors
    /// The first reason to refuse.
    pub fn verify_receipt<V: Verifier>(
        &self,
        untrusted: &[u8],
        trust: &Trust<'_>,
        ticket: &VerifiedTicket,
        der: &[u8],
    ) -> Result<(), Error> {
        let receipt = Receipt::decode(trust.verify::<V>(Message::Receipt, untrusted)?)?;
        let install = same(Message::Receipt, Field::Install, receipt.install, &ticket.install)?;
        let csr = same(Message::Receipt, Field::CsrDigest, receipt.csr_digest, &sha256(der))?;
        if !install.and(csr).accepts() {
            return Err(Error::Mismatch { message: Message::Receipt, field: Field::CsrDigest });
        }
        Ok(())
    }
}

/// What a ticket brings.
pub struct VerifiedTicket {
    /// The install.
    pub install: [u8; 32],
    /// The device's serial number.
    pub serial: String,
    /// The key that the package's objects are sealed under.
    pub content_key: Key,
    /// Entropy of the authority, which joins the device's own.
    pub entropy: Key,
}

/// Verifies the release of the certificate that a closed device has asked for with its closing proof.
///
/// # Errors
/// The first reason to refuse.
pub fn verify_release<'a, V: Verifier>(
    untrusted: &'a [u8],
    trust: &Trust<'_>,
    install: &[u8; 32],
    chip_id: &[u8; CHIP_ID_BYTES],
) -> Result<Release<'a>, Error> {
    let release = Release::decode(trust.verify::<V>(Message::Release, untrusted)?)?;
    let for_install = same(Message::Release, Field::Install, release.install, install)?;
    let for_die = same(Message::Release, Field::ChipId, release.chip_id, chip_id)?;
    if !for_install.and(for_die).accepts() {
        return Err(Error::Mismatch { message: Message::Release, field: Field::Install });
    }
    Ok(release)
}

/// Compares what a message says with what belongs there.
pub(crate) fn same(
    message: Message,
    field: Field,
    found: &[u8],
    expected: &[u8],
) -> Result<boot_crypto::Decision, Error> {
    let same = equal(found, expected);
    if same.accepts() { Ok(same) } else { Err(Error::Mismatch { message, field }) }
}
