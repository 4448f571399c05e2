//! The authority's half of a session.
//!
//! # Threats
//!
//! Who sends is a station, which may be the factory's, with dies that the factory burned itself. A request counts
//! for what the silicon vendor's key vouches for: the caller validates the die's certificate path and gives the die
//! key, which signed the statement, which names the stage's key and the digest of the fuses, which sign the request
//! and fix the facts. Nothing else in a request is believed. What this module does not judge is the lot: whether the
//! measurement, the fuses, the nonce and the die are among those that it admits.
//!
//! A ticket's secrets are encrypted to the ephemeral key of one request, with its digest as associated data, so the
//! station that relays a ticket learns nothing, and no other die or session opens it. A certificate request is taken
//! only from the stage that made the request, for its install and for the key, chip id and serial number that its
//! subject has to have; whoever asks for the certificate holds its key. A certificate is released only for a
//! statement by the die key that the die is in `Production` and was closed for this install.

mod answer;
mod closing;
mod csr;
mod request;

pub use answer::{AnswerError, Authority, Install};
pub use closing::{ClosedDevice, verify_closing};
pub use csr::{CsrExpected, UntrustedCsr, VerifiedCsr, signature_of_der};
pub use request::{UntrustedRequest, VerifiedRequest};

use crate::signed::content_type;
use crate::{Error, Message};
use boot_crypto::{Decision, equal, es256_low_s, sha256};
use boot_info::{Statement, StatementError};
use lifecycle::FuseFacts;
use sealed_image::cbor;
use sealed_image::cose::UntrustedSign1;

/// What the stage's key is said to have signed: the shape and the content type are known, nothing else.
struct UntrustedQuestion<'a>(UntrustedSign1<'a>);

impl<'a> UntrustedQuestion<'a> {
    fn parse(message: Message, untrusted: &'a [u8]) -> Result<Self, Error> {
        let sign1: UntrustedSign1<'a> =
            cbor::parse_exact(untrusted).map_err(|offset| Error::Malformed { message, offset })?;
        if !sign1.is_message(content_type(message)) {
            return Err(Error::ContentType { message });
        }
        Ok(Self(sign1))
    }

    fn payload(&self) -> &'a [u8] {
        self.0.payload
    }

    /// Verifies the signature, and that it is the one with the lower s: with the other, which anybody can compute, a
    /// station would make a second request of the first.
    fn verify(&self, stage_key: &[u8; 64]) -> Decision {
        match es256_low_s(self.0.signature) {
            Some(low) => equal(&low, self.0.signature).and(self.0.verify(stage_key)),
            None => Decision::REFUSE,
        }
    }
}

/// Verifies a statement with the die key.
fn verify_statement(untrusted: &[u8], die_key: &[u8; 64]) -> Result<Statement, Error> {
    Statement::verify(untrusted, die_key).map_err(|error| match error {
        StatementError::Malformed => Error::StatementMalformed,
        StatementError::Signature => Error::StatementSignature,
    })
}

/// Takes the fuse facts that a verified statement vouches for.
fn verify_facts(untrusted: &[u8], statement: &Statement) -> Result<FuseFacts, Error> {
    if !equal(&sha256(untrusted), &statement.fuse_digest).accepts() {
        return Err(Error::FuseDigest);
    }
    let facts = FuseFacts::decode(untrusted).map_err(Error::FuseFacts)?;
    if facts.lifecycle.codeword() != statement.lifecycle {
        return Err(Error::Contradiction { stated: statement.lifecycle });
    }
    Ok(facts)
}
