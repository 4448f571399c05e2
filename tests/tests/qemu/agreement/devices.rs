//! Whole devices in QEMU, with the shipped stages: what they boot, and what they say of what they do not.
//!
//! Each boot judges two artefacts: flash0 with the disk, by the command `kiln verify FOLDER`; and the image of stage2, or the OS
//! slot, by itself.

use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

use boot_crypto::host::es256_public_pem;
use emulator::{Outcome, Report};
use lifecycle::{Lifecycle, OtpImage, Row};
use memory_map::MIB;
use memory_map::qemu_virt::{BOARD, OS_LOAD};
use release::{Artefact, Means, test_keys};
use sealed_image::host::{Facts, SignedPayload};
use sealed_image::{Kind, Role, Version};
use serde_json::Value;
use store::Slot;
use tests::forge::{Parts, find, flip, put};
use tests::verdict::story;
use tests::{
    Device, Firmware, Maker, OsSlot, TOKEN, VERSION, bundle_payload, cmdline, laid_out, private_owner,
};

use super::ledger::{By, Ledger, Verdict, verify};
use super::stages;

const KILN: &str = env!("CARGO_BIN_EXE_kiln-under-test");

/// A device, and the artefact in it that is judged by itself too.
struct Case {
    class: &'static str,
    name: String,
    device: Device,
    root: [u8; 64],
    development: bool,
    apart: Option<Apart>,
}

/// An artefact that lies in slot A.
struct Apart {
    bytes: Vec<u8>,
    means: Means,
    /// Which report of the device is about it.
    verdict: fn(&Report) -> Verdict,
}

pub(crate) fn judge(ledger: &mut Ledger) {
    let mut cases = stages_in_slot_a();
    cases.extend(systems());
    cases.extend(two_slots());
    cases.extend(fuses());
    let (cases, ledger) = (Mutex::new(cases.into_iter()), Mutex::new(ledger));
    // The emulator itself takes turns; meanwhile the other thread verifies.
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let Some(case) = cases.lock().unwrap().next() else { break };
                    let (said, report) = case.device.judge_and_boot(|folder| command(folder, &case));
                    let mut ledger = ledger.lock().unwrap();
                    let device = whole(&report);
                    ledger.enter(By::Stages, case.class, &format!("device: {}", case.name), &device, &said);
                    if let Some(Apart { bytes, means, verdict }) = &case.apart {
                        let name = format!("in a slot: {}", case.name);
                        ledger.enter(By::Stages, case.class, &name, &verdict(&report), &verify(bytes, means));
                    }
                }
            });
        }
    });
}

/// What a device did: which slots it booted from and which it passed over, or with which codes it stopped.
fn whole(report: &Report) -> Verdict {
    let code = |code: &Option<String>| code.clone().unwrap_or_else(|| "-".into());
    let refused = [code(&report.fallback_code), code(&report.os_fallback_code)].join(" ");
    match (report.result, &report.code) {
        (Outcome::Payload, None) => {
            let slots = [&report.slot, &report.os_slot].map(|slot| slot.clone().unwrap_or_default());
            Ok(format!("{} {refused}", slots.join(" ")))
        }
        (Outcome::Refused, Some(code)) => Err(format!("{code} {refused}")),
        _ => panic!("neither booted nor refused: {}", story(report)),
    }
}

/// What `kiln verify` says of the folder of a device, in the same words.
fn command(folder: &Path, case: &Case) -> Verdict {
    let root = folder.join("root.pem");
    std::fs::write(&root, es256_public_pem(&case.root).expect("a point of the curve"))
        .expect("it is written");
    let mut command = Command::new(KILN);
    command.arg("verify").arg(folder).arg("--root").arg(&root).arg("--json");
    if case.development {
        command.arg("--development");
    }
    let output = command.output().expect("kiln runs");
    let said: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    let text = |name: &str| said[name].as_str().unwrap_or("-").to_owned();
    let code = |name: &str| text(name).split_whitespace().next().unwrap_or_default().to_owned();
    if output.status.success() {
        let slots = [text("boot_slot"), text("OS_slot")].join(" ");
        return Ok(format!("{slots} {} {}", code("boot_slot_refused"), code("OS_slot_refused")));
    }
    // The first refusal of each pair of slots: what a device calls its fallback code.
    let cause = text("cause");
    let first = |words: &str| {
        let line = cause.lines().find(|line| line.trim_start().starts_with(words));
        let code = line.and_then(|line| line.split(" refused: ").nth(1)?.split_whitespace().next());
        code.unwrap_or("-").to_owned()
    };
    Err(format!("{} {} {}", text("code"), first("boot slot"), first("OS slot")))
}

/// What a device says of boot slot A.
fn of_boot_slot(report: &Report) -> Verdict {
    report.fallback_code.clone().map_or(Ok(String::new()), Err)
}

/// What a device says of OS slot A.
fn of_os_slot(report: &Report) -> Verdict {
    report.os_fallback_code.clone().map_or(Ok(String::new()), Err)
}

/// Every image of stage2 that there is, in slot A.
fn stages_in_slot_a() -> Vec<Case> {
    let device = |case: stages::Case| {
        let means = case.means(Kind::Stage2);
        let stages::Case { class, name, maker, otp, image, root, .. } = case;
        let device = Device::with_otp(otp).boot_slot(Slot::A, image.clone());
        let device = device.os_slot(Slot::A, maker.seal_os(&system_of(&maker)));
        Case {
            class,
            name: format!("stage2: {name}"),
            device,
            root: root.unwrap_or(*maker.owner.root()),
            development: maker.lifecycle == Lifecycle::Development,
            apart: Some(Apart { bytes: image, means, verdict: of_boot_slot }),
        }
    };
    // A device that boots such a stage has an owner who can sign a system for it.
    stages::cases(Kind::Stage2).into_iter().map(device).collect()
}

/// A system that is right, of this owner; of another, where this one cannot sign it: such a device boots no stage.
fn system_of(maker: &Maker) -> OsSlot {
    let facts = maker.os_facts(Kind::Kernel);
    match maker.owner.sign(&facts, vec![0; 64]) {
        Ok(_) => maker.os(TOKEN),
        Err(_) => Maker::production().os(TOKEN),
    }
}

fn of_system(class: &'static str, name: &str, maker: Maker, slot: Vec<u8>) -> Case {
    let development = maker.lifecycle == Lifecycle::Development;
    let means = Means {
        floors: maker.die.floors[usize::from(Role::Os.number()) - 1].into(),
        development,
        expected: Some(Artefact::Images(Kind::Bundle)),
        key: Some(maker.os_key()),
        ..Means::new(*maker.owner.root())
    };
    let device = Device::new(&maker).boot_slot(Slot::A, maker.stage2()).os_slot(Slot::A, slot.clone());
    let apart = Some(Apart { bytes: slot, means, verdict: of_os_slot });
    Case { class, name: format!("system: {name}"), device, root: *maker.owner.root(), development, apart }
}

const BUNDLE: usize = 0;
const KERNEL: usize = 1;
const DEVICE_TREE: usize = 2;

/// Operating systems in OS slot A.
fn systems() -> Vec<Case> {
    let mut all = Vec::new();
    let maker = Maker::production();
    let slot = maker.seal_os(&maker.os(TOKEN));
    all.push(of_system("good", "as it is made", maker, slot));
    let maker = Maker::development();
    let slot = maker.seal_os(&maker.os(TOKEN));
    all.push(of_system("good", "of a development die", maker, slot));

    type Place = (&'static str, usize, fn(&[u8], &Parts) -> usize);
    let places: [Place; 14] = [
        ("magic of the bundle", BUNDLE, |_, _| 0),
        ("board of the bundle", BUNDLE, |image, parts| find(image, parts.manifest.clone(), BOARD.as_bytes())),
        ("delegation of the bundle", BUNDLE, |image, parts| {
            find(image, parts.delegation.clone(), BOARD.as_bytes())
        }),
        ("sealing record of the bundle", BUNDLE, |_, parts| parts.sealing.end - 1),
        ("payload of the bundle", BUNDLE, |_, parts| parts.payload.start),
        ("format of the kernel", KERNEL, |_, _| 8),
        ("signature of the kernel", KERNEL, |_, parts| parts.manifest.end - 1),
        ("tag of the kernel", KERNEL, |_, parts| parts.entry(0).start),
        ("digest of the kernel", KERNEL, |_, parts| parts.entry(0).start + 16),
        ("first chunk of the kernel", KERNEL, |_, parts| parts.chunk(0)),
        ("last chunk of the kernel", KERNEL, |_, parts| parts.payload.end - 1),
        ("magic of the device tree", DEVICE_TREE, |_, _| 0),
        ("sealing record of the device tree", DEVICE_TREE, |_, parts| parts.sealing.end - 1),
        ("payload of the device tree", DEVICE_TREE, |_, parts| parts.payload.start),
    ];
    for (name, index, at) in places {
        let maker = Maker::production();
        let mut images = maker.seal_os_images(&maker.os(TOKEN));
        let at = at(&images[index], &Parts::of(&images[index]));
        images[index] = flip(images[index].clone(), at);
        all.push(of_system("flipped byte", name, maker, laid_out(&images)));
    }
    all.extend(mixed());
    all.extend(signed_wrong());
    all
}

/// Parts that do not belong together, or are not there.
fn mixed() -> Vec<Case> {
    type Change = (&'static str, &'static str, fn(&mut Vec<Vec<u8>>));
    let changes: [Change; 5] = [
        ("truncated", "without its last object", |images| {
            images.pop();
        }),
        ("truncated", "a kernel that claims more than its slot", |images| {
            images[KERNEL] = put(images[KERNEL].clone(), 32, &(u64::MAX / 2).to_le_bytes());
        }),
        ("mixed up", "objects in another order", |images| images.swap(KERNEL, DEVICE_TREE)),
        ("mixed up", "no bundle", |images| {
            images.remove(BUNDLE);
        }),
        ("truncated", "empty", Vec::clear),
    ];
    let mut all: Vec<_> = changes
        .into_iter()
        .map(|(class, name, change)| {
            let maker = Maker::production();
            let mut images = maker.seal_os_images(&maker.os(TOKEN));
            change(&mut images);
            of_system(class, name, maker, laid_out(&images))
        })
        .collect();
    let maker = Maker::production();
    let mut system = maker.os(TOKEN);
    let facts = Facts { version: Version(VERSION.0 + 1), ..maker.os_facts(Kind::Kernel) };
    system.objects[0].1 = maker.owner.sign(&facts, system.objects[0].1.plain.clone()).unwrap();
    let slot = maker.seal_os(&system);
    all.push(of_system("mixed up", "a kernel of another release", maker, slot));
    let (maker, other) = (Maker::production(), Maker::production());
    let slot = other.seal_os(&maker.os(TOKEN));
    all.push(of_system("another key", "sealed for another die", maker, slot));
    all
}

/// Signed, and not for this, or wrong.
fn signed_wrong() -> Vec<Case> {
    let mut all = Vec::new();
    let mut with_kernel = |class, name: &str, sign: &dyn Fn(&Maker) -> SignedPayload| {
        let maker = Maker::production();
        let mut objects = maker.os(TOKEN).objects;
        objects[0].1 = sign(&maker);
        let system = maker.os_of(objects, &cmdline(TOKEN));
        let slot = maker.seal_os(&system);
        all.push(of_system(class, name, maker, slot));
    };
    let code = || Firmware::get().payload.bytes.clone();
    with_kernel("wrong role", "a kernel of the role boot", &|maker| {
        maker.owner.sign_as(Role::Boot, &maker.os_facts(Kind::Kernel), code()).unwrap()
    });
    with_kernel("wrong board", "a kernel of another board", &|maker| {
        let facts = Facts { board: "another-board".into(), ..maker.os_facts(Kind::Kernel) };
        maker.owner.sign(&facts, code()).unwrap()
    });
    with_kernel("wrong kind", "an initramfs as the kernel", &|maker| {
        let facts = Facts { kind: Kind::Initramfs, entry: 0, ..maker.os_facts(Kind::Kernel) };
        maker.owner.sign(&facts, code()).unwrap()
    });
    for load in [OS_LOAD.base - 2 * MIB, OS_LOAD.end()] {
        with_kernel("wrong place in memory", &format!("a kernel at {load:#x}"), &move |maker| {
            let facts = Facts { load_address: load, entry: load, ..maker.os_facts(Kind::Kernel) };
            maker.owner.sign(&facts, code()).unwrap()
        });
    }
    with_kernel("malformed and signed", "a kernel that is no image", &|maker| {
        maker.object(Kind::Kernel, &[0x14; 8192])
    });

    let mut with_tree = |class, name: &str, sign: &dyn Fn(&Maker) -> SignedPayload| {
        let maker = Maker::production();
        let mut objects = maker.os(TOKEN).objects;
        objects[1].1 = sign(&maker);
        let system = maker.os_of(objects, &cmdline(TOKEN));
        let slot = maker.seal_os(&system);
        all.push(of_system(class, name, maker, slot));
    };
    with_tree("wrong place in memory", "a device tree over the kernel", &|maker| {
        let over = maker.os_facts(Kind::Kernel).load_address + 4096;
        let facts = Facts { load_address: over, ..maker.os_facts(Kind::DeviceTree) };
        maker.owner.sign(&facts, Firmware::get().device_tree.clone()).unwrap()
    });

    let maker = Maker::production();
    let mut objects = maker.os(TOKEN).objects;
    objects[1].1 = maker.object(Kind::DeviceTree, &[0x14; 8192]);
    let slot = maker.seal_os(&maker.os_of(objects, &cmdline(TOKEN)));
    all.push(of_system("malformed and signed", "a device tree that is none", maker, slot));

    let maker = Maker::production();
    let OsSlot { objects, .. } = maker.os(TOKEN);
    let mut payload = bundle_payload(&objects, &cmdline(TOKEN), 0);
    payload.push(0);
    let slot = maker.seal_os(&OsSlot { bundle: maker.object(Kind::Bundle, &payload), objects });
    all.push(of_system("malformed and signed", "a bundle with a byte too many", maker, slot));

    let maker = Maker::production().floor(Role::Os, 3);
    let slot = maker.seal_os(&maker.os(TOKEN));
    all.push(of_system("below the floor", "a system", maker, slot));
    let maker = Maker::production();
    let die = maker.die.clone();
    let other = Maker::new(private_owner(), maker.lifecycle, die.silicon_secret, die.device_seed);
    let other = other.with_chip_id(die.chip_id);
    let slot = other.seal_os(&other.os(TOKEN));
    all.push(of_system("signed again by another owner", "a system", maker, slot));
    let owner = test_keys::owner_with_ps256().unwrap();
    let die = Maker::development();
    let maker = Maker::new(owner, die.lifecycle, die.die.silicon_secret, die.die.device_seed);
    let slot = maker.seal_os(&maker.os(TOKEN));
    all.push(of_system("good", "signed with PS256", maker, slot));
    all
}

/// A bad slot next to a good one.
fn two_slots() -> Vec<Case> {
    let spoiled = |image: Vec<u8>| {
        let last = image.len() - 1;
        flip(image, last)
    };
    let case = |class, name: &str, maker: &Maker, device| Case {
        class,
        name: name.into(),
        device,
        root: *maker.owner.root(),
        development: false,
        apart: None,
    };
    let mut all = Vec::new();
    let (a, b) = ("bad slot A, good slot B", "good slot A, bad slot B");
    let maker = Maker::production();
    let good = || maker.stage2();
    let system = || maker.seal_os(&maker.os(TOKEN));
    let with = |first: Vec<u8>, second: Vec<u8>| {
        Device::new(&maker).boot_slot(Slot::A, first).boot_slot(Slot::B, second).os_slot(Slot::A, system())
    };
    all.push(case(a, "boot slot A altered", &maker, with(spoiled(good()), good())));
    all.push(case(a, "boot slot A empty", &maker, with(vec![0xFF; 64], good())));
    let below = maker.stage2_signed_by(Role::Os, &maker.stage2_facts());
    all.push(case(a, "boot slot A of a wrong role", &maker, with(below, good())));
    all.push(case(b, "boot slot B altered", &maker, with(good(), spoiled(good()))));
    all.push(case("good", "both boot slots", &maker, with(good(), good())));
    all.push(case("flipped byte", "both boot slots altered", &maker, with(flip(good(), 0), spoiled(good()))));
    let with = |first: Vec<u8>, second: Vec<u8>| {
        Device::new(&maker).boot_slot(Slot::A, good()).os_slot(Slot::A, first).os_slot(Slot::B, second)
    };
    all.push(case(a, "OS slot A altered", &maker, with(spoiled(system()), system())));
    all.push(case(a, "OS slot A empty", &maker, with(vec![0; 64], system())));
    all.push(case(b, "OS slot B altered", &maker, with(system(), spoiled(system()))));
    all.push(case(
        "flipped byte",
        "both OS slots altered",
        &maker,
        with(flip(system(), 0), spoiled(system())),
    ));
    all
}

/// Fuses that stage0 does not boot with, in devices that have all else.
fn fuses() -> Vec<Case> {
    let case = |class, name: &str, maker: &Maker, otp: OtpImage| {
        let device = Device::with_otp(otp).boot_slot(Slot::A, maker.stage2());
        Case {
            class,
            name: format!("fuses: {name}"),
            device: device.os_slot(Slot::A, maker.seal_os(&system_of(maker))),
            root: *maker.owner.root(),
            development: maker.lifecycle == Lifecycle::Development,
            apart: None,
        }
    };
    let mut all = Vec::new();
    for lifecycle in [Lifecycle::Blank, Lifecycle::Returned, Lifecycle::Secured, Lifecycle::Closing] {
        let mut maker = Maker::production();
        maker.lifecycle = lifecycle;
        all.push(case("wrong fuses", lifecycle.name(), &maker, maker.otp()));
    }
    let maker = Maker::production();
    type Change = (&'static str, Row, fn(u32) -> u32);
    let flips: [Change; 5] = [
        ("a lifecycle that there is not", Row::Lifecycle, |word| word ^ 0x0FFF),
        ("a seed that fails its check", Row::DeviceSeed, |word| word ^ 0x0F0F_0F0F),
        ("no seed", Row::DeviceSeed, |_| 0),
        ("a root that fails its check", Row::OwnerRoot0, |word| word ^ 0xFF),
        ("one bit of a seed, which is corrected", Row::DeviceSeed, |word| word),
    ];
    for (name, row, change) in flips {
        let mut otp = maker.otp();
        otp.words_mut()[row.words()].iter_mut().for_each(|word| *word = change(*word));
        if otp == maker.otp() {
            otp.words_mut()[row.first_word()] ^= 1;
        }
        all.push(case("flipped fuse bits", name, &maker, otp));
    }
    let mut otp = maker.otp();
    otp.require_post_quantum();
    all.push(case("wrong fuses", "post-quantum signatures", &maker, otp));
    let die = &maker.die;
    let silicon = test_keys::silicon_secret();
    let published = Maker::new(private_owner(), Lifecycle::Production, silicon, die.device_seed);
    all.push(case("test key", "the published silicon secret", &published, published.otp()));
    let owner = test_keys::owner().unwrap();
    let published = Maker::new(owner, Lifecycle::Production, die.silicon_secret, die.device_seed);
    all.push(case("test key", "the test root", &published, published.otp()));
    all
}
