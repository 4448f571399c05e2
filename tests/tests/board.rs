//! The board crate and its drivers on the real emulator: what they promise the provisioning stage, and the end of
//! closing. The programs are `crates/board-qemu-virt/examples/conformance`.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use emulator::{Machine, MachineConfig};
use lifecycle::Row;
use memory_map::Region;
use memory_map::qemu_virt::{BOOT_SLOT_A, FLASH_BLOCK, JOURNAL, OTP, OTP_WORDS, PACKAGE, STAGE_RUN};
use release::{FlashLayout, flatten_elf, write_disk};
use tempfile::TempDir;

const WITHIN: Duration = Duration::from_secs(60);

/// A device that runs one of the programs in place of stage0.
struct Bench {
    folder: TempDir,
    machine: Machine,
}

impl Bench {
    fn start(program: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| -> PathBuf { folder.path().join(name) };
        let (flash0, disk) = (file("flash0.img"), file("disk.img"));
        let image = flatten_elf(&tests::conformance(program)).unwrap();
        assert_eq!(image.load, STAGE_RUN.base);
        let start = copy_and_enter(BOOT_SLOT_A, STAGE_RUN.base, image.entry);
        let otp = vec![0xFF; OTP.size as usize];
        let layout = FlashLayout { stage0: &start, slot_a: Some(&image.bytes), slot_b: None, otp: &otp };
        layout.write(&flash0).unwrap();
        write_disk(&disk, None, None).unwrap();
        let config = MachineConfig::default().cores(1).flash0(flash0).disk(disk).lifetime(Some(2 * WITHIN));
        let machine = Machine::start(&config).unwrap_or_else(|error| panic!("{error}"));
        Self { folder, machine }
    }

    /// Waits for the sum, and wants every check passed, of which there are this many.
    #[track_caller]
    fn assert_all_passed(&self, checks: usize) {
        let (_, sum) = self.machine.console.wait_for_line("BOARD done ", 0, WITHIN).unwrap();
        let text = self.machine.console.text();
        assert_eq!(sum, format!("BOARD done ok={checks} fail=0"), "{text}");
        assert_eq!(text.matches("BOARD ok ").count(), checks, "{text}");
    }

    fn file(&self, name: &str, part: Region) -> Vec<u8> {
        read(&self.folder.path().join(name), part)
    }
}

fn read(file: &Path, part: Region) -> Vec<u8> {
    let mut file = File::open(file).unwrap();
    file.seek(SeekFrom::Start(part.base)).unwrap();
    let mut bytes = vec![0; part.size as usize];
    file.read_exact(&mut bytes).unwrap();
    bytes
}

/// Assembles what runs at reset: it copies 2 MiB from a slot to where stages run, and enters the program there.
fn copy_and_enter(slot: Region, to: u64, entry: u64) -> Vec<u8> {
    let high = |register: u32, address: u64| {
        assert!(address.is_multiple_of(1 << 16) && address < 1 << 32);
        // movz register, address >> 16, lsl 16
        0xD2A0_0000 | ((address >> 16) as u32) << 5 | register
    };
    let low = (entry & 0xFFFF) as u32;
    let code = [
        high(0, slot.base),
        high(1, to),
        high(2, to + slot.size),
        high(5, entry & !0xFFFF),
        0xF280_0005 | low << 5, // movk x5, low
        0xF840_8404,            // ldr x4, [x0], 8
        0xF800_8424,            // str x4, [x1], 8
        0xEB02_003F,            // cmp x1, x2
        0x54FF_FFA3,            // b.lo to the load
        0xD503_3F9F,            // dsb sy
        0xD508_751F,            // ic iallu
        0xD503_3FDF,            // isb
        0xD61F_00A0,            // br x5
    ];
    code.iter().flat_map(|word: &u32| word.to_le_bytes()).collect()
}

#[test]
fn flash_fuses_disk_and_link_do_what_provisioning_needs() {
    let bench = Bench::start("conformance-provisioning");
    bench.machine.console.wait_for(b"BOARD listening", 0, WITHIN).unwrap();
    let bytes: Vec<u8> = (0..16).flat_map(|_| 0..=u8::MAX).collect();
    bench.machine.station().unwrap().send(&bytes).unwrap();
    bench.assert_all_passed(33);
    bench.machine.wait_power_off(WITHIN).unwrap();

    // What the device says of itself is what lies in its files.
    let journal = bench.file("flash0.img", JOURNAL);
    assert_eq!(journal[2045..][..12], *b"flash0 holds");
    assert_eq!(journal[4099..][..3], [3, 10, 17]);
    assert!(journal[FLASH_BLOCK as usize..].iter().all(|byte| *byte == 0xFF));
    let otp = bench.file("flash0.img", OTP_WORDS);
    let words: Vec<u32> = otp.chunks(4).map(|word| !u32::from_le_bytes(word.try_into().unwrap())).collect();
    let burned: Vec<usize> = (0..words.len()).filter(|index| words[*index] != 0).collect();
    let row = Row::ClosingMeasurement;
    let expected: Vec<usize> = [row.first_word()].into_iter().chain(row.lock_words()).collect();
    assert_eq!((burned, words[row.first_word()]), (expected, 0xFF));
    assert_eq!(bench.file("disk.img", Region::new(PACKAGE.base + 700, 3000)), [0xA5; 3000]);
    assert_eq!(bench.file("disk.img", Region::new(PACKAGE.end() - 3, 3)), *b"end");
}

#[test]
fn flash_is_there_while_closing_ends_and_gone_afterwards() {
    let bench = Bench::start("conformance-closing");
    bench.assert_all_passed(18);
    // `FailCode::Exception`: what the closing stage reads afterwards is mapped nowhere.
    bench.machine.console.wait_for(b"BOARD fatal 901\r\n", 0, WITHIN).unwrap();
    bench.machine.wait_power_off(WITHIN).unwrap();
    assert_eq!(bench.file("flash0.img", JOURNAL)[2045..][..10], *b"again, new");
    assert!(bench.file("flash0.img", OTP).iter().all(|byte| *byte == 0xFF));
}
