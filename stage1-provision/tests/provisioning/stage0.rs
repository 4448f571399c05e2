//! What stage0 hands over, made from the fuses as it does.

use boot_crypto::{Key, alias_key, die_key, die_secret, stage_secret};
use boot_info::record::BootRecord;
use boot_info::{BootInfo, Evidence, ImageRecord, List, RootSlots, SecretPage, Secrets, Statement, Subject};
use lifecycle::{FuseFacts, Fuses, Lifecycle, RootSlot};
use memory_map::qemu_virt::{BOARD, COUNTER_HZ};
use sealed_image::Kind;
use stage1_provision::Handoff;

use crate::device::Device;
use crate::lot::Lot;

/// Boots the lot's stage1.
pub(crate) fn boot(device: &Device, lot: &Lot) -> Handoff {
    try_boot(device, lot).unwrap()
}

/// Boots the lot's stage1 if the fuses can be read.
pub(crate) fn try_boot(device: &Device, lot: &Lot) -> Result<Handoff, lifecycle::Error> {
    let measurement = lot.release.facts.stage1_measurement;
    let fuses = Fuses::read(&device.otp.0)?;
    let silicon = Key::new(device.silicon_secret);
    let mut roots = RootSlots::default();
    if let RootSlot::Active(digest) = fuses.roots()[0] {
        roots.digests[0] = digest;
        roots.valid = 1;
    }
    let mut board = [0; 16];
    board[..BOARD.len()].copy_from_slice(BOARD.as_bytes());
    let mut images = List::new();
    images.push(ImageRecord { kind: Kind::Stage1.number(), measurement, ..ImageRecord::default() });
    let info = BootInfo {
        board,
        lifecycle: fuses.lifecycle().codeword(),
        reset_reason: 0,
        slot: 0,
        fallback_code: 0,
        counter_hz: COUNTER_HZ,
        chip_id: *fuses.chip_id(),
        floors: *fuses.floors(),
        roots,
        images,
        timestamps: List::new(),
    };
    let secret = stage_secret(&silicon, &measurement, Lifecycle::Secured.codeword());
    let facts = FuseFacts::read(&device.otp.0)?;
    let statement = Statement {
        lifecycle: fuses.lifecycle().codeword(),
        measurement,
        fuse_digest: facts.digest(),
        subject: Subject::StageKey(alias_key(&secret).public()),
    };
    let page = SecretPage {
        evidence: Some(Evidence {
            statement: statement.sign(&die_key(&silicon)),
            fuse_facts: facts.encode(),
            install: [0; 32],
        }),
        secrets: Secrets::Provision { stage_secret: secret, die_secret: die_secret(&silicon) },
    };
    let (mut first, mut second) = (vec![0; 4096], vec![0; 4096]);
    assert!(info.write(&mut first) && page.write(&mut second));
    Ok(Handoff::take(&first, &mut second, &mut BootRecord::default()).unwrap())
}
