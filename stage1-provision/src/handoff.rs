//! What stage0 hands over.

use boot_crypto::{Digest, Key, Sha256};
use boot_info::record::BootRecord;
use boot_info::{BootInfo, Evidence, SecretPage, Secrets};
use lifecycle::Lifecycle;
use memory_map::qemu_virt::BOARD;
use sealed_image::Kind;

use crate::Error;

/// The handoff, checked. Its secrets are wiped when it is dropped.
pub struct Handoff {
    pub(crate) info: BootInfo,
    /// The secret of this stage on this die.
    pub(crate) stage_secret: Key,
    /// What the device root is derived from, with the device seed.
    pub(crate) die_secret: Key,
    /// What stage0 vouches for.
    pub(crate) evidence: Evidence,
    /// The digest of the running stage's manifest, as stage0 measured it.
    pub(crate) measurement: Digest,
}

impl Handoff {
    /// Reads both pages and wipes that of the secrets. `record` gets what stage0 had to say.
    ///
    /// # Errors
    /// Pages that stage0 on this board does not write for this stage, and a lifecycle in which it does not run.
    pub fn take(info: &[u8], secrets: &mut [u8], record: &mut BootRecord) -> Result<Self, Error> {
        let page = SecretPage::take(secrets).ok_or(Error::NotForThisStage)?;
        let info = BootInfo::read(info).map_err(Error::Handoff)?;
        *record = BootRecord {
            board: info.board,
            lifecycle: info.lifecycle,
            slot: info.slot,
            fallback_code: info.fallback_code,
            cores: 1,
            counter_hz: info.counter_hz,
            images: info.images,
            timestamps: info.timestamps,
            ..BootRecord::default()
        };
        let lifecycle = Lifecycle::from_word(info.lifecycle);
        if !matches!(lifecycle, Some(Lifecycle::Secured | Lifecycle::Closing)) {
            return Err(Error::Lifecycle { word: info.lifecycle });
        }
        let board = info.board.iter().copied().take_while(|byte| *byte != 0);
        let running = info.images.as_slice().last().filter(|image| image.kind == Kind::Stage1.number());
        let (Secrets::Provision { stage_secret, die_secret }, Some(evidence), Some(running), true) =
            (page.secrets, page.evidence, running, board.eq(BOARD.bytes()))
        else {
            return Err(Error::NotForThisStage);
        };
        let measurement = running.measurement;
        Ok(Self { info, stage_secret, die_secret, evidence, measurement })
    }

    /// Returns a digest of all of it that is not secret, and differs from die to die.
    pub(crate) fn transcript(&self) -> Digest {
        let mut hash = Sha256::new();
        hash.update(&self.info.chip_id);
        hash.update(&self.measurement);
        hash.update(&self.info.lifecycle.to_le_bytes());
        hash.update(self.evidence.statement.as_bytes());
        hash.update(&self.evidence.fuse_facts);
        for stamp in self.info.timestamps.as_slice() {
            hash.update(&stamp.start.to_le_bytes());
            hash.update(&stamp.end.to_le_bytes());
        }
        hash.finish()
    }
}
