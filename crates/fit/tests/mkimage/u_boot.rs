//! The same FITs, judged by U-Boot itself, which has the keys in its device tree and requires one of them.

use crate::cases::{self, Verdict};
use crate::maker::{BIG, DEV, Maker, variant};
use emulator::{Machine, MachineConfig};
use figures::Figure;
use fit::verify;
use std::fs;
use std::time::Duration;

/// Debian's U-Boot for this machine, of the package `u-boot-qemu`.
const U_BOOT: &str = "/usr/lib/u-boot/qemu_arm64/u-boot.bin";
/// Where the FITs lie in memory.
const BASE: u64 = 0x4800_0000;
/// What a FIT may end at, so that none runs into the next.
const ALIGN: usize = 0x1_0000;
/// How long U-Boot may take for anything.
const PATIENCE: Duration = Duration::from_secs(120);

/// Makes the machine's device tree with the keys in it: one of them has to verify a configuration.
fn control(maker: &Maker) {
    let machine = "virt,secure=off,virtualization=on,gic-version=3,acpi=off,dumpdtb=control.dtb";
    maker.run(
        "qemu-system-aarch64",
        &[
            "-machine",
            machine,
            "-cpu",
            "cortex-a57",
            "-smp",
            "2",
            "-m",
            "512M",
            "-nic",
            "none",
            "-display",
            "none",
        ],
    );
    let big = variant(&[("rsa2048", "rsa4096"), ("\"dev\"", "\"big\"")]);
    for source in [variant(&[]), big] {
        maker.fit(&source, &["-K", "control.dtb"]);
    }
    maker.run("fdtput", &["-t", "s", "control.dtb", "/signature", "required-mode", "any"]);
    for key in [DEV, BIG] {
        maker.run("fdtget", &["control.dtb", &format!("/signature/key-{key}"), "required"]);
    }
}

/// Makes a machine that starts U-Boot with all FITs in its memory.
fn machine(maker: &Maker, memory: &[u8]) -> Machine {
    let file = maker.path("memory");
    fs::write(&file, memory).unwrap();
    let loader = format!("loader,force-raw=on,addr={BASE:#x},file={}", file.display());
    let config = MachineConfig::default()
        .secure(false)
        .arg("-bios")
        .arg(U_BOOT)
        .arg("-dtb")
        .arg(maker.path("control.dtb"))
        .arg("-device")
        .arg(loader);
    Machine::start(&config).unwrap()
}

#[test]
fn kiln_takes_nothing_that_u_boot_refuses() {
    let maker = Maker::new();
    let cases = cases::all(&maker);
    control(&maker);
    let mut memory = Vec::new();
    let mut places = Vec::new();
    for case in &cases {
        places.push(BASE + memory.len() as u64);
        memory.extend(&case.fit);
        memory.resize(memory.len().next_multiple_of(ALIGN), 0);
    }
    let machine = machine(&maker, &memory);
    let console = &machine.console;
    let autoboot = console.wait_for(b"stop autoboot", 0, PATIENCE).unwrap();
    console.send(b" ").unwrap();
    let mut at = console.wait_for(b"=> ", autoboot.end, PATIENCE).unwrap().end;
    // What is typed comes back as well: the words of a verdict are put together by U-Boot.
    console.send(b"setenv v verdict\r").unwrap();

    let (mut both, mut neither, mut stricter, mut depends, mut wrong) = (0, 0, 0, 0, Vec::new());
    for (number, (case, place)) in cases.iter().zip(places).enumerate() {
        let boot = format!("bootm start {place:#x}#{}", case.configuration);
        let say =
            format!("if {boot}; then echo ${{v}} {number} taken; else echo ${{v}} {number} refused; fi\r");
        console.send(say.as_bytes()).unwrap();
        let (found, line) = console.wait_for_line(&format!("verdict {number} "), at, PATIENCE).unwrap();
        let said = console.text()[at..].to_owned();
        at = found.end;
        let theirs = line.trim_end().ends_with(" taken");
        let ours = verify(&case.fit, &maker.trusted(case.key), Some(case.configuration));
        if theirs {
            // A signature has to be why.
            let why = [DEV, BIG].iter().any(|key| said.contains(&format!(":{key}+ OK")));
            assert!(why, "{}: {said}", case.name);
        }
        match (ours.is_ok(), theirs, case.verdict) {
            (true, true, Verdict::Taken) => both += 1,
            (false, false, Verdict::Refused(_)) => neither += 1,
            (false, true, Verdict::Stricter(_)) => stricter += 1,
            (false, _, Verdict::Depends(_)) => depends += 1,
            (true, false, Verdict::Pss) => {}
            (ours, theirs, verdict) => {
                wrong.push(format!("{}: Kiln {ours}, U-Boot {theirs}, and it says {verdict:?}", case.name));
            }
        }
    }
    Figure::new("image trees, against U-Boot", "FITs", 90)
        .ran(cases.len() as u64)
        .violations(&wrong)
        .note(format!(
            "{both} taken by both, {neither} refused by both, {stricter} refused by Kiln alone, {depends} refused by Kiln"
        ))
        .report();
    assert!(both >= 10 && neither >= 60 && stricter >= 15, "too few of a kind");
}
