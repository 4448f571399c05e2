//! The monitor at EL3, asked by a normal world that does not behave.

use std::time::Duration;

use store::Slot;
use tests::{Device, Maker, TOKEN, cmdline};

/// The least number of cases that must have run.
const CASES: usize = 25;
/// Cases of which none may be missing: what keeps the worlds apart.
const ISOLATION: [&str; 5] = [
    "secure-ram-not-readable",
    "secure-ram-not-writable",
    "secure-interrupts-undefined-to-read",
    "secure-interrupts-undefined-at-el1",
    "monitor-answers-after-traps",
];
const WITHIN: Duration = Duration::from_secs(60);

fn device(task: &str) -> Device {
    let maker = Maker::development();
    let objects = maker.os(TOKEN).objects;
    let os = maker.os_of(objects, &format!("{} kiln.payload={task}", cmdline(TOKEN)));
    Device::new(&maker).boot_slot(Slot::A, maker.stage2()).os_slot(Slot::A, maker.seal_os(&os))
}

/// Waits for the sum of all cases from offset `from` of the console on, and returns the offset after it.
#[track_caller]
fn assert_all_passed(machine: &emulator::Machine, from: usize) -> usize {
    let (found, sum) = machine.console.wait_for_line("PSCI done ", from, WITHIN).unwrap();
    let text = machine.console.text();
    let lines = || text[from..found.end].lines();
    let failed: Vec<&str> = lines().filter(|line| line.starts_with("PSCI FAIL")).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    let passed = lines().filter(|line| line.starts_with("PSCI ok ")).count();
    assert_eq!(sum, format!("PSCI done ok={passed} fail=0"));
    assert!(passed >= CASES, "only {passed} cases ran");
    for case in ISOLATION {
        assert!(lines().any(|line| line == format!("PSCI ok {case}")), "{case} did not run");
    }
    found.end
}

#[test]
fn every_case_is_answered_as_the_standard_says_and_the_device_powers_off() {
    device("psci").run(|machine| {
        assert_all_passed(machine, 0);
        machine.wait_power_off(WITHIN).unwrap();
    });
}

#[test]
fn a_reset_boots_the_device_again_with_a_record_of_its_own() {
    device("psci-reset").run(|machine| {
        let first = assert_all_passed(machine, 0);
        assert_all_passed(machine, first);
        assert!(machine.qmp.events().iter().any(|event| event.name == "RESET"));
        for boot in ["first", "second"] {
            let record = machine.take_record().unwrap().expect(boot);
            assert_eq!(record.code, 0, "{boot}");
        }
    });
}
