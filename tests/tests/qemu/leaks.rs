//! No key that a boot used is left in memory once the operating system runs, or once the device has refused to boot.

use std::time::{Duration, Instant};

use boot_crypto::sha256;
use emulator::Outcome;
use memory_map::qemu_virt::{BOOT_INFO, DRAM_BASE, DRAM_MIN, PARKING, SECURE_RAM, STAGE_RUN, STAGE_WORK};
use memory_map::{MIB, Region};
use store::Slot;
use tests::leak::{Secret, find, keys_of_die, keys_of_slot, normal_ram, secure_ram};
use tests::poke::poke;
use tests::verdict::story;
use tests::{Device, Firmware, Maker, TOKEN, cmdline, expectation};

/// A die, stage2 and OS for its slots, and every key that its boot uses. The payload stays once it runs.
fn parts() -> (Maker, Vec<u8>, Vec<u8>, Vec<Secret>) {
    let maker = Maker::production();
    let os = maker.os_of(maker.os(TOKEN).objects, &format!("{} kiln.payload=stay", cmdline(TOKEN)));
    let (stage2, os) = (maker.stage2(), maker.seal_os(&os));
    let mut secrets = keys_of_die(&maker);
    secrets.extend(keys_of_slot(&stage2, &maker.boot_key()));
    secrets.extend(keys_of_slot(&os, &maker.os_key()));
    (maker, stage2, os, secrets)
}

/// Asserts that `memory` is what the stage left, by what must be there: its code, the handoff, the parking place.
fn assert_is_secure_ram(memory: &[u8]) {
    let at = |region: Region| (region.base - SECURE_RAM.base) as usize;
    let code = Firmware::get().stage2.bytes.get(..65536).unwrap();
    assert_eq!(sha256(&memory[at(STAGE_RUN)..][..65536]), sha256(code), "the monitor's code is there");
    assert!(memory[at(BOOT_INFO)..].starts_with(b"KILNBOOT"), "the handoff is there");
    assert!(memory[at(PARKING)..][..4096].iter().any(|byte| *byte != 0), "the parking place is there");
    let heap = &memory[at(STAGE_WORK)..][..STAGE_WORK.size as usize];
    assert!(heap.iter().any(|byte| *byte != 0), "the heap is there");
}

#[test]
fn of_a_boot_in_secure_and_in_normal_memory_while_the_payload_runs() {
    let (maker, stage2, os, secrets) = parts();
    let device = Device::new(&maker).boot_slot(Slot::A, stage2).os_slot(Slot::A, os);
    assert_eq!(secrets.len(), 7 + 4 * 2 * 7, "every key of four images has its round keys");
    device.machine(|config| config.memory_mib((DRAM_MIN / MIB) as u32)).run(|machine| {
        let report = machine.observe(&expectation()).unwrap();
        assert_eq!(report.result, Outcome::Payload, "{}", story(&report));
        // The payload has turned this core off again, and off means that it waits at EL3.
        let secure = secure_ram(machine, 1).unwrap();
        assert_is_secure_ram(&secure);
        let code = Secret { name: "canary".into(), bytes: Firmware::get().stage2.bytes[4096..4128].to_vec() };
        assert!(!find(&secure, &[code]).is_empty(), "a canary in secure RAM is found");
        assert_eq!(find(&secure, &secrets), Vec::<String>::new());

        let normal = normal_ram(machine, Region::new(DRAM_BASE, DRAM_MIN));
        let code =
            Secret { name: "canary".into(), bytes: Firmware::get().payload.bytes[4096..4128].to_vec() };
        assert!(!find(&normal, &[code]).is_empty(), "a canary in normal RAM is found");
        assert_eq!(find(&normal, &secrets), Vec::<String>::new());
    });
}

#[test]
fn what_lies_in_secure_memory_before_a_reset_is_gone_after_it() {
    let (maker, stage2, os, _) = parts();
    let device = Device::new(&maker).boot_slot(Slot::A, stage2).os_slot(Slot::A, os);
    device.machine(|config| config.memory_mib((DRAM_MIN / MIB) as u32)).run(|machine| {
        let report = machine.observe(&expectation()).unwrap();
        assert_eq!(report.result, Outcome::Payload, "{}", story(&report));
        // Places that a boot does not write to, so that nothing but clearing clears them.
        let secure = secure_ram(machine, 1).unwrap();
        let canary: Vec<u8> = (0..32).map(|n| 0xA5 ^ (n * 7)).collect();
        let free = |page: &usize| secure[*page..][..4096].iter().all(|byte| *byte == 0);
        let pages: Vec<usize> = (0..secure.len()).step_by(4096).filter(free).collect();
        assert!(pages.len() > 16, "{} pages are free", pages.len());
        let chosen: Vec<usize> = pages.iter().step_by(pages.len() / 8).chain(pages.last()).copied().collect();
        for page in &chosen {
            poke(machine, 1, SECURE_RAM.base + *page as u64 + 64, &canary);
        }
        let holds =
            |memory: &[u8]| chosen.iter().filter(|page| memory[**page + 64..][..32] == canary).count();
        assert_eq!(holds(&secure_ram(machine, 1).unwrap()), chosen.len(), "the control: they are there");

        let seen = machine.console.len();
        machine.qmp.execute("system_reset", serde_json::Value::Null).unwrap();
        machine.qmp.execute("cont", serde_json::Value::Null).unwrap();
        machine.console.wait_for(b"KILN-PAYLOAD ", seen, Duration::from_secs(60)).unwrap();
        let secure = secure_ram(machine, 1).unwrap();
        assert_is_secure_ram(&secure);
        assert_eq!(holds(&secure), 0);
    });
}

/// Asserts that a device which has refused to boot has cleared secure RAM but for the code of the stage that stopped, and
/// that no key of the boot is in the system's memory.
fn assert_nothing_is_left(device: Device, secrets: &[Secret], code: &str, stage_stays: bool) {
    device.machine(|config| config.memory_mib((DRAM_MIN / MIB) as u32)).run(|machine| {
        let report = machine.observe(&expectation()).unwrap();
        assert_eq!(report.code.as_deref(), Some(code), "{}", story(&report));
        // The record is out before memory is cleared; core 0 then waits at EL3.
        let deadline = Instant::now() + Duration::from_secs(60);
        let run = (STAGE_RUN.base - SECURE_RAM.base) as usize..;
        let secure = loop {
            let secure = secure_ram(machine, 0).unwrap();
            // Behind the first page, in which cores that are parked say again and again that they are there.
            let before = &secure[PARKING.size as usize..run.start];
            let rest = before.iter().chain(&secure[run.start + 2 * MIB as usize..]);
            if rest.clone().all(|byte| *byte == 0) {
                break secure;
            }
            assert!(Instant::now() < deadline, "{} bytes are left", rest.filter(|byte| **byte != 0).count());
            machine.qmp.execute("cont", serde_json::Value::Null).unwrap();
            std::thread::sleep(Duration::from_millis(50));
        };
        let stage = &secure[run.start..][..2 * MIB as usize];
        let stage2 = Firmware::get().stage2.bytes.get(..65536).unwrap();
        assert_eq!(stage.starts_with(stage2), stage_stays, "the stage's code");
        assert!(stage_stays || stage.iter().all(|byte| *byte == 0), "a stage that was refused is left");
        assert_eq!(find(&secure, secrets), Vec::<String>::new());
        assert_eq!(
            find(&normal_ram(machine, Region::new(DRAM_BASE, DRAM_MIN)), secrets),
            Vec::<String>::new()
        );
    });
}

/// Alters the last byte of the last image in a slot.
fn alter_the_last_chunk(slot: &mut [u8]) {
    let images = release::inspect_slot(slot).unwrap();
    let last = images.last().unwrap();
    slot[(last.offset + last.stored_bytes - 1) as usize] ^= 1;
}

#[test]
fn of_an_operating_system_that_was_refused_at_its_last_chunk() {
    let (maker, stage2, mut os, mut secrets) = parts();
    alter_the_last_chunk(&mut os);
    // The kernel is decrypted before the last chunk fails.
    let kernel = &Firmware::get().payload.bytes;
    let piece = |at: usize| Secret { name: format!("kernel at {at}"), bytes: kernel[at..][..32].to_vec() };
    secrets.extend([0, 16384].map(piece));
    let device = Device::new(&maker).boot_slot(Slot::A, stage2).os_slot(Slot::A, os);
    assert_nothing_is_left(device, &secrets, "K0102", true);
}

#[test]
fn of_a_stage_that_was_refused_at_its_last_chunk() {
    let (maker, mut stage2, _, secrets) = parts();
    alter_the_last_chunk(&mut stage2);
    assert_nothing_is_left(Device::new(&maker).boot_slot(Slot::A, stage2), &secrets, "K0100", false);
}
