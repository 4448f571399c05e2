//! What a file is: by what it begins with, or by what a person says that it should be.
//!
//! # Threats
//! A device never guesses: each place of its storage and each answer has one kind, and what is another is refused. What a
//! file says of itself is believed here only to choose how it is looked at, and whoever verifies says what it should be where
//! that matters.

use crate::folder::inspect_manifest;
use factory_proto::authority::{UntrustedCsr, UntrustedRequest};
use factory_proto::{ClosingProof, Message, content_type};
use lifecycle::{Fuses, OtpImage, WORDS};
use memory_map::qemu_virt::{FLASH0, OTP, VENDOR_CERTIFICATE};
use sealed_image::host::{InspectedCertificate, InspectedManifest, InspectedMessage};
use sealed_image::{Kind, MAGIC};
use serde::Deserialize;

/// What Kiln makes, as far as it is a file of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Artefact {
    /// Sealed images, one after the other, the first of which is of this kind: a bundle with its objects is an OS slot, an
    /// index with its objects a package.
    Images(Kind),
    /// A signed manifest without its image.
    Manifest,
    /// A delegation certificate.
    Delegation,
    /// The manifest of a release folder.
    ReleaseManifest,
    /// A message between a device and the authority that one of them signs, or that proves itself.
    Message(Message),
    /// The fuses of a die.
    Fuses,
    /// flash0 of a device.
    Flash,
}

/// The messages that are artefacts: the others only tell people something.
const MESSAGES: [Message; 6] = [
    Message::Request,
    Message::Ticket,
    Message::Csr,
    Message::Receipt,
    Message::ClosingProof,
    Message::Release,
];

impl Artefact {
    /// Lists all of them.
    pub fn all() -> impl Iterator<Item = Self> {
        let images = Kind::ALL.into_iter().map(Self::Images);
        let messages = MESSAGES.into_iter().map(Self::Message);
        let others = [Self::Manifest, Self::Delegation, Self::ReleaseManifest, Self::Fuses, Self::Flash];
        images.chain(messages).chain(others)
    }

    /// Returns the name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Images(kind) => kind.name(),
            Self::Manifest => "manifest",
            Self::Delegation => "delegation",
            Self::ReleaseManifest => "release-manifest",
            // What the protocol calls a release is the certificate of a device, and not a release of firmware.
            Self::Message(Message::Release) => "device-certificate",
            Self::Message(message) => message.name(),
            Self::Fuses => "fuses",
            Self::Flash => "flash",
        }
    }

    /// Finds one by its name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::all().find(|artefact| artefact.name() == name)
    }

    /// Tells what these bytes are, by their own word; `None` if they are none of these.
    pub fn of(untrusted: &[u8]) -> Option<Self> {
        if untrusted.starts_with(&MAGIC) {
            return Some(Self::Images(crate::check::claimed(untrusted).unwrap_or(Kind::Package)));
        }
        if untrusted.len() as u64 == FLASH0.size {
            return Some(Self::Flash);
        }
        if let Ok(message) = InspectedMessage::of(untrusted) {
            return Self::of_message(&message);
        }
        if InspectedManifest::of(untrusted).is_ok() {
            return Some(Self::Manifest);
        }
        if DelegationFile::of(untrusted).is_some_and(|it| InspectedCertificate::of(&it.certificate).is_ok()) {
            return Some(Self::Delegation);
        }
        if UntrustedRequest::parse(untrusted).is_ok() {
            return Some(Self::Message(Message::Request));
        }
        if UntrustedCsr::parse(untrusted).is_ok() {
            return Some(Self::Message(Message::Csr));
        }
        if ClosingProof::decode(untrusted).is_ok() {
            return Some(Self::Message(Message::ClosingProof));
        }
        is_bank(untrusted).then_some(Self::Fuses)
    }

    fn of_message(message: &InspectedMessage<'_>) -> Option<Self> {
        if inspect_manifest(message.payload).is_some() {
            return Some(Self::ReleaseManifest);
        }
        let found = MESSAGES.into_iter().find(|it| message.content_type == Some(content_type(*it)));
        found.map(Self::Message)
    }
}

/// Tells whether bytes can be an OTP bank: all of it, with nothing but erased flash between the fuses and the vendor's
/// certificates, or the fuses alone, in a lifecycle that there is.
fn is_bank(untrusted: &[u8]) -> bool {
    let certificates = (VENDOR_CERTIFICATE.base - OTP.base) as usize;
    match untrusted.len() {
        length if length as u64 == OTP.size => {
            untrusted[4 * WORDS..certificates].iter().all(|byte| *byte == 0xFF)
        }
        length => length == 4 * WORDS && Fuses::read_lifecycle(&OtpImage::from_flash(untrusted)).is_ok(),
    }
}

/// A delegation certificate as it comes in a file: by itself, or as `kiln authority delegation sign` writes it.
pub(crate) struct DelegationFile {
    /// The root's public key in hexadecimal, as the file has it.
    pub(crate) root: Option<String>,
    /// The certificate (COSE_Sign1).
    pub(crate) certificate: Vec<u8>,
}

/// What `kiln authority delegation sign` writes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    root: String,
    certificate: String,
}

impl DelegationFile {
    /// Takes a file; `None` for text that is something else.
    pub(crate) fn of(untrusted: &[u8]) -> Option<Self> {
        if untrusted.first() != Some(&b'{') {
            return Some(Self { root: None, certificate: untrusted.to_vec() });
        }
        let Written { root, certificate } = serde_json::from_slice(untrusted).ok()?;
        let digits = certificate.as_bytes().as_chunks::<2>();
        if !digits.1.is_empty() {
            return None;
        }
        let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        let certificate = digits.0.iter().map(byte).collect::<Option<_>>()?;
        Some(Self { root: Some(root), certificate })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_name_of_its_own() {
        let all: Vec<_> = Artefact::all().collect();
        assert_eq!(all.len(), 11 + 6 + 5);
        for artefact in all {
            assert_eq!(Artefact::from_name(artefact.name()), Some(artefact));
        }
        assert_eq!(Artefact::from_name("something"), None);
    }

    #[test]
    fn what_is_nothing_of_kilns_is_not_guessed_at() {
        for bytes in [&b""[..], b"{}", b"text", &[0xFF; 64], &[0xD2, 0x84], &[0x5A; 4 * WORDS]] {
            assert_eq!(Artefact::of(bytes), None);
        }
        let bank = OtpImage::blank().to_flash(OTP.size as usize);
        assert_eq!(Artefact::of(&bank), Some(Artefact::Fuses));
        assert_eq!(Artefact::of(&bank[1..]), None);
    }
}
