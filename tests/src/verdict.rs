//! What a boot must have come to.

use boot_info::Stage;
use emulator::{Outcome, Report};
use fail_code::FailCode;
use lifecycle::Lifecycle;
use memory_map::qemu_virt::OTP;
use store::Slot;

use crate::Die;
use crate::factory::Run;

/// Asserts that the payload runs, from these slots, and returns nothing less than all cores.
#[track_caller]
pub fn assert_boots(report: &Report, boot_slot: Slot, os_slot: Slot) {
    assert_eq!(report.result, Outcome::Payload, "{}", story(report));
    assert_eq!(report.token_matched, Some(true));
    assert_eq!(report.cpus_online, Some(2));
    assert_eq!(report.slot.as_deref(), Some(boot_slot.name()), "{}", story(report));
    assert_eq!(report.os_slot.as_deref(), Some(os_slot.name()), "{}", story(report));
    let measured: Vec<&str> = report.measurements.iter().map(|it| it.kind.as_str()).collect();
    for kind in ["stage2", "kernel", "device-tree"] {
        assert!(measured.contains(&kind), "{kind} was not measured: {measured:?}");
    }
}

/// Asserts that stage0 stopped before it tried any slot.
#[track_caller]
pub fn assert_stage0_refuses(report: &Report, code: FailCode) {
    assert_refused(report, Stage::Stage0, code);
    assert_says(report, &format!("stage0: stopped: {code}"));
    assert!(report.images.is_empty() && report.fallback_code.is_none(), "{}", story(report));
}

/// Asserts that stage0 refused boot slot A for `code`, found slot B empty, and ran nothing.
#[track_caller]
pub fn assert_boot_slot_refused(report: &Report, code: FailCode) {
    assert_refused(report, Stage::Stage0, FailCode::NoBootableSlot);
    assert_eq!(report.fallback_code, Some(text(code)), "{}", story(report));
    assert_says(report, &format!("boot slot A refused: {code}"));
    assert_says(report, &format!("boot slot B refused: {}", FailCode::SlotEmpty));
    assert!(report.images.is_empty(), "nothing was opened: {}", story(report));
}

/// Asserts that stage2 stopped for a reason that lies in no single OS slot.
#[track_caller]
pub fn assert_stage2_refuses(report: &Report, code: FailCode) {
    assert_refused(report, Stage::Stage2, code);
    assert_eq!(report.images.first().map(|image| image.kind.as_str()), Some("stage2"), "{}", story(report));
}

/// Asserts that stage2 refused OS slot A for `code`, found slot B empty, and entered nothing.
#[track_caller]
pub fn assert_os_slot_refused(report: &Report, code: FailCode) {
    assert_stage2_refuses(report, FailCode::NoBootableOs);
    assert_eq!(report.images.len(), 1, "nothing was opened: {}", story(report));
    assert_eq!(report.os_fallback_code, Some(text(code)), "{}", story(report));
    assert_os_slot_named(report, Slot::A, code);
    assert_os_slot_named(report, Slot::B, FailCode::SlotEmpty);
}

/// Asserts that the console says of an OS slot that it was refused for `code`.
#[track_caller]
pub fn assert_os_slot_named(report: &Report, slot: Slot, code: FailCode) {
    let words = format!("OS slot {} refused: ", slot.name());
    let mut lines = report.console.lines().filter(|line| line.contains(&words));
    let named = lines.next().is_some_and(|line| line.ends_with(&code.to_string()));
    assert!(named, "no line says {words:?} and {code}: {}", story(report));
}

/// Asserts the code and the stage, that this stage did run, and that nothing ran after it.
#[track_caller]
fn assert_refused(report: &Report, stage: Stage, code: FailCode) {
    assert_eq!(report.result, Outcome::Refused, "{}", story(report));
    assert_eq!(report.code, Some(text(code)), "{}", story(report));
    assert_eq!(report.stage.as_deref(), Some(stage.name()), "{}", story(report));
    assert!(report.timeline.iter().any(|entry| entry.end_us > 0), "no step was timed: {}", story(report));
    assert_eq!(report.reset_to_kernel_us, None);
    assert!(!report.console.contains("KILN-PAYLOAD"), "the payload ran: {}", story(report));
    if stage == Stage::Stage0 {
        assert!(!report.console.contains("stage2"), "stage2 ran: {}", story(report));
    }
}

/// Asserts that a line stands on the console.
#[track_caller]
pub fn assert_says(report: &Report, words: &str) {
    assert!(report.console.contains(words), "{words:?} is missing: {}", story(report));
}

/// Returns a code as reports print it.
pub fn text(code: FailCode) -> String {
    String::from_utf8_lossy(&code.text()).into_owned()
}

/// Tells what a person needs to understand a failed test.
pub fn story(report: &Report) -> String {
    format!("{}\nconsole:\n{}", report.to_json(), report.console)
}

/// Asserts that a device closed and booted for good, and that its station says so.
#[track_caller]
pub fn assert_closed(die: &Die, run: &Run) {
    let text = &run.console;
    assert_eq!(run.boot.result, Outcome::Payload, "{}\nall of the console:\n{text}", story(&run.boot));
    assert_eq!(run.boot.token_matched, Some(true));
    assert_eq!(run.boot.lifecycle.as_deref(), Some(Lifecycle::Production.name()), "{}", story(&run.boot));
    assert_eq!(run.record.result, station::Outcome::Pass, "{:?}\n{text}", run.record);
    assert_eq!((&run.record.code, &run.record.cause), (&None, &None));
    assert_eq!(run.record.chip_id, Some(release::hex(&die.chip_id)));
    assert_eq!(die.lifecycle(), Lifecycle::Production);
}

/// Asserts that a device stopped for a reason in a step of provisioning, that its station tells code and cause, and
/// that no fuse was burned since `before`.
#[track_caller]
pub fn assert_not_provisioned(die: &Die, run: &Run, before: &[u8], step: &str, code: FailCode) {
    let console = &run.console;
    assert_eq!(run.boot.result, Outcome::Refused, "{}\n{console}", story(&run.boot));
    assert_eq!(run.boot.code, Some(text(code)), "{}\n{console}", story(&run.boot));
    assert!(!console.contains("KILN-PAYLOAD"), "the payload ran: {console}");
    assert_eq!(run.record.result, station::Outcome::Refused, "{:?}", run.record);
    assert_eq!(run.record.code, Some(text(code)), "{:?}\n{console}", run.record);
    let cause = run.record.cause.as_deref().unwrap_or_default();
    assert!(cause.starts_with(code.cause()), "{cause}");
    let last = run.record.steps.last().map(|step| (step.name.as_str(), step.end_ms));
    assert_eq!(last, Some((step, None)), "{:?}", run.record);
    assert!(die.region(OTP) == before, "a fuse was burned");
}

/// Returns the numbers of the line that begins with `mark`, each behind an equals sign.
///
/// # Panics
/// If there is no such line, or it has another number of them.
pub fn numbers<const N: usize>(text: &str, mark: &str) -> [u64; N] {
    let line = text.lines().find_map(|line| line.strip_prefix(mark)).unwrap_or_default();
    let numbers: Vec<u64> =
        line.split_whitespace().filter_map(|word| word.split_once('=')?.1.parse().ok()).collect();
    numbers.try_into().unwrap_or_else(|_| panic!("no {N} numbers behind `{mark}`: {text}"))
}
