//! The board crate and its drivers on the real emulator: what they promise the provisioning stage, and the end of
//! closing. The programs are `crates/board-qemu-virt/examples/conformance`; stage0 starts them in the place of stage2.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::time::Duration;

use emulator::Machine;
use lifecycle::Row;
use memory_map::Region;
use memory_map::qemu_virt::{FLASH_BLOCK, JOURNAL, OTP, PACKAGE};
use release::flatten_elf;
use sealed_image::host::Facts;
use store::Slot;
use tests::{Device, Maker};

const WITHIN: Duration = Duration::from_secs(60);

/// Makes a device on which one of the programs runs in the place of stage2.
fn device(maker: &Maker, program: &str) -> Device {
    let image = flatten_elf(&tests::conformance(program)).unwrap();
    let facts = Facts { load_address: image.load, entry: image.entry, ..maker.stage2_facts() };
    let signed = maker.owner.sign(&facts, image.bytes).unwrap();
    Device::new(maker).boot_slot(Slot::A, maker.seal_stage(&signed))
}

/// Waits for the sum, and wants every check passed, of which there are this many.
#[track_caller]
fn assert_all_passed(machine: &Machine, checks: usize) {
    let (_, sum) = machine.console.wait_for_line("BOARD done ", 0, WITHIN).unwrap();
    let text = machine.console.text();
    assert_eq!(sum, format!("BOARD done ok={checks} fail=0"), "{text}");
    assert_eq!(text.matches("BOARD ok ").count(), checks, "{text}");
}

fn read(file: &Path, part: Region) -> Vec<u8> {
    let mut file = File::open(file).unwrap();
    file.seek(SeekFrom::Start(part.base)).unwrap();
    let mut bytes = vec![0; part.size as usize];
    file.read_exact(&mut bytes).unwrap();
    bytes
}

#[test]
fn flash_fuses_disk_and_link_do_what_provisioning_needs() {
    let maker = Maker::development();
    device(&maker, "conformance-provisioning").run_and_look(|machine, folder| {
        machine.console.wait_for(b"BOARD listening", 0, WITHIN).unwrap();
        let bytes: Vec<u8> = (0..16).flat_map(|_| 0..=u8::MAX).collect();
        machine.station().unwrap().send(&bytes).unwrap();
        assert_all_passed(machine, 33);
        machine.wait_power_off(WITHIN).unwrap();

        // What the device says of itself is what lies in its files.
        let (flash0, disk) = (folder.join("flash0.img"), folder.join("disk.img"));
        let journal = read(&flash0, JOURNAL);
        assert_eq!(journal[2045..][..12], *b"flash0 holds");
        assert_eq!(journal[4099..][..3], [3, 10, 17]);
        assert!(journal[FLASH_BLOCK as usize..].iter().all(|byte| *byte == 0xFF));
        let mut expected = maker.otp();
        let row = Row::ClosingMeasurement;
        expected.words_mut()[row.first_word()] = 0xFF;
        expected.words_mut()[row.lock_words()].fill(u32::MAX);
        assert!(read(&flash0, OTP) == expected.to_flash(OTP.size as usize), "other fuses");
        assert_eq!(read(&disk, Region::new(PACKAGE.base + 700, 3000)), [0xA5; 3000]);
        assert_eq!(read(&disk, Region::new(PACKAGE.end() - 3, 3)), *b"end");
    });
}

#[test]
fn flash_is_there_while_closing_ends_and_gone_afterwards() {
    let maker = Maker::development();
    device(&maker, "conformance-closing").run_and_look(|machine, folder| {
        assert_all_passed(machine, 23);
        // `FailCode::Exception`: what the program reads afterwards is mapped nowhere.
        machine.console.wait_for(b"BOARD fatal 901\r\n", 0, WITHIN).unwrap();
        machine.wait_power_off(WITHIN).unwrap();
        let flash0 = folder.join("flash0.img");
        assert_eq!(read(&flash0, JOURNAL)[2045..][..10], *b"again, new");
        assert!(read(&flash0, OTP) == maker.otp().to_flash(OTP.size as usize), "other fuses");
    });
}
