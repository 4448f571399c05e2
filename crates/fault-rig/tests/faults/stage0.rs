//! stage0.

use std::ops::Range;

use boot_info::{BootInfo, List, SecretPage};
use fault_rig::*;
use figures::scaled;
use memory_map::qemu_virt::*;
use memory_map::{MIB, Region};
use release::flatten_elf;

use crate::bad_stages::{self, Bad};
use crate::control::{OF_CONTROLS, assert_fell};
use crate::{scenes, vouched};

/// The loops of cryptography, and those that copy bytes: functions whose instructions are sampled.
pub(crate) const LOOPS: [&str; 17] = [
    "ctutils",
    "crypto_bigint",
    "p256::arithmetic",
    "primeorder",
    "sha2::",
    "cipher::",
    "universal_hash::",
    "polyval::",
    "Multiply>::on_both",
    "ec::select",
    "ec::invert",
    "ec::parse_point",
    "ec::reduce",
    "ec::concatenate",
    "hmac::",
    "memcpy",
    "memset",
];

/// What the last check consists of, in both stages: digests of what is in memory.
pub(crate) const CHECK: &str = "sha2::";

/// Where a run is compared with the one without a fault.
const MARKS: [&str; 15] = [
    "es256_verify",
    "say_refusal",
    "Found::open",
    "Selection>::find",
    "ec::parse_point",
    "ec::invert",
    "Multiply>::on_both",
    "ec::reduce",
    "decision::equal",
    "report::refuse",
    "GcmKey::open_and_digest",
    "reader::Reader<O>::copies",
    "reader::Reader<O>::record",
    "HmacSha256::finish",
    "cose::PublicKey::thumbprint",
];

/// The scene of the short run in which something is vouched for: that takes long.
const SHORT: &str = "a production stage, beside a provisioning stage that is vouched for";

/// What the next stage gets: where it is entered, its bytes in memory, and the two pages of the handoff.
struct HandedOver {
    entry: u64,
    bytes: Vec<u8>,
    /// But for the timestamps.
    info: Option<BootInfo>,
    /// Whether those run backwards.
    backwards: bool,
    secrets: Vec<u8>,
}

impl HandedOver {
    fn read(machine: &Machine, entry: u64) -> Self {
        let info = BootInfo::read(&machine.read(BOOT_INFO.base, BOOT_INFO.size)).ok();
        let backwards = info.as_ref().is_some_and(|info| {
            let times = info.timestamps.as_slice().iter().flat_map(|step| [step.start, step.end]);
            !times.is_sorted()
        });
        Self {
            entry,
            bytes: machine.read(STAGE_CODE.base, bad_stages::plain().len() as u64),
            info: info.map(|info| BootInfo { timestamps: List::new(), ..info }),
            backwards,
            secrets: machine.read(HANDOFF_SECRETS.base, SecretPage::SIZE as u64),
        }
    }
}

/// A stage0 as it was built.
pub(crate) struct Stage0 {
    program: Program,
    flat: Vec<u8>,
}

impl Stage0 {
    pub(crate) fn read(name: &str) -> Self {
        let elf = tests::elf(name);
        let flat = flatten_elf(&elf).expect("the build makes stages that can be made flat").bytes;
        Self { program: Program::read(&elf), flat }
    }

    /// A die with these fuses, these images in its slots and this state of closing, at reset.
    fn machine(&self, otp: &[u8], [image, other]: [&[u8]; 2], closing_state: &[u8]) -> Machine {
        let watch = Watch {
            code: STAGE0_EXECUTABLE.base..STAGE0_EXECUTABLE.end(),
            stop: self.program.find("el3::exit::stop_and_clear"),
            clear: (self.program.find("memset"), STAGE_RUN),
            clean: (self.program.find("el3::cache::clean"), &[STAGE_RUN]),
            pure: Pure { entry: self.multiplication(), inputs: [32, 96, 32], output: 72 },
            waits: self.program.waits(),
        };
        let mut machine = Machine::new(Devices::default(), &watch);
        machine.rom(STAGE0_EXECUTABLE, &self.flat);
        machine.rom(BOOT_SLOT_A, image);
        machine.rom(BOOT_SLOT_B, other);
        let mut journal = vec![0xFF; JOURNAL.size as usize];
        journal.extend(closing_state);
        machine.rom(Region::new(JOURNAL.base, 2 * MIB), &journal);
        let block = Region::new(FLASH0.end() - 2 * MIB, 2 * MIB);
        let mut bytes = vec![0xFF; (block.size - OTP.size) as usize];
        bytes.extend(otp);
        machine.rom(block, &bytes);
        machine.ram(SECURE_RAM, &[BOOT_INFO.base, STAGE_RUN.base]);
        machine
    }

    /// The die with the bad image.
    fn with(&self, bad: &Bad) -> Machine {
        self.machine(&bad.otp, [&bad.image, &bad.other], &bad.closing_state)
    }

    /// The die with the good image alone.
    fn with_good(&self, bad: &Bad) -> Machine {
        self.machine(&bad.good_otp, [&bad.good; 2], &bad.closing_state)
    }

    /// Boots the image in one of the slots, and returns what it gets.
    fn handed_over(mut machine: Machine) -> HandedOver {
        let end = machine.run(u64::MAX, u64::MAX, &[]);
        let End::Outside(entry) = end else { panic!("{end:x?}: {}", said(&machine)) };
        let handed_over = HandedOver::read(&machine, entry);
        assert!(handed_over.info.is_some(), "stage0 tells the next stage");
        handed_over
    }

    /// Boots a stage, and returns what secure RAM holds when it is entered.
    pub(crate) fn hand_over(&self, otp: &[u8], image: &[u8]) -> Vec<u8> {
        let mut machine = self.machine(otp, [image; 2], &[]);
        let end = machine.run(u64::MAX, u64::MAX, &[]);
        let entered = matches!(end, End::Outside(address) if STAGE_CODE.contains(address, 4));
        assert!(entered, "stage0 does not boot: {end:x?}, said {}", said(&machine));
        machine.read(SECURE_RAM.base, SECURE_RAM.size)
    }

    /// The multiplication of points: what it makes of its inputs is looked up where it is known, since most faults lie
    /// elsewhere and it takes nearly all of the time.
    fn multiplication(&self) -> u64 {
        self.program.find("ec::Small as boot_crypto::ec::Multiply>::on_both")
    }

    fn loops(&self) -> Vec<Range<u64>> {
        self.program.functions(|name| LOOPS.iter().any(|part| name.contains(part)))
    }

    /// Judges a run that left stage0 at this address: it may enter only the good image that lies beside the bad one, with what it
    /// gets without a fault, unless a fault has spoiled a page, which the next stage refuses then. No key is in a register, nor in the
    /// memory that stage0 worked in, and on a page that is refused none but those that the stage gets.
    ///
    /// A fault in the very register of the jump enters the same bytes at another place, or RAM that was wiped, where the first
    /// instruction is an undefined one.
    fn left(bad: &Bad, good: Option<&HandedOver>, machine: &Machine, address: u64) -> Left {
        let executed = |what: &str| Left::Wrongly(format!("executed {address:#x}{what}"));
        let Some(good) = good else { return executed("") };
        let left = HandedOver::read(machine, good.entry);
        let page = Region::new(HANDOFF_SECRETS.base, SecretPage::SIZE as u64);
        let rest = Region::new(page.end(), HANDOFF_SECRETS.size - page.size);
        let places = [STAGE0_RAM, BOOT_INFO, rest];
        let in_memory = || places.into_iter().find_map(|place| bad.keys.lies_in(machine, place, &[]));
        if let Some(key) = bad.keys.in_registers(machine).or_else(in_memory) {
            return executed(&format!(" with the {key}"));
        }
        let spoiled = left.secrets != good.secrets;
        if spoiled && let Some(key) = bad.keys.lies_in(machine, page, &bad.gets) {
            return executed(&format!(" with the {key} on the page"));
        }
        if SECURE_RAM.contains(address, 4) && machine.instruction(address) == 0 {
            return Left::Wiped;
        }
        let placed = Region::new(STAGE_CODE.base, good.bytes.len() as u64);
        if !placed.contains(address, 4) {
            return executed("");
        }
        if left.bytes != good.bytes {
            return executed(" in what is not the good image");
        }
        if left.info.is_some() && left.info != good.info {
            return executed(&format!(", which is told {:x?}", left.info));
        }
        if spoiled && SecretPage::take(&mut left.secrets.clone()).is_some() {
            return executed(" with other secrets or evidence");
        }
        match (spoiled || left.info.is_none(), left.backwards) {
            (true, _) => Left::Spoiled,
            (_, true) => Left::Backwards,
            _ => Left::Rightly,
        }
    }

    /// Runs the faults over the bad images that are wanted.
    fn campaign(&self, bad: &[Bad], share: Share, wanted: fn(&str) -> bool) -> Tally {
        let loops = self.loops();
        let checks = self.program.functions(|name| name.contains(CHECK));
        let marks = MARKS.map(|name| self.program.find(name));
        let makes: Vec<_> = bad.iter().map(|bad| || self.with(bad)).collect();
        let goods: Vec<_> = bad.iter().map(|bad| || self.with_good(bad)).collect();
        let leaks: Vec<_> = bad.iter().map(|bad| |machine: &Machine| bad.keys.leaked(machine)).collect();
        let may: Vec<_> =
            bad.iter().map(|bad| bad.is_beside_good().then(|| Self::handed_over(self.with(bad)))).collect();
        let left: Vec<_> = bad
            .iter()
            .zip(&may)
            .map(|(bad, good)| |machine: &Machine, at| Self::left(bad, good.as_ref(), machine, at))
            .collect();
        let watched = makes.iter().zip(&goods).zip(left.iter().zip(&leaks));
        let scenes = bad.iter().zip(watched).map(|(bad, ((make, good), (left, leaked)))| Scene {
            name: bad.name.into(),
            make,
            good,
            left,
            program: &self.program,
            start: self.program.find("kiln_main"),
            ram: &[SECURE_RAM],
            stack: Region::new(STAGE0_RAM.base + 64 * 1024, STAGE0_RAM.size - 64 * 1024),
            marks: &marks,
            pure: self.multiplication(),
            loops: &loops,
            checks: &checks,
            rank: bad.rank(),
            own: [1, 1, scaled(8, 1)][bad.rank()],
            shared: [1, scaled(64, 1), scaled(0, 1)][bad.rank()],
            wanted: wanted(bad.name),
            leaked,
        });
        run(&scenes.collect::<Vec<_>>(), share)
    }
}

/// All dies and images.
fn all() -> Vec<Bad> {
    bad_stages::all().into_iter().chain(bad_stages::beside_good()).chain(vouched::all()).collect()
}

pub(crate) fn said(machine: &Machine) -> String {
    String::from_utf8_lossy(&machine.devices().console).into_owned()
}

#[test]
fn without_a_fault_a_good_image_is_entered_and_a_bad_one_refused_for_its_own_reason() {
    let stage0 = Stage0::read("stage0");
    let all = all();
    assert_eq!(all.len(), 18);
    for bad in &all {
        let mut machine = stage0.with_good(bad);
        let end = machine.run(u64::MAX, u64::MAX, &[]);
        let entered = matches!(end, End::Outside(address) if STAGE_CODE.contains(address, 4));
        assert!(entered, "{}: {end:x?} {}", bad.name, said(&machine));
        assert!(
            bad.keys.lies_in(&machine, HANDOFF_SECRETS, &[]).is_some(),
            "{}: the secrets of the good stage are seen",
            bad.name
        );
        let other = bad.keys.lies_in(&machine, HANDOFF_SECRETS, &bad.gets);
        assert_eq!(other, None, "{}: and none that it does not get", bad.name);

        let mut machine = stage0.with(bad);
        let end = machine.run(u64::MAX, u64::MAX, &[]);
        if bad.is_beside_good() {
            let End::Outside(entry) = end else { panic!("{}: {end:x?} {}", bad.name, said(&machine)) };
            let alone = Stage0::handed_over(stage0.with_good(bad));
            let left = HandedOver::read(&machine, entry);
            assert_eq!(entry, alone.entry, "{}", bad.name);
            assert!(left.bytes == alone.bytes, "{}: the good one is entered", bad.name);
            let images = |it: &HandedOver| it.info.as_ref().map(|info| info.images);
            assert_eq!(images(&left), images(&alone), "{}", bad.name);
            assert!(left.secrets == alone.secrets, "{}: with the same secrets", bad.name);
            let derived = bad.page.as_ref().is_none_or(|page| *page == left.secrets);
            assert!(derived, "{}: with the secrets and the statement that the host derives", bad.name);
        } else {
            assert_eq!(end, End::Stopped, "{}", bad.name);
        }
        let code = bad.code.to_string();
        assert!(said(&machine).contains(&code), "{}: {code} in {}", bad.name, said(&machine));
    }
}

/// The rig sets RAM back after each fault, and guards what the refusal of a bad image does not write. A fault that boots it does.
#[test]
fn what_is_stored_to_guarded_memory_is_stored() {
    let stage0 = Stage0::read("stage0");
    let bad = bad_stages::all().into_iter().find(|bad| bad.name == "an image of another kind").unwrap();
    let start = stage0.program.find("kiln_main");
    let mut refusing = stage0.with(&bad);
    assert_eq!(refusing.run(u64::MAX, u64::MAX, &[start]), End::Mark(start));
    refusing.note_writes(&[SECURE_RAM]);
    assert_eq!(refusing.run(u64::MAX, u64::MAX, &[]), End::Stopped);
    let mut booting = stage0.with_good(&bad);
    assert_eq!(booting.run(u64::MAX, u64::MAX, &[start]), End::Mark(start));
    booting.keep(&[SECURE_RAM], &refusing.written());
    let end = booting.run(u64::MAX, u64::MAX, &[]);
    assert!(matches!(end, End::Outside(address) if STAGE_CODE.contains(address, 4)), "{end:x?}");
    assert_eq!(said(&booting), "", "no slot was refused on the way");
}

#[test]
fn no_single_fault_boots_a_bad_image() {
    let share = Share {
        inverted: scaled(4, 8),
        skipped: 1,
        both_ends: figures::is_long(),
        places: scaled(1, 3),
        bits: scaled(4096, 1024),
        bits_near: scaled(256, 64),
        bits_last: scaled(64, 1),
        looped_scenes: scaled(4, 6),
        loops: 64,
        from: scenes::from(),
        told: scenes::TOLD,
        seed: 1,
    };
    let mut bad = all();
    bad.retain(|bad| figures::is_long() || bad.rank() < 2 || bad.name == SHORT);
    assert_eq!(bad.len(), scaled(16, 18));
    let tally = Stage0::read("stage0").campaign(&bad, share, scenes::is_wanted);
    scenes::report("instruction faults, stage0", &tally);
}

/// The control: a stage0 that looks once is broken by the same rig.
#[test]
fn a_stage0_that_looks_once_falls() {
    let wanted = [
        "an image of another kind",
        "an image for another board",
        "a stage that the closing die does not name",
    ];
    let bad: Vec<Bad> = bad_stages::all().into_iter().filter(|bad| wanted.contains(&bad.name)).collect();
    assert_eq!(bad.len(), wanted.len());
    assert_fell(&Stage0::read("stage0-control-one-look").campaign(&bad, OF_CONTROLS, |_| true), "0xe2");
}
