//! A device's identity: the certificate request that it sent, and the certificates that it keeps.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, anyhow};
use boot_info::closing::ClosingState;
use factory_proto::authority::UntrustedCsr;
use factory_proto::device::verify_release;
use factory_proto::{Message, Trust};
use fail_code::FailCode;
use lifecycle::{Fuses, RootSlot};
use memory_map::qemu_virt::{BOARD, CERTIFICATES, CLOSING_STATE};
use pem_rfc7468::LineEnding;
use release::{DeviceFiles, certificate_pem};
use sealed_image::{Es256, Root};
use station::{Authorise, Failure, Refused, Transcript, Way};

/// Returns the last certificate request that a station has relayed, in PEM; `None` if there was none.
///
/// # Errors
/// None in practice; writing PEM is fallible.
pub fn csr_pem(transcript: &Transcript) -> Result<Option<String>> {
    let mut questions = transcript.seen.iter().rev().filter(|seen| seen.way == Way::ToAuthority);
    questions.find_map(|seen| pem_of(&seen.bytes).transpose()).transpose()
}

/// Returns the certificate request in a message to the authority; `None` if it is another message.
fn pem_of(untrusted: &[u8]) -> Result<Option<String>> {
    let Ok(csr) = UntrustedCsr::parse(untrusted) else { return Ok(None) };
    let pem = pem_rfc7468::encode_string("CERTIFICATE REQUEST", LineEnding::LF, csr.untrusted_der());
    pem.map(Some).map_err(|error| anyhow!("the certificate request cannot be written as PEM: {error}"))
}

/// The way to an authority, and a file that keeps the last certificate request which went there: once it is answered, a
/// device that is cut off sends it no more.
pub(super) struct KeepsCsr<'a> {
    /// The way.
    pub(super) authority: &'a dyn Authorise,
    /// The file, in PEM.
    pub(super) file: PathBuf,
}

impl Authorise for KeepsCsr<'_> {
    fn ask(&self, question: Message, body: &[u8]) -> Result<Vec<u8>, Failure> {
        if let (Message::Csr, Ok(Some(pem))) = (question, pem_of(body)) {
            fs::write(&self.file, pem).map_err(|error| {
                let why = format!("cannot write {}: {error}", self.file.display());
                Failure::NotNow(Refused::new(FailCode::StorageFailed, why))
            })?;
        }
        self.authority.ask(question, body)
    }
}

/// Reads back the certificates that a closed device keeps, leaf first, in PEM, and verifies the authority's signature
/// over them as the device did; `None` if it has none yet.
///
/// # Errors
/// Anything but what the authority signed for this device; files that cannot be read.
pub fn certificate_chain_pem(files: &DeviceFiles) -> Result<Option<String>> {
    let Some(state) = closing_state(files)? else { return Ok(None) };
    let region = files.read_flash0(CERTIFICATES)?;
    let (length, rest) = region.split_first_chunk().context("a region holds a length")?;
    let Some(untrusted) = rest.get(..u32::from_le_bytes(*length) as usize) else { return Ok(None) };
    let fuses =
        Fuses::read(&files.otp()?).map_err(|error| anyhow!("the device's fuses: {}", error.code()))?;
    let active = |slot: &RootSlot| match slot {
        RootSlot::Active(digest) => Some(Root { digest: *digest, revoked: false }),
        _ => None,
    };
    let roots: Vec<Root> = fuses.roots().iter().filter_map(active).collect();
    let trust = Trust { board: BOARD, roots: &roots, refuse_test_keys: true };
    let release = verify_release::<Es256>(untrusted, &trust, &state.install, fuses.chip_id());
    let release =
        release.map_err(|error| anyhow!("the device keeps other certificates than its own: {error:?}"))?;
    Ok(Some(release.certificates.iter().map(|der| certificate_pem(der)).collect()))
}

/// Reads how far closing has come; `None` if it has not begun.
///
/// # Errors
/// Files that cannot be read.
pub fn closing_state(files: &DeviceFiles) -> Result<Option<ClosingState>> {
    let untrusted = files.read_flash0(CLOSING_STATE)?;
    Ok(untrusted.first_chunk().and_then(ClosingState::parse))
}
