//! Requests.

use super::{UntrustedQuestion, verify_facts, verify_statement};
use crate::{Error, Message, Request};
use boot_crypto::{Digest, sha256};
use boot_info::Subject;
use lifecycle::{FuseFacts, Lifecycle};

/// A request whose shape is known: what is needed to find the die key, and nothing that is true yet.
pub struct UntrustedRequest<'a> {
    envelope: UntrustedQuestion<'a>,
    request: Request<'a>,
    digest: Digest,
}

impl<'a> UntrustedRequest<'a> {
    /// Parses a request.
    ///
    /// # Errors
    /// Anything but a COSE_Sign1 of this content type over the one encoding of a request.
    pub fn parse(untrusted: &'a [u8]) -> Result<Self, Error> {
        let envelope = UntrustedQuestion::parse(Message::Request, untrusted)?;
        let request = Request::decode(envelope.payload())?;
        Ok(Self { envelope, request, digest: sha256(untrusted) })
    }

    /// Returns the certificates that are said to lead to the die key, leaf first.
    pub fn die_chain(&self) -> &[&'a [u8]] {
        &self.request.die_chain
    }

    /// Returns the SHA-256 of the whole request: the same request gets the same ticket.
    pub const fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Verifies all that the vendor's certificates do not cover. `die_key` is the key of the first certificate of
    /// [`UntrustedRequest::die_chain`], x followed by y, once the caller has validated the path.
    ///
    /// # Errors
    /// The first reason to refuse: the statement, the lifecycle, the request's own signature, the fuses.
    pub fn verify(self, die_key: &[u8; 64]) -> Result<VerifiedRequest<'a>, Error> {
        let statement = verify_statement(self.request.statement, die_key)?;
        let wrong = Error::Lifecycle { found: statement.lifecycle };
        if statement.lifecycle != Lifecycle::Secured.codeword() {
            return Err(wrong);
        }
        let Subject::StageKey(stage_key) = statement.subject else {
            return Err(wrong);
        };
        if !self.envelope.verify(&stage_key).accepts() {
            return Err(Error::QuestionSignature { message: Message::Request });
        }
        let fuse_facts = verify_facts(self.request.fuse_facts, &statement)?;
        Ok(VerifiedRequest {
            digest: self.digest,
            nonce: *self.request.nonce,
            package_id: *self.request.package_id,
            ephemeral: *self.request.ephemeral,
            board: self.request.board,
            measurement: statement.measurement,
            stage_key,
            fuse_facts,
        })
    }
}

/// What a die in `Secured` asks, by the word of its own key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedRequest<'a> {
    /// SHA-256 of the whole request.
    pub digest: Digest,
    /// The nonce.
    pub nonce: [u8; 32],
    /// Manifest digest of the package's index.
    pub package_id: Digest,
    /// The key to encrypt to.
    pub(super) ephemeral: [u8; 64],
    /// The board.
    pub board: &'a str,
    /// Measurement of the stage that asks.
    pub measurement: Digest,
    /// The key of that stage on this die, which also signs the certificate request.
    pub stage_key: [u8; 64],
    /// The fuses, to be compared with the lot's policy.
    pub fuse_facts: FuseFacts,
}
