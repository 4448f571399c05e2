//! Debian's Linux on a Kiln device: all cores come up, one goes and returns, it reboots and powers off.
//!
//! `cargo xtask test` fetches kernel and busybox. Where Debian's packages cannot be had, these tests say loudly that
//! they did not run; the payload's PSCI test then stands alone.

use std::time::Duration;

use emulator::{Machine, Outcome, Report};
use memory_map::qemu_virt::BOARD;
use release::{Compression, Identity, OsParts, OsRelease};
use store::Slot;
use tests::verdict::story;
use tests::{Device, Firmware, Maker, TOKEN, VERSION, expectation};

const WITHIN: Duration = Duration::from_secs(60);

/// Boots Linux with an init that does what `then` says, and watches it.
fn with_linux(then: &str, watch: impl FnOnce(&mut Machine)) {
    let (Some(kernel), Some(busybox)) = (std::env::var_os("KILN_KERNEL"), std::env::var_os("KILN_BUSYBOX"))
    else {
        let declared = std::env::var("KILN_LINUX").is_ok_and(|linux| linux == "absent");
        assert!(
            declared,
            "this test needs Debian's kernel and busybox: run `cargo xtask test`, which fetches them"
        );
        eprintln!("\n*** NOT RUN: Linux `{then}`: Debian's kernel and busybox cannot be had here ***");
        return;
    };
    let read =
        |path: std::ffi::OsString| std::fs::read(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let parts = OsParts {
        kernel: read(kernel),
        device_tree: Firmware::get().device_tree.clone(),
        initramfs: Some(xtask::initramfs::build(&read(busybox), TOKEN).unwrap()),
        cmdline: format!("earlycon=pl011,0x9000000 console=ttyAMA0 panic=-1 kiln.then={then}"),
        compression: Compression::None,
    };
    let maker = Maker::development();
    let identity = Identity { board: BOARD.into(), version: VERSION, rollback_index: 0 };
    let release = OsRelease::sign(&maker.owner, &identity, parts).unwrap();
    Device::new(&maker)
        .boot_slot(Slot::A, maker.stage2())
        .os_slot(Slot::A, maker.seal_release(&release))
        .run(watch);
}

#[track_caller]
fn assert_in_user_space(report: &Report) {
    assert_eq!(report.result, Outcome::LinuxUserspace, "{}", story(report));
    assert_eq!((report.token_matched, report.cpus_online), (Some(true), Some(2)), "{}", story(report));
    let measured: Vec<&str> = report.measurements.iter().map(|it| it.kind.as_str()).collect();
    assert_eq!(measured, ["stage2", "bundle", "kernel", "device-tree", "initramfs"]);
    assert!(report.reset_to_kernel_us.is_some_and(|micros| micros > 0));
}

#[test]
fn it_takes_a_core_off_line_and_on_line_again_and_powers_off() {
    with_linux("hotplug", |machine| {
        assert_in_user_space(&machine.observe(&expectation()).unwrap());
        let (_, line) = machine.console.wait_for_line("KILN-HOTPLUG ", 0, WITHIN).unwrap();
        assert_eq!(line, "KILN-HOTPLUG offline=1 online=2");
        machine.wait_power_off(WITHIN).unwrap();
    });
}

#[test]
fn it_reboots_and_is_verified_again() {
    with_linux("reboot", |machine| {
        let first = machine.observe(&expectation()).unwrap();
        let second = machine.observe(&expectation()).unwrap();
        for report in [&first, &second] {
            assert_in_user_space(report);
        }
        assert_eq!(first.measurements, second.measurements);
    });
}
