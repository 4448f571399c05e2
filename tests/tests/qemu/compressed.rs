//! An operating system whose objects are compressed, chunk by chunk, before they are encrypted.

use emulator::Outcome;
use fail_code::FailCode;
use memory_map::qemu_virt::BOARD;
use release::{Compression, Identity, OsParts, OsRelease};
use store::Slot;
use tests::forge::flip;
use tests::verdict::{assert_os_slot_refused, story};
use tests::{Device, Firmware, Maker, TOKEN, VERSION, cmdline};

/// Seals the payload as kernel, and an initramfs of several chunks, compressed.
fn slot(maker: &Maker) -> Vec<u8> {
    let firmware = Firmware::get();
    let parts = OsParts {
        kernel: firmware.payload.bytes.clone(),
        device_tree: firmware.device_tree.clone(),
        initramfs: Some(b"an initramfs that repeats itself ".repeat(20_000)),
        cmdline: cmdline(TOKEN),
        compression: Compression::Lz4,
        places: release::OsPlaces::default(),
    };
    let identity = Identity { board: BOARD.into(), version: VERSION, rollback_index: 0.into() };
    maker.seal_release(&OsRelease::sign(&maker.owner, &identity, parts).unwrap())
}

#[test]
fn it_is_decompressed_to_its_place_and_boots() {
    let maker = Maker::development();
    let slot = slot(&maker);
    let report = Device::new(&maker).boot_slot(Slot::A, maker.stage2()).os_slot(Slot::A, slot).boot();
    assert_eq!(report.result, Outcome::Payload, "{}", story(&report));
    for kind in ["kernel", "initramfs"] {
        let image = report.images.iter().find(|image| image.kind == kind).unwrap();
        assert!(image.stored_bytes < image.plain_bytes, "{image:?}");
    }
}

#[test]
fn a_compressed_chunk_that_was_altered_is_refused_before_it_is_decompressed() {
    let maker = Maker::development();
    let slot = slot(&maker);
    let kernel =
        release::inspect_slot(&slot).unwrap().into_iter().find(|image| image.kind.name() == "kernel");
    let kernel = kernel.unwrap();
    let slot = flip(slot, (kernel.offset + kernel.stored_bytes - 1) as usize);
    let report = Device::new(&maker).boot_slot(Slot::A, maker.stage2()).os_slot(Slot::A, slot).boot();
    assert_os_slot_refused(&report, FailCode::ChunkTag);
}
