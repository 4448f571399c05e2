//! Boots a guest of a few instructions in the real emulator: it plays the part of the firmware and of whatever
//! runs after it, honest or not.

use std::io::Read as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use boot_info::record::{BootRecord, MAX_FRAME};
use boot_info::{Stage, Step, Timestamp};
use emulator::{Error, Expectation, Machine, MachineConfig, Outcome, Writes, boot_and_observe};
use serde_json::Value;

const UART0: u32 = 0x0900_0000;
const UART1: u32 = 0x0904_0000;
/// The secure GPIO: direction, and the data of the pin that powers off and of the one that resets.
const GPIO_DIRECTION: u32 = 0x090B_0400;
const GPIO_POWER_OFF: (u32, &[u8]) = (0x090B_0004, &[1]);
const GPIO_RESET: (u32, &[u8]) = (0x090B_0008, &[2]);

/// Stores each byte of each (address, length, bytes) entry that follows at that entry's address, as a word, and
/// sleeps for ever at an address of 0.
const CODE: [u32; 14] = [
    0x1000_01C1, // adr  x1, the first entry
    0xB840_4422, // ldr  w2, [x1], #4       the address
    0x3400_0142, // cbz  w2, the end
    0xB840_4423, // ldr  w3, [x1], #4       the length
    0x3400_00A3, // cbz  w3, the next entry
    0x3840_1424, // ldrb w4, [x1], #1
    0xB900_0044, // str  w4, [x2]
    0x5100_0463, // sub  w3, w3, #1
    0x17FF_FFFC, // b    the next byte
    0x9100_0C21, // add  x1, x1, #3         entries are aligned to four bytes
    0x927E_F421, // and  x1, x1, #~3
    0x17FF_FFF6, // b    the next entry
    0xD503_207F, // wfi
    0x17FF_FFFF, // b    the end
];

struct Guest {
    folder: tempfile::TempDir,
    script: Vec<u8>,
}

impl Guest {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), script: Vec::new() }
    }

    fn store(mut self, address: u32, bytes: &[u8]) -> Self {
        self.script.extend(address.to_le_bytes());
        self.script.extend(u32::try_from(bytes.len()).unwrap().to_le_bytes());
        self.script.extend(bytes);
        self.script.resize(self.script.len().next_multiple_of(4), 0);
        self
    }

    fn says(self, text: &str) -> Self {
        self.store(UART0, text.as_bytes())
    }

    fn records(self, code: u16) -> Self {
        let frame = frame(code);
        self.store(UART1, &frame)
    }

    fn does(self, (address, bits): (u32, &[u8])) -> Self {
        self.store(GPIO_DIRECTION, &[0xFF]).store(address, bits)
    }

    /// Writes the flash and returns a machine that starts from it, with one core: every core would run it.
    fn machine(&self) -> MachineConfig {
        let mut flash: Vec<u8> = CODE.iter().flat_map(|word| word.to_le_bytes()).collect();
        flash.extend(&self.script);
        flash.extend([0; 4]);
        let file = self.file("flash0.img");
        std::fs::write(&file, &flash).unwrap();
        std::fs::File::options().write(true).open(&file).unwrap().set_len(64 << 20).unwrap();
        MachineConfig::default().cores(1).memory_mib(256).flash0(file).writes(Writes::Discard)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

fn frame(code: u16) -> Vec<u8> {
    let mut record = BootRecord {
        code,
        stage: Stage::Stage2 as u8,
        board: *b"qemu-virt\0\0\0\0\0\0\0",
        counter_hz: 62_500_000,
        end: 6_250_000,
        ..BootRecord::default()
    };
    let step = Timestamp { stage: 0, step: Step::Entry as u8, start: 0, end: 62_500 };
    assert!(record.timestamps.push(step));
    record.frame(&mut [0; MAX_FRAME]).unwrap().to_vec()
}

fn token() -> Expectation {
    Expectation::token("beef").within(Duration::from_secs(30))
}

#[test]
fn a_payload_that_shows_its_token_is_reached() {
    let guest = Guest::new().records(0).says("hello\r\nKILN-PAYLOAD cpus=1 token=beef\r\n");
    let log = guest.file("console.log");
    let report = boot_and_observe(&guest.machine(), &token().console_log(&log)).unwrap();
    assert_eq!(report.result, Outcome::Payload, "{report:?}");
    assert_eq!((report.cpus_online, report.token_matched), (Some(1), Some(true)));
    assert_eq!(report.reset_to_kernel_us, Some(100_000));
    assert!(report.host_reset_to_kernel_ms.unwrap() > 0.0);
    assert_eq!(report.timeline.len(), 1);
    assert!(report.qemu_version.unwrap().contains('.'));
    assert!(std::fs::read_to_string(log).unwrap().starts_with("hello\r\n"));
}

#[test]
fn a_refusal_is_reported_with_its_code_and_the_whole_console() {
    let text = "x".repeat(20_000);
    let guest = Guest::new().records(302).says(&text).says("last words");
    let report = boot_and_observe(&guest.machine(), &token()).unwrap();
    assert_eq!((report.result, report.code.as_deref()), (Outcome::Refused, Some("K0302")));
    assert_eq!(report.console.len(), 20_010, "no byte is lost");
}

#[test]
fn a_line_with_another_token_is_not_believed() {
    let guest = Guest::new().records(0).says("KILN-USERSPACE kernel=6.1 cpus=1 token=dead\r\n");
    let start = Instant::now();
    let report = boot_and_observe(&guest.machine(), &token()).unwrap();
    assert_eq!((report.result, report.token_matched), (Outcome::Timeout, Some(false)));
    assert!(report.detail.unwrap().contains("another token"));
    assert!(start.elapsed() < Duration::from_secs(20), "the wait is cut short");
}

#[test]
fn the_right_line_after_a_garbled_one_counts() {
    let guest = Guest::new()
        .records(0)
        .says("KILN-USERSPACE kernel=6.1 [ 0.9] random: crng init done\r\n")
        .says("KILN-USERSPACE kernel=6.1 cpus=2 token=beef\r\n");
    let report = boot_and_observe(&guest.machine(), &token()).unwrap();
    assert_eq!((report.result, report.token_matched), (Outcome::LinuxUserspace, Some(true)));
    assert_eq!((report.cpus_online, report.kernel_version.as_deref()), (Some(2), Some("6.1")));
}

#[test]
fn a_record_on_the_console_is_not_believed() {
    let guest = Guest::new().store(UART0, &frame(302)).says("\r\nbye\r\n");
    let report = boot_and_observe(&guest.machine(), &token().within(Duration::from_secs(2))).unwrap();
    assert_eq!((report.result, report.code), (Outcome::Timeout, None));
    assert!(report.detail.unwrap().ends_with("bye"));
}

#[test]
fn user_space_without_a_boot_record_is_an_error() {
    let guest = Guest::new().says("KILN-USERSPACE kernel=6.1 cpus=1 token=beef\r\n");
    let error = boot_and_observe(&guest.machine(), &token()).unwrap_err();
    assert!(matches!(error, Error::NoRecord), "{error}");
}

#[test]
fn a_damaged_record_is_an_error() {
    let mut damaged = frame(0);
    damaged[20] ^= 1;
    let error = boot_and_observe(&Guest::new().store(UART1, &damaged).machine(), &token()).unwrap_err();
    assert!(matches!(error, Error::RecordDamaged(_)), "{error}");
}

#[test]
fn a_device_that_powers_off_early_is_told_apart_from_a_hang() {
    let guest = Guest::new().records(0).says("going\r\n").does(GPIO_POWER_OFF);
    let report = boot_and_observe(&guest.machine(), &token()).unwrap();
    assert_eq!((report.result, report.reset_to_kernel_us), (Outcome::Timeout, Some(100_000)));
    assert_eq!(report.detail.unwrap(), "the device powered off early; the console ends with: going");
}

#[test]
fn the_boot_after_a_reset_is_observed_by_itself() {
    let guest = Guest::new().records(0).says("KILN-PAYLOAD cpus=1 token=beef\r\n").does(GPIO_RESET);
    let mut machine = Machine::start(&guest.machine()).unwrap();
    let first = machine.observe(&token()).unwrap();
    let second = machine.observe(&token()).unwrap();
    assert_eq!((first.result, second.result), (Outcome::Payload, Outcome::Payload));
    let line = |console: &str| console.matches("KILN-PAYLOAD").count();
    assert_eq!((line(&first.console), line(&second.console)), (1, 1));
    assert!(machine.qmp.events().iter().any(|event| event.name == "RESET"));
}

#[test]
fn a_station_takes_part_in_its_link_while_the_records_of_all_boots_are_kept() {
    let guest = Guest::new().records(0).says("KILN-PAYLOAD cpus=1 token=beef\r\n").does(GPIO_RESET);
    let mut machine = Machine::start(&guest.machine()).unwrap();
    let mut station = machine.station().unwrap().connect().unwrap();
    station.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut heard = vec![0; frame(0).len()];
    station.read_exact(&mut heard).unwrap();
    assert_eq!(heard, frame(0));
    machine.observe(&token().through_resets()).unwrap();
    machine.observe(&token().through_resets()).unwrap();
    // Records and resets come over two sockets, each in order; which of two that are close comes first says nothing.
    let deadline = Instant::now() + Duration::from_secs(30);
    while machine.resets().is_empty() || machine.records().len() < 2 {
        assert!(
            Instant::now() < deadline,
            "{} resets, {} records",
            machine.resets().len(),
            machine.records().len()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    let (resets, records) = (machine.resets(), machine.records());
    assert!(records.is_sorted_by_key(|(at, _)| *at) && resets.is_sorted(), "{resets:?}");
    machine.kill();
    let mut rest = Vec::new();
    station.read_to_end(&mut rest).unwrap();
}

#[test]
fn the_emulator_is_driven_through_qmp_and_dies_like_a_power_cut() {
    let guest = Guest::new().says("up");
    let mut machine = Machine::start(&guest.machine()).unwrap();
    let up = machine.console.wait_for(b"up", 0, Duration::from_secs(30)).unwrap();
    assert!(up.at <= machine.elapsed());
    let status = machine.qmp.execute("query-status", Value::Null).unwrap();
    assert_eq!(status["status"], "running");
    let refused = machine.qmp.execute("no-such-command", Value::Null).unwrap_err();
    assert!(matches!(refused, Error::QmpRefused { .. }), "{refused}");
    let process = PathBuf::from(format!("/proc/{}", machine.process_id()));
    assert!(process.exists());
    machine.kill();
    assert!(!process.exists() && !machine.exit_status().unwrap().success());
}

#[test]
fn an_emulator_that_cannot_start_says_why() {
    let config = MachineConfig::default().flash0("/nonexistent/flash0.img");
    let error = Machine::start(&config).map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::Ended { .. }) && error.to_string().contains("/nonexistent"), "{error}");
    let missing = Machine::start(&MachineConfig::default().program("no-such-qemu")).map(|_| ()).unwrap_err();
    assert!(missing.to_string().contains("no-such-qemu"), "{missing}");
}

#[test]
fn a_machine_that_nobody_watches_ends_with_its_lifetime() {
    let guest = Guest::new().says("up");
    let config = guest.machine().lifetime(Some(Duration::from_secs(2)));
    let machine = Machine::start(&config).unwrap();
    let error = machine.console.wait_for(b"never", 0, Duration::from_secs(30)).unwrap_err();
    assert!(matches!(error, Error::Closed { .. }), "{error}");
}
