//! The board crate and its drivers on the real emulator: what they promise the provisioning stage, and the end of
//! closing. The programs are `crates/board-qemu-virt/examples/conformance`; stage0 starts them in the place of stage2.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::time::{Duration, Instant};

use emulator::Machine;
use fail_code::FailCode;
use lifecycle::Row;
use memory_map::qemu_virt::{DRAM_MIN, FLASH_BLOCK, JOURNAL, OS_LOAD, OTP, PACKAGE, SECURE_RAM, STAGE_RUN};
use memory_map::{MIB, Region};
use tests::leak::{Secret, find, normal_ram, secure_ram};
use tests::{Device, Maker};

const WITHIN: Duration = Duration::from_secs(60);

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
    Device::running(&maker, "conformance-provisioning").run_and_look(|machine, folder| {
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
    Device::running(&maker, "conformance-closing").run_and_look(|machine, folder| {
        assert_all_passed(machine, 29);
        // `FailCode::Exception`: what the program reads afterwards is mapped nowhere.
        machine.console.wait_for(b"BOARD fatal 901\r\n", 0, WITHIN).unwrap();
        machine.wait_power_off(WITHIN).unwrap();
        let flash0 = folder.join("flash0.img");
        assert_eq!(read(&flash0, JOURNAL)[2045..][..10], *b"again, new");
        assert!(read(&flash0, OTP) == maker.otp().to_flash(OTP.size as usize), "other fuses");
    });
}

#[test]
fn a_write_to_locked_memory_is_fatal_and_leaves_nothing_in_it_or_in_secure_ram_while_another_core_is_at_work()
{
    let maker = Maker::development();
    let device = Device::running(&maker, "conformance-stopping")
        .machine(|config| config.memory_mib((DRAM_MIN / MIB) as u32));
    device.run(|machine| {
        let fatal = format!("BOARD fatal {}", FailCode::Exception.number());
        machine.console.wait_for_line(&fatal, 0, WITHIN).unwrap();
        let secret = Secret { name: "secret".into(), bytes: b"this is a secret of this program".to_vec() };
        // The last that is cleared is the end of the system's memory, where the other core has been.
        let end = Region::new(OS_LOAD.end() - 32, 32);
        let deadline = Instant::now() + WITHIN;
        while normal_ram(machine, end).iter().any(|byte| *byte != 0) {
            assert!(Instant::now() < deadline, "the system's memory is never cleared");
            machine.qmp.execute("cont", serde_json::Value::Null).unwrap();
            std::thread::sleep(Duration::from_millis(50));
        }
        // A core that had not stopped would write again.
        machine.qmp.execute("cont", serde_json::Value::Null).unwrap();
        std::thread::sleep(Duration::from_millis(200));
        assert!(normal_ram(machine, OS_LOAD).iter().all(|byte| *byte == 0));
        let secure = secure_ram(machine, 0).unwrap();
        let code = (STAGE_RUN.base - SECURE_RAM.base) as usize..;
        assert!(
            !find(&secure[code.clone()][..2 * MIB as usize], &[secret]).is_empty(),
            "the program's code is there"
        );
        // Of the rest one word is left, which says that a core has begun to stop.
        let rest = secure[..code.start].iter().chain(&secure[code.start + 2 * MIB as usize..]);
        assert_eq!(rest.map(|byte| u32::from(*byte)).sum::<u32>(), 1);
    });
}
