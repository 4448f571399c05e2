//! What must be true of a device, closed or not.

use std::ops::Range;

use boot_crypto::{Digest, Key, device_root, die_secret, labels, storage_key};
use boot_info::closing::ClosingState;
use lifecycle::{FuseFacts, Fuses, Lifecycle};
use memory_map::qemu_virt::{
    BOARD, BOOT_SLOT_A, BOOT_SLOT_B, BOOT_STAGING, CLOSING_STATE, OS_SLOT_A, OS_SLOT_B, SECRETS,
};
use release::audit::{Finding, LeakScan, Payload};
use release::{OpenedImage, inspect_slot, open_boot_slot, open_os_slot};
use sealed_image::{Es256, HEADER_BYTES, Header, Kind, Policy, Root, UntrustedImage, VerifiedImage};

use crate::device::Device;
use crate::lot::Lot;

/// Storages are compared by pages of this many bytes.
const PAGE: usize = 4096;

/// The keys that a closed device will have, from its burned seed.
pub(crate) struct Keys {
    pub(crate) seed: [u8; 32],
    pub(crate) boot: Key,
    pub(crate) os: Key,
    pub(crate) secret: Key,
}

pub(crate) fn keys(device: &Device) -> Keys {
    let fuses = Fuses::read(&device.otp.0).unwrap();
    let seed = fuses.device_seed().unwrap();
    let root = device_root(&die_secret(&Key::new(device.silicon_secret)), seed);
    let storage = |label| storage_key(&root, label, &device.chip_id, 0);
    Keys {
        seed: *seed.expose(),
        boot: storage(labels::STORAGE_BOOT),
        os: storage(labels::STORAGE_OS),
        secret: storage(labels::STORAGE_SECRET),
    }
}

/// A scan for every plaintext of the lot, its content key and whatever else is a secret.
pub(crate) fn leaks(lot: &Lot, secrets: &[(&str, &[u8])]) -> LeakScan {
    let payloads: Vec<(&str, &[u8])> =
        lot.plaintexts.iter().map(|(name, plain)| (*name, &plain[..])).collect();
    let content_key: (&str, &[u8]) = ("the content key", lot.content_key.0.expose());
    LeakScan::new(&payloads, &[&[content_key], secrets].concat()).unwrap()
}

/// Checks that nothing of the lot is in the clear.
pub(crate) fn nothing_leaked(device: &Device, scan: &LeakScan) {
    for bytes in device.storage() {
        assert_eq!(scan.scan(bytes), []);
    }
}

/// Says what of the lot is in the clear where the device differs from another, in which nothing is.
pub(crate) fn leaked_since(before: &Device, device: &Device, scan: &LeakScan) -> Vec<Finding> {
    let parts = before.storage().into_iter().zip(device.storage());
    let found = parts.flat_map(|(before, after)| {
        changed(before, after).into_iter().flat_map(|pages| {
            // What lies across the edge of a page that did not change is found too.
            let around = pages.start.saturating_sub(PAGE)..after.len().min(pages.end + PAGE);
            scan.scan(&after[around])
        })
    });
    found.collect()
}

/// Returns where two storages of one size differ: whole pages, as ranges of bytes that do not touch.
pub(crate) fn changed(before: &[u8], after: &[u8]) -> Vec<Range<usize>> {
    assert_eq!(before.len(), after.len());
    let pages = before.chunks(PAGE).zip(after.chunks(PAGE)).enumerate();
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for (page, (_, bytes)) in pages.filter(|(_, (before, after))| before != after) {
        let (start, end) = (page * PAGE, page * PAGE + bytes.len());
        match ranges.last_mut() {
            Some(last) if last.end == start => last.end = end,
            _ => ranges.push(start..end),
        }
    }
    ranges
}

/// Checks that the device is closed and boots what was ordered, and nothing else.
pub(crate) fn closed(device: &Device, lot: &Lot, install: [u8; 32]) {
    assert_eq!(device.lifecycle(), Ok(Lifecycle::Production));
    let policy = &lot.release.facts.policy;
    assert_eq!(FuseFacts::read(&device.otp.0), Ok(policy.production()));
    assert_eq!(device.flash.bank.inner.violations(), 0, "something was programmed without erasing");

    let keys = keys(device);
    let root = policy.root_digest;
    let plain = |name| &lot.plaintexts.iter().find(|(other, _)| *other == name).unwrap().1;
    for slot in [BOOT_SLOT_A, BOOT_STAGING] {
        let stage = open_boot_slot(device.flash_region(slot), BOARD, root, &keys.boot).unwrap();
        assert_eq!(
            (&*stage.plain, stage.info.digest),
            (plain("stage2"), lot.release.facts.stage2_measurement)
        );
    }
    let backup = device.flash_region(BOOT_SLOT_B);
    assert!(backup.starts_with(&lot.release.stage1), "the backup keeps stage1 until the closing is proved");
    for slot in [OS_SLOT_A, OS_SLOT_B] {
        let objects = open_os_slot(device.disk_region(slot), BOARD, root, &keys.os).unwrap();
        let plains: Vec<&Vec<u8>> =
            objects.iter().skip(1).map(|object: &OpenedImage| &*object.plain).collect();
        assert_eq!(plains, ["kernel", "device tree", "initramfs"].map(plain));
    }
    let slot = device.flash_region(SECRETS);
    let secrets = inspect_slot(slot).unwrap();
    let secrets: Vec<Vec<u8>> =
        secrets.iter().map(|secret| open_secret(&slot[secret.offset as usize..], &keys.secret)).collect();
    assert_eq!(secrets.iter().collect::<Vec<_>>(), ["secret", "second secret"].map(plain));

    let state = device.flash_region(CLOSING_STATE);
    let state = ClosingState::parse(state[..ClosingState::SIZE].try_into().unwrap());
    assert_eq!(state, Some(ClosingState { install, acknowledged: false }));
}

fn open_secret(slot: &[u8], key: &Key) -> Vec<u8> {
    let header = Header::parse(slot).unwrap();
    let (metadata, payload) = slot.split_at(header.metadata_len() as usize);
    let image = verified(metadata, Kind::Secret);
    let mut plain = payload[..header.payload_len as usize].to_vec();
    image.unwrap_key(key).unwrap().open_chunk(0, &mut plain).unwrap();
    plain
}

/// Verifies the metadata of an image of the owner's.
pub(crate) fn verified(metadata: &[u8], kind: Kind) -> VerifiedImage<'_> {
    let policy = Policy {
        board: BOARD,
        kind,
        roots: &[Root { digest: release_root(), revoked: false }],
        rollback_floor: 0,
        refuse_test_keys: true,
    };
    UntrustedImage::parse(metadata).unwrap().verify::<Es256>(&policy).unwrap()
}

fn release_root() -> Digest {
    use sealed_image::host::Signer as _;
    crate::lot::key(crate::lot::ROOT).public_key().thumbprint()
}

/// The ciphertext of everything that the device sealed for itself.
pub(crate) fn payloads(device: &Device) -> Vec<Payload> {
    let flash = [BOOT_SLOT_A, BOOT_STAGING, SECRETS].map(|slot| device.flash_region(slot));
    let disk = [OS_SLOT_A, OS_SLOT_B].map(|slot| device.disk_region(slot));
    let mut payloads = Vec::new();
    for slot in flash.iter().chain(&disk) {
        let mut at = 0;
        while let Some(rest) = slot.get(at..).filter(|rest| rest.len() > HEADER_BYTES) {
            let Ok(header) = Header::parse(rest) else { break };
            let start = header.payload_offset as usize;
            let bytes = rest[start..start + header.payload_len as usize].to_vec();
            payloads.push(Payload { name: format!("image {}", payloads.len()), bytes });
            at += (header.image_len().unwrap() as usize).next_multiple_of(4096);
        }
    }
    payloads
}
