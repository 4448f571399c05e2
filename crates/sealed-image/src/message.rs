//! Messages of a role: a payload with the same chain of signatures as an image has, and nothing else.

use crate::cbor::{self, Decode, Reader};
use crate::chain::{Root, Trust, Verifier, parse_grant};
use crate::cose::UntrustedSigned;
use crate::delegation::UntrustedDelegation;
use crate::{Error, Part, Role, Version};

/// Whose message of which type is taken: none of this comes from the message.
#[derive(Clone, Copy, Debug)]
pub struct MessagePolicy<'a> {
    /// The content type, which keeps a message of one type from being taken for another, or for a manifest.
    pub content_type: &'a str,
    /// The role that signs such messages.
    pub role: Role,
    /// The board that this is.
    pub board: &'a str,
    /// The version of what the message is about; `None` where it has none. A delegation that is limited to some
    /// versions covers a message about one of them, and no other.
    pub version: Option<Version>,
    /// The owner roots that the fuses hold; unused slots left out.
    pub roots: &'a [Root],
    /// Whether published test keys are refused: everywhere but on a development die.
    pub refuse_test_keys: bool,
}

/// A delegation part and a COSE_Sign: the shape only, nothing is verified.
pub(crate) struct UntrustedMessage<'a> {
    pub(crate) delegation: &'a [u8],
    pub(crate) signed: &'a [u8],
}

impl<'b> Decode<'b> for UntrustedMessage<'b> {
    fn decode(r: &mut Reader<'b>) -> Option<Self> {
        r.array(2)?;
        Some(Self { delegation: r.bytes()?, signed: r.bytes()? })
    }
}

/// Verifies a signed message and returns its payload, which is the role's: the chain from a fused root through
/// every delegation to its signature, then the content type and what the delegations cover.
///
/// # Errors
/// The first reason to refuse.
pub fn verify_message<'a, V: Verifier>(
    untrusted: &'a [u8],
    policy: &MessagePolicy<'_>,
) -> Result<&'a [u8], Error> {
    let malformed = |offset| Error::Malformed { part: Part::Message, offset };
    let message: UntrustedMessage<'a> = cbor::parse_exact(untrusted).map_err(malformed)?;
    let delegation: UntrustedDelegation<'a> = cbor::parse_exact(message.delegation)
        .map_err(|offset| Error::Malformed { part: Part::Delegation, offset })?;
    let signed: UntrustedSigned<'a> = cbor::parse_exact(message.signed).map_err(malformed)?;
    if !signed.is_message(policy.content_type) {
        return Err(Error::ContentType);
    }
    let trust = Trust { roots: policy.roots, refuse_test_keys: policy.refuse_test_keys };
    let trusted = trust.verify::<V>(&delegation, &signed)?;
    for certificate in delegation.certificates() {
        let grant = parse_grant(certificate)?;
        if grant.role != policy.role {
            return Err(Error::MessageRole { role: grant.role, expected: policy.role });
        }
        if !grant.boards().any(|board| board == policy.board) {
            return Err(Error::BoardNotDelegated);
        }
        let every = (grant.min_version, grant.max_version) == (Version::MIN, Version::MAX);
        let covers = |version| grant.min_version <= version && version <= grant.max_version;
        if !every && !policy.version.is_some_and(covers) {
            return Err(Error::VersionNotDelegated);
        }
    }
    // The decision has refused by itself where it had to; here it is looked at once more.
    if !trusted.accepts() {
        return Err(Error::Inconsistent);
    }
    Ok(signed.payload)
}
