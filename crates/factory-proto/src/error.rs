//! Every reason to refuse a message.

use crate::Message;
use fail_code::FailCode;

/// What a message says that is not what belongs there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The digest of the request.
    RequestDigest,
    /// The chip id.
    ChipId,
    /// The nonce.
    Nonce,
    /// The package id.
    PackageId,
    /// The install.
    Install,
    /// The digest of the certificate request.
    CsrDigest,
    /// The secrets of a ticket, which this session's key does not open.
    Secrets,
}

/// Why a message is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// A message is not the one encoding of its fields.
    Malformed {
        /// Which message.
        message: Message,
        /// Offset in it, or in the embedded item, where it was noticed.
        offset: u32,
    },
    /// A message is longer than a frame holds.
    TooLong {
        /// Which message.
        message: Message,
        /// Its length in bytes.
        found: u32,
    },
    /// A signed message is of another content type than belongs here.
    ContentType {
        /// Which message belongs here.
        message: Message,
    },
    /// The signatures or delegations of an answer do not hold.
    Untrusted {
        /// Which message.
        message: Message,
        /// What is wrong with them.
        error: sealed_image::Error,
    },
    /// An answer was made for something else.
    Mismatch {
        /// Which message.
        message: Message,
        /// What differs.
        field: Field,
    },
    /// The ephemeral key in a message is no point of the curve.
    EphemeralKey {
        /// Which message.
        message: Message,
    },
    /// The stage's signature on a question does not verify.
    QuestionSignature {
        /// Which message.
        message: Message,
    },
    /// A statement is not the one encoding of its facts.
    StatementMalformed,
    /// A statement is not signed by the die key.
    StatementSignature,
    /// The die is in another lifecycle state than the message needs.
    Lifecycle {
        /// Codeword found.
        found: u32,
    },
    /// The fuse facts are not those whose digest the statement holds.
    FuseDigest,
    /// The fuse facts cannot be read.
    #[cfg(feature = "host")]
    FuseFacts(lifecycle::Error),
    /// The statement and the fuse facts that it vouches for differ in the lifecycle.
    Contradiction {
        /// Codeword in the statement.
        stated: u32,
    },
    /// A closed device proves another install, or another identity than the one that was certified.
    ClosingUnbound,
    /// A certificate request is no DER of a PKCS#10 request.
    #[cfg(feature = "host")]
    CertificateRequest(der::Error),
    /// A certificate request says something else than the device's name and key.
    CertificateRequestContent,
    /// A certificate request is not signed with its own key.
    CertificateRequestSignature,
}

impl Error {
    /// Returns the stable code of this refusal.
    pub const fn code(&self) -> FailCode {
        match self {
            Self::Malformed { message, .. } | Self::TooLong { message, .. } => malformed(*message),
            Self::Untrusted { message, error: sealed_image::Error::Malformed { part, .. } } => match part {
                sealed_image::Part::Message => malformed(*message),
                _ => untrusted(*message),
            },
            Self::ContentType { message } | Self::Untrusted { message, .. } => untrusted(*message),
            Self::Mismatch { message: Message::Ticket, .. } => FailCode::TicketMismatch,
            Self::Mismatch { message, .. } => untrusted(*message),
            Self::EphemeralKey { message } => match message {
                Message::Request => FailCode::RequestMalformed,
                _ => untrusted(*message),
            },
            Self::QuestionSignature { message } => untrusted(*message),
            Self::StatementMalformed | Self::StatementSignature | Self::Contradiction { .. } => {
                FailCode::StatementInvalid
            }
            Self::Lifecycle { .. } => FailCode::LifecycleWrong,
            Self::FuseDigest => FailCode::FuseDigestWrong,
            Self::ClosingUnbound => FailCode::ClosingUnbound,
            #[cfg(feature = "host")]
            Self::FuseFacts(_) | Self::CertificateRequest(_) => FailCode::RequestMalformed,
            Self::CertificateRequestContent | Self::CertificateRequestSignature => FailCode::CsrUnbound,
        }
    }
}

/// The code of a message that cannot be read: the authority reads what devices send, a device all else.
const fn malformed(message: Message) -> FailCode {
    match message {
        Message::Request | Message::Csr | Message::ClosingProof => FailCode::RequestMalformed,
        _ => FailCode::AnswerMalformed,
    }
}

/// The code of a message that the right party did not sign, or not for this session.
const fn untrusted(message: Message) -> FailCode {
    match message {
        Message::Request => FailCode::RequestSignature,
        Message::Ticket => FailCode::TicketInvalid,
        Message::Csr => FailCode::CsrUnbound,
        Message::Receipt => FailCode::ReceiptInvalid,
        Message::ClosingProof => FailCode::InstallUnknown,
        Message::Release => FailCode::CertificateInvalid,
        Message::Refusal | Message::Progress | Message::Outcome | Message::Hello => FailCode::AnswerMalformed,
    }
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} ({self:?})", self.code())
    }
}

impl core::error::Error for Error {}
