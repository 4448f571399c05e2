//! No key that a boot used is left in memory once the operating system runs.

use boot_crypto::sha256;
use emulator::Outcome;
use memory_map::qemu_virt::{BOOT_INFO, DRAM_BASE, DRAM_MIN, PARKING, SECURE_RAM, STAGE_RUN, STAGE_WORK};
use memory_map::{MIB, Region};
use store::Slot;
use tests::leak::{Secret, find, keys_of_die, keys_of_slot, normal_ram, secure_ram};
use tests::verdict::story;
use tests::{Device, Firmware, Maker, TOKEN, cmdline, expectation};

/// A device that boots the payload, which then stays, with every key that its boot uses.
fn device() -> (Device, Vec<Secret>) {
    let maker = Maker::production();
    let os = maker.os_of(maker.os(TOKEN).objects, &format!("{} kiln.payload=stay", cmdline(TOKEN)));
    let (stage2, os) = (maker.stage2(), maker.seal_os(&os));
    let mut secrets = keys_of_die(&maker);
    secrets.extend(keys_of_slot(&stage2, &maker.boot_key()));
    secrets.extend(keys_of_slot(&os, &maker.os_key()));
    let device = Device::new(&maker).boot_slot(Slot::A, stage2).os_slot(Slot::A, os);
    (device, secrets)
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
    let (device, secrets) = device();
    assert_eq!(secrets.len(), 7 + 4 * 2 * 7, "every key of four images has its round keys");
    device.machine(|config| config.memory_mib((DRAM_MIN / MIB) as u32)).run(|machine| {
        let report = machine.observe(&expectation()).unwrap();
        assert_eq!(report.result, Outcome::Payload, "{}", story(&report));
        // The payload has turned this core off again, and off means that it waits at EL3.
        let secure = secure_ram(machine, 1);
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
