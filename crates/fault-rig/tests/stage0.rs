//! One fault while stage0 looks at a bad image.
mod bad;

use std::ops::Range;

use bad::Bad;
use fault_rig::*;
use figures::{Figure, scaled};
use memory_map::qemu_virt::*;
use memory_map::{MIB, Region};
use release::flatten_elf;

/// The loops of cryptography, and those that check or copy bytes: functions whose instructions are sampled.
const LOOPS: [&str; 20] = [
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
    "crc::",
    "fail_code::",
    "cache::clean",
    "memcpy",
    "memset",
];

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

/// A stage0 as it was built.
struct Stage0 {
    program: Program,
    flat: Vec<u8>,
}

impl Stage0 {
    fn read(name: &str) -> Self {
        let elf = tests::elf(name);
        let flat = flatten_elf(&elf).expect("the build makes stages that can be made flat").bytes;
        Self { program: Program::read(&elf), flat }
    }

    /// A die with these fuses and this image in both slots, at reset.
    fn machine(&self, otp: &[u8], image: &[u8]) -> Machine {
        let watch = Watch {
            code: STAGE0_EXECUTABLE.base..STAGE0_EXECUTABLE.end(),
            stop: self.program.find("el3::exit::stop_and_clear"),
            clear: (self.program.find("memset"), STAGE_RUN),
            clean: (self.program.find("el3::cache::clean"), STAGE_RUN),
            pure: Pure { entry: self.multiplication(), inputs: [32, 96, 32], output: 72 },
        };
        let mut machine = Machine::new(Devices::default(), &watch);
        machine.rom(STAGE0_EXECUTABLE, &self.flat);
        machine.rom(BOOT_SLOT_A, image);
        machine.rom(BOOT_SLOT_B, image);
        machine.rom(Region::new(JOURNAL.base, 2 * MIB), &[]);
        let block = Region::new(FLASH0.end() - 2 * MIB, 2 * MIB);
        let mut bytes = vec![0xFF; (block.size - OTP.size) as usize];
        bytes.extend(otp);
        machine.rom(block, &bytes);
        machine.ram(SECURE_RAM);
        machine
    }

    /// The multiplication of points: what it makes of its inputs is looked up where it is known, since most faults lie
    /// elsewhere and it takes nearly all of the time.
    fn multiplication(&self) -> u64 {
        self.program.find("ec::Small as boot_crypto::ec::Multiply>::on_both")
    }

    fn loops(&self) -> Vec<Range<u64>> {
        self.program.functions(|name| LOOPS.iter().any(|part| name.contains(part)))
    }

    /// Runs the faults over bad images.
    fn campaign(&self, bad: &[Bad], share: Share) -> Tally {
        let loops = self.loops();
        let marks = MARKS.map(|name| self.program.find(name));
        let makes: Vec<_> = bad.iter().map(|bad| || self.machine(&bad.otp, &bad.image)).collect();
        let goods: Vec<_> = bad.iter().map(|bad| || self.machine(&bad.good_otp, &bad.good)).collect();
        let leaks: Vec<_> = bad.iter().map(|bad| |machine: &Machine| bad.leaked(machine)).collect();
        let watched = makes.iter().zip(&goods).zip(&leaks);
        let scenes = bad.iter().zip(watched).map(|(bad, ((make, good), leaked))| Scene {
            name: bad.name.into(),
            make,
            good,
            program: &self.program,
            start: self.program.find("kiln_main"),
            ram: &[SECURE_RAM],
            stack: Region::new(STAGE0_RAM.base + 64 * 1024, STAGE0_RAM.size - 64 * 1024),
            marks: &marks,
            pure: self.multiplication(),
            loops: &loops,
            leaked,
        });
        run(&scenes.collect::<Vec<_>>(), share)
    }
}

fn said(machine: &Machine) -> String {
    String::from_utf8_lossy(&machine.devices().console).into_owned()
}

#[test]
fn without_a_fault_a_good_image_is_entered_and_a_bad_one_refused_for_its_own_reason() {
    let stage0 = Stage0::read("stage0");
    let all = bad::all();
    assert_eq!(all.len(), 12);
    for bad in &all {
        let mut machine = stage0.machine(&bad.good_otp, &bad.good);
        let end = machine.run(u64::MAX, u64::MAX, &[]);
        let entered = matches!(end, End::Outside(address) if STAGE_CODE.contains(address, 4));
        assert!(entered, "{}: {end:x?} {}", bad.name, said(&machine));
        assert!(bad.handed_over(&machine).is_some(), "{}: the secrets of the good stage are seen", bad.name);

        let mut machine = stage0.machine(&bad.otp, &bad.image);
        assert_eq!(machine.run(u64::MAX, u64::MAX, &[]), End::Stopped, "{}", bad.name);
        let code = bad.code.to_string();
        assert!(said(&machine).contains(&code), "{}: {code} in {}", bad.name, said(&machine));
    }
}

/// The rig sets RAM back after each fault, and guards what the refusal of a bad image does not write. A fault that boots it does.
#[test]
fn what_is_stored_to_guarded_memory_is_stored() {
    let stage0 = Stage0::read("stage0");
    let bad = bad::all().into_iter().find(|bad| bad.name == "an image of another kind").unwrap();
    let start = stage0.program.find("kiln_main");
    let mut refusing = stage0.machine(&bad.otp, &bad.image);
    assert_eq!(refusing.run(u64::MAX, u64::MAX, &[start]), End::Mark(start));
    refusing.note_writes(SECURE_RAM);
    assert_eq!(refusing.run(u64::MAX, u64::MAX, &[]), End::Stopped);
    let mut booting = stage0.machine(&bad.good_otp, &bad.good);
    assert_eq!(booting.run(u64::MAX, u64::MAX, &[start]), End::Mark(start));
    booting.keep(&[SECURE_RAM], &refusing.written());
    let end = booting.run(u64::MAX, u64::MAX, &[]);
    assert!(matches!(end, End::Outside(address) if STAGE_CODE.contains(address, 4)), "{end:x?}");
    assert_eq!(said(&booting), "", "no slot was refused on the way");
}

#[test]
fn no_single_fault_boots_a_bad_image() {
    let share = Share {
        inverted: scaled(12, 12),
        skipped: scaled(1, 3),
        both_ends: figures::is_long(),
        bits: scaled(4096, 1024),
        bits_near: scaled(256, 32),
        loops: 64,
        seed: 1,
    };
    let tally = Stage0::read("stage0").campaign(&bad::all(), share);
    assert!(
        tally.changed() > tally.total() / 2,
        "faults that change nothing prove nothing: {}",
        tally.note()
    );
    Figure::new("instruction faults, stage0", "faults", scaled(20_000, 100_000))
        .ran(tally.total())
        .violations(&tally.violations)
        .note(tally.note())
        .report();
}

/// The control: a stage0 that looks once is broken by the same rig.
#[test]
fn a_stage0_that_looks_once_falls() {
    let wanted = [
        "an image of another kind",
        "an image for another board",
        "a stage that the closing die does not name",
    ];
    let bad: Vec<Bad> = bad::all().into_iter().filter(|bad| wanted.contains(&bad.name)).collect();
    assert_eq!(bad.len(), wanted.len());
    let share = Share {
        inverted: 3,
        skipped: 0,
        both_ends: false,
        bits: u64::MAX,
        bits_near: u64::MAX,
        loops: u64::MAX,
        seed: 1,
    };
    let tally = Stage0::read("stage0-control-one-look").campaign(&bad, share);
    let booted = tally.violations.iter().filter(|violation| violation.contains("executed 0xe2"));
    let (booted, total) = (booted.count(), tally.total());
    eprintln!(
        "control: {booted} of {total} faults boot a bad image, as {:?}; {}",
        tally.violations.first(),
        tally.note()
    );
    assert!(booted > 0, "the rig does not see what it is there to see: {:?}", tally.violations);
}
