//! Debian's Linux on a Kiln device: all cores come up, one goes and returns, it reboots and powers off.
//!
//! `cargo xtask test` fetches kernel and busybox. Where Debian's packages cannot be had it leaves out what has
//! `debians_linux` in its name, and says so at the end; on a build server it fails.

use std::time::Duration;

use emulator::{Machine, MachineConfig, Outcome, Report};
use memory_map::qemu_virt::BOARD;
use release::{Compression, Identity, OsParts, OsRelease};
use store::Slot;
use tests::leak::{Secret, find, keys_of_die, keys_of_slot, secure_ram};
use tests::verdict::story;
use tests::{Device, Firmware, Maker, TOKEN, VERSION, expectation};

const WITHIN: Duration = Duration::from_secs(60);

/// Boots Linux with an init that does what `then` says, and watches it.
fn with_linux(then: &str, watch: impl FnOnce(&mut Machine)) {
    with_linux_on(|config| config, then, |machine, _| watch(machine));
}

/// Does the same on a machine that is changed, and tells every key that the boot uses.
fn with_linux_on(
    change: fn(MachineConfig) -> MachineConfig,
    then: &str,
    watch: impl FnOnce(&mut Machine, &[Secret]),
) {
    let fetched =
        |name| std::env::var_os(name).expect("Debian's kernel and busybox: `cargo xtask test` fetches them");
    let (kernel, busybox) = (fetched("KILN_KERNEL"), fetched("KILN_BUSYBOX"));
    let read =
        |path: std::ffi::OsString| std::fs::read(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let parts = OsParts {
        kernel: read(kernel),
        device_tree: Firmware::get().device_tree.clone(),
        initramfs: Some(xtask::initramfs::build(&read(busybox), TOKEN).unwrap()),
        cmdline: format!("earlycon=pl011,0x9000000 console=ttyAMA0 panic=-1 kiln.then={then}"),
        compression: Compression::None,
        places: release::OsPlaces::default(),
    };
    let maker = Maker::development();
    let identity = Identity { board: BOARD.into(), version: VERSION, rollback_index: 0.into() };
    let release = OsRelease::sign(&maker.owner, &identity, parts).unwrap();
    let (stage2, os) = (maker.stage2(), maker.seal_release(&release));
    let mut secrets = keys_of_die(&maker);
    secrets.extend(keys_of_slot(&stage2, &maker.boot_key()));
    secrets.extend(keys_of_slot(&os, &maker.os_key()));
    let device = Device::new(&maker).boot_slot(Slot::A, stage2).os_slot(Slot::A, os);
    device.machine(change).run(|machine| watch(machine, &secrets));
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
fn debians_linux_takes_a_core_off_line_and_on_line_again_and_powers_off() {
    with_linux("hotplug", |machine| {
        assert_in_user_space(&machine.observe(&expectation()).unwrap());
        let (_, line) = machine.console.wait_for_line("KILN-HOTPLUG ", 0, WITHIN).unwrap();
        assert_eq!(line, "KILN-HOTPLUG offline=1 online=2");
        machine.wait_power_off(WITHIN).unwrap();
    });
}

#[test]
fn debians_linux_reboots_and_is_verified_again() {
    with_linux("reboot", |machine| {
        let first = machine.observe(&expectation()).unwrap();
        let second = machine.observe(&expectation()).unwrap();
        for report in [&first, &second] {
            assert_in_user_space(report);
        }
        assert_eq!(first.measurements, second.measurements);
    });
}

#[test]
fn debians_linux_runs_without_a_key_of_its_boot_in_secure_memory() {
    // Linux leaves the third core to the monitor, through whose eyes secure RAM is read.
    let three = |config: MachineConfig| config.cores(3);
    with_linux_on(three, "stay maxcpus=2", |machine, secrets| {
        assert_in_user_space(&machine.observe(&expectation()).unwrap());
        let memory = secure_ram(machine, 2).unwrap();
        let code = Firmware::get().stage2.bytes[4096..4128].to_vec();
        let canary = Secret { name: "canary".into(), bytes: code };
        assert!(!find(&memory, &[canary]).is_empty(), "a canary in secure RAM is found");
        assert!(secrets.len() > 7 * 10, "of every image: {}", secrets.len());
        assert_eq!(find(&memory, secrets), Vec::<String>::new());
    });
}
