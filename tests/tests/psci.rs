//! The monitor at EL3, asked by a normal world that does not behave.

use std::time::Duration;

use emulator::Outcome;
use store::Slot;
use tests::verdict::story;
use tests::{Device, Maker, TOKEN, cmdline, expectation};

/// The least number of cases that must have run.
const CASES: u32 = 25;

fn device(task: &str) -> Device {
    let maker = Maker::development();
    let right = maker.os(TOKEN);
    let os = maker.os_of(right.objects, &format!("{} kiln.payload={task}", cmdline(TOKEN)));
    Device::new(&maker).boot_slot(Slot::A, maker.stage2()).os_slot(Slot::A, maker.seal_os(&os))
}

#[test]
fn every_case_is_answered_as_the_standard_says_and_the_device_powers_off() {
    device("psci").run(|machine| {
        let report = machine.observe(&expectation()).unwrap();
        assert_eq!(report.result, Outcome::Payload, "{}", story(&report));
        let failed: Vec<&str> = report.console.lines().filter(|line| line.starts_with("PSCI FAIL")).collect();
        assert!(failed.is_empty(), "{failed:#?}");
        let passed = report.console.lines().filter(|line| line.starts_with("PSCI ok ")).count();
        let (_, done) = machine.console.find_line("PSCI done ", 0).expect("the test came to its end");
        assert_eq!(done, format!("PSCI done ok={passed} fail=0"));
        assert!(passed >= CASES as usize, "only {passed} cases ran");
        machine.wait_power_off(Duration::from_secs(20)).unwrap();
    });
}

#[test]
fn a_reset_boots_the_device_again() {
    device("psci-reset").run(|machine| {
        for boot in ["first", "second"] {
            let report = machine.observe(&expectation()).unwrap();
            assert_eq!(report.result, Outcome::Payload, "{boot}: {}", story(&report));
            assert!(!report.timeline.is_empty(), "{boot}: {}", story(&report));
        }
        assert!(machine.qmp.events().iter().any(|event| event.name == "RESET"));
    });
}
