//! Who signed a message: the stage's key (COSE_Sign1), or keys that the owner root delegated to (a signed message of
//! the role `authority`).

use crate::{Error, Message};
use alloc::vec::Vec;
use boot_crypto::{EcKey, es256_low_s};
use minicbor::data::Tag;
use sealed_image::cbor::encode;
use sealed_image::cose::sign1_digest;
use sealed_image::{MessagePolicy, Role, Root, Verifier, verify_message};

/// COSE's number of ES256.
const ES256: i8 = -7;

/// Whom a device trusts.
#[derive(Clone, Copy, Debug)]
pub struct Trust<'a> {
    /// The board that this is.
    pub board: &'a str,
    /// The owner roots that the fuses hold; unused slots left out.
    pub roots: &'a [Root],
    /// Whether published test keys are refused: everywhere but on a development die.
    pub refuse_test_keys: bool,
}

impl Trust<'_> {
    /// Verifies an answer of the authority and returns its payload: that it answers this device's own question, a session
    /// verifies besides.
    ///
    /// # Errors
    /// The first reason to refuse.
    pub fn verify<'b, V: Verifier>(&self, message: Message, untrusted: &'b [u8]) -> Result<&'b [u8], Error> {
        let policy = MessagePolicy {
            content_type: content_type(message),
            role: Role::Authority,
            board: self.board,
            version: None,
            roots: self.roots,
            refuse_test_keys: self.refuse_test_keys,
        };
        verify_message::<V>(untrusted, &policy).map_err(|error| Error::Untrusted { message, error })
    }
}

/// Returns the content type of a message, which its signatures cover: it keeps one message from being taken for
/// another that the same key signs. Unsigned messages have one for HTTP.
pub const fn content_type(message: Message) -> &'static str {
    match message {
        Message::Request => "application/kiln-request+cbor",
        Message::Ticket => "application/kiln-ticket+cbor",
        Message::Csr => "application/kiln-csr+cbor",
        Message::Receipt => "application/kiln-receipt+cbor",
        Message::ClosingProof => "application/kiln-closing+cbor",
        Message::Release => "application/kiln-release+cbor",
        Message::Refusal => "application/kiln-refusal+cbor",
        Message::Progress => "application/kiln-progress+cbor",
        Message::Outcome => "application/kiln-outcome+cbor",
        Message::Hello => "application/kiln-hello+cbor",
    }
}

/// Signs a payload with the stage's key. The signature is deterministic, and so is the whole; of the two signatures that
/// are valid it is the one with the lower s, which readers insist on.
pub(crate) fn sign1(message: Message, payload: &[u8], key: &EcKey) -> Vec<u8> {
    let protected = encode(|e| e.map(2)?.u8(1)?.i8(ES256)?.u8(3)?.str(content_type(message))?.ok());
    let signature = key.sign(&sign1_digest(&protected, payload));
    let signature = es256_low_s(&signature).unwrap_or(signature);
    encode(|e| {
        e.tag(Tag::new(18))?.array(4)?.bytes(&protected)?.map(0)?.bytes(payload)?.bytes(&signature)?.ok()
    })
}
