//! Answers.

use super::VerifiedRequest;
use crate::device::SECRETS_NONCE;
use crate::signed::content_type;
use crate::{CHIP_ID_BYTES, EPHEMERAL_BYTES, Error, Message, Receipt, Release, Ticket, WRAPPED_BYTES, link};
use alloc::boxed::Box;
use alloc::vec::Vec;
use boot_crypto::host::random;
use boot_crypto::{Digest, EcKey, GcmKey, Key, ticket_key};
use core::fmt;
use sealed_image::PublicKey;
use sealed_image::host::{SealError, Signer, delegation, sign_message};
use zeroize::Zeroizing;

/// Why an answer could not be made.
#[derive(Debug)]
pub enum AnswerError {
    /// A device would refuse it.
    Refused(Error),
    /// The signer failed.
    Signer(SealError),
}

impl fmt::Display for AnswerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) => write!(f, "a device would refuse the answer: {error}"),
            Self::Signer(error) => write!(f, "{error}"),
        }
    }
}

impl core::error::Error for AnswerError {}

impl From<Error> for AnswerError {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl From<SealError> for AnswerError {
    fn from(error: SealError) -> Self {
        Self::Signer(error)
    }
}

/// The install that a ticket grants.
pub struct Install<'a> {
    /// Its name, random.
    pub id: &'a [u8; 32],
    /// The chip id of the one die that it is for, as the vendor certified it.
    pub chip_id: &'a [u8; CHIP_ID_BYTES],
    /// The device's serial number.
    pub serial: &'a str,
    /// The package's content key.
    pub content_key: &'a Key,
}

/// Signs the authority's answers.
pub struct Authority {
    delegation: Vec<u8>,
    signer: Box<dyn Signer + Send + Sync>,
}

impl Authority {
    /// Takes a key with the owner root's certificate, which delegates the role `authority` to it.
    pub fn new(root: &PublicKey<'_>, certificate: Vec<u8>, signer: Box<dyn Signer + Send + Sync>) -> Self {
        Self { delegation: delegation(root, &[certificate]), signer }
    }

    /// Makes the ticket that answers a request: with an ephemeral key and entropy of its own, so that a second
    /// ticket for the same request would be another one. The caller stores it and gives the stored one again.
    ///
    /// # Errors
    /// An install that a device would refuse, the signer's.
    pub fn ticket(
        &self,
        request: &VerifiedRequest<'_>,
        install: &Install<'_>,
    ) -> Result<Vec<u8>, AnswerError> {
        let (ephemeral, secrets) = seal_secrets(request, install)?;
        let ticket = Ticket {
            request_digest: &request.digest,
            chip_id: install.chip_id,
            nonce: &request.nonce,
            package_id: &request.package_id,
            install: install.id,
            serial: install.serial,
            ephemeral: &ephemeral,
            secrets: &secrets,
        };
        let payload = ticket.encode();
        Ticket::decode(&payload)?;
        self.sign(Message::Ticket, &payload)
    }

    /// Makes the receipt for a certificate request that is stored.
    ///
    /// # Errors
    /// The signer's.
    pub fn receipt(&self, install: &[u8; 32], csr_digest: &Digest) -> Result<Vec<u8>, AnswerError> {
        self.sign(Message::Receipt, &Receipt { install, csr_digest }.encode())
    }

    /// Makes the release of a closed device's certificate, leaf first.
    ///
    /// # Errors
    /// Certificates that no device takes, the signer's.
    pub fn release(
        &self,
        install: &[u8; 32],
        chip_id: &[u8; CHIP_ID_BYTES],
        certificates: &[&[u8]],
    ) -> Result<Vec<u8>, AnswerError> {
        let payload = Release { install, chip_id, certificates: certificates.to_vec() }.encode();
        Release::decode(&payload)?;
        self.sign(Message::Release, &payload)
    }

    fn sign(&self, message: Message, payload: &[u8]) -> Result<Vec<u8>, AnswerError> {
        let signed = sign_message(content_type(message), payload, &self.delegation, &[&*self.signer])?;
        link::check_length(message, &signed)?;
        Ok(signed)
    }
}

/// Encrypts content key and fresh entropy to a request.
fn seal_secrets(
    request: &VerifiedRequest<'_>,
    install: &Install<'_>,
) -> Result<([u8; EPHEMERAL_BYTES], [u8; WRAPPED_BYTES]), Error> {
    let ephemeral = ephemeral();
    let shared =
        ephemeral.agree(&request.ephemeral).ok_or(Error::EphemeralKey { message: Message::Request })?;
    let entropy = Zeroizing::new(random::<32>());
    let mut plain = Zeroizing::new([0; 64]);
    plain[..32].copy_from_slice(install.content_key.expose());
    plain[32..].copy_from_slice(&*entropy);
    let tag = GcmKey::new(&ticket_key(&shared, &request.digest))
        .seal(&SECRETS_NONCE, &request.digest, &mut *plain)
        .expect("64 bytes are not too long");
    let mut secrets = [0; WRAPPED_BYTES];
    secrets[..64].copy_from_slice(&*plain);
    secrets[64..].copy_from_slice(&tag);
    Ok((ephemeral.public(), secrets))
}

/// Makes a fresh ephemeral key: one in 2³² random numbers is none.
fn ephemeral() -> EcKey {
    loop {
        if let Some(key) = EcKey::from_scalar(&Zeroizing::new(random())) {
            return key;
        }
    }
}
