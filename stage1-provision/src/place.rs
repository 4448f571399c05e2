//! Proving the place: what stage0 vouches for must be what this stage finds.

use alloc::vec;
use alloc::vec::Vec;

use boot_crypto::{Digest, equal};
use hal::Storage as _;
use lifecycle::{FuseFacts, vendor};
use memory_map::qemu_virt::VENDOR_CERTIFICATE;

use crate::Error;
use crate::handoff::Handoff;
use crate::hardware::{Board, Hardware};
use crate::package;
use crate::trust::Trust;

/// Where the device stands, as far as it can tell by itself. The authority judges it.
pub(crate) struct Place {
    /// The id of the package on the disk, whose index is the owner's.
    pub(crate) package_id: Digest,
    /// The silicon vendor's certificates for the die, its own first; DER, nothing of it checked here.
    pub(crate) untrusted_die_chain: Vec<Vec<u8>>,
}

/// Checks stage0's evidence against the fuses, and reads the package's index.
pub(crate) fn prove<H: Hardware>(
    board: &mut Board<'_, H>,
    handoff: &Handoff,
    trust: &Trust,
) -> Result<Place, Error> {
    let found = FuseFacts::read(board.otp).map_err(Error::Fuses)?.encode();
    if !equal(&found, &handoff.evidence.fuse_facts).accepts() {
        return Err(Error::EvidenceWrong);
    }
    let mut chain = vec![0; VENDOR_CERTIFICATE.size as usize];
    board.flash.read(VENDOR_CERTIFICATE.base, &mut chain).map_err(Error::Read)?;
    let package_id = package::identify(board.disk()?, trust)?;
    Ok(Place { package_id, untrusted_die_chain: vendor::certificates(&chain).map(<[u8]>::to_vec).collect() })
}
