//! stage2.

use std::ops::Range;
use std::process::Command;
use std::sync::OnceLock;

use fault_rig::*;
use figures::scaled;
use memory_map::qemu_virt::*;
use memory_map::{KIB, MIB, Region};
use release::{FlatImage, flatten_elf};

use crate::bad_slots::{self, BadSlot};
use crate::control::{OF_CONTROLS, assert_fell};
use crate::scenes;
use crate::stage0::{CHECK, LOOPS, Stage0, said};

/// Where a run is compared with the one without a fault.
const MARKS: [&str; 8] = [
    "ec::es256_verify",
    "ec::parse_point",
    "ec::reduce",
    "ec::invert",
    "Multiply>::on_both",
    "decision::equal",
    "GcmKey::open_and_digest",
    "Devices as hal::DmaDevices>::start",
];

/// The scenes of the short run: those in which the least is computed.
const SHORT: [&str; 7] = [
    "a forged delegation",
    "another command line under the signed manifest",
    "forged signatures",
    "a system of another owner",
    "a bundle from before the floor",
    "a published key",
    "a kernel of another release, beside a good system",
];

/// DRAM, as much of it as there has to be.
const DRAM: Region = Region::new(DRAM_BASE, DRAM_MIN);

/// The stack of the first core.
const STACK: Region = Region::new(STAGE_RUN.end() - 128 * KIB, 128 * KIB);

/// Functions that read the machine's own device tree, which nothing is decided by, text, and such as go through much memory: sampled as the loops are.
const READERS: [&str; 8] =
    ["dtoolkit::", "core::str::", "core::ffi::", "memchr", "zeroize", "crc::", "fail_code::", "cache::clean"];

/// A stage2 as it was built.
struct Stage2 {
    program: Program,
    flat: FlatImage,
}

impl Stage2 {
    fn read(name: &str) -> Self {
        let elf = tests::elf(name);
        let flat = flatten_elf(&elf).expect("the build makes stages that can be made flat");
        Self { program: Program::read(&elf), flat }
    }

    /// The machine as stage0 leaves it to stage2, with these in the OS slots.
    fn machine(&self, handed_over: &[u8], slots: [&[u8]; 2]) -> Machine {
        let watch = Watch {
            code: STAGE_CODE.base..STAGE_CODE.end(),
            stop: self.program.find("el3::exit::stop_and_clear"),
            clear: (self.program.find("memset"), STAGE_RUN),
            clean: (self.program.find("el3::cache::clean_range"), &[STAGE_RUN, OS_LOAD]),
            pure: Pure { entry: self.multiplication(), inputs: [32, 96, 32], output: 72 },
            waits: self.program.waits(),
        };
        let slots = [OS_SLOT_A, OS_SLOT_B].iter().zip(slots);
        let slots = slots.map(|(region, bytes)| (region.base, bytes.to_vec())).collect();
        let virtio = Some(Transports::new(Disk::new(DISK_MIN, slots)));
        let mut machine = Machine::new(Devices { virtio, ..Devices::default() }, &watch);
        let data = STAGE_CODE.end();
        let heap = [STAGE_WORK.base, STAGE_WORK.base + MIB, STAGE_WORK.base + 2 * MIB];
        let secure = [BOOT_INFO.base, STAGE_RUN.base, data, data + MIB, STACK.base];
        machine.ram(SECURE_RAM, &[&secure[..], &heap].concat());
        machine.write(SECURE_RAM.base, handed_over);
        // The same bytes, but for the control.
        machine.write(self.flat.load, &self.flat.bytes);
        let loaded = (0..7).map(|power| KERNEL_LOAD + (MIB << power));
        let tree = [DTB_LOAD, DTB_LOAD + MIB, DTB_LOAD + 2 * MIB];
        let cuts = [DMA_POOL.base, KERNEL_LOAD].into_iter().chain(loaded).chain(tree);
        machine.ram(DRAM, &cuts.collect::<Vec<_>>());
        machine.write(QEMU_DTB.base, machines_tree());
        machine.set_pc(self.program.entry);
        machine.set_register(Register::General(0), BOOT_INFO.base);
        machine
    }

    /// Runs the faults over the bad systems that are wanted.
    fn campaign(&self, bad: &[BadSlot], share: Share, wanted: fn(&str) -> bool) -> Tally {
        let stage0 = Stage0::read("stage0");
        let loops = self.loops();
        let checks = self.program.functions(|name| name.contains(CHECK));
        let marks = MARKS.map(|name| self.program.find(name));
        let started: Vec<_> = bad.iter().map(|bad| stage0.hand_over(&bad.otp, &bad.stage)).collect();
        let both = || bad.iter().zip(&started);
        let makes: Vec<_> = both().map(|(bad, ram)| || self.machine(ram, [&bad.slot, &bad.other])).collect();
        let goods: Vec<_> = both().map(|(bad, ram)| || self.machine(ram, [&bad.good; 2])).collect();
        let leaks: Vec<_> = bad.iter().map(|bad| |machine: &Machine| bad.keys.leaked(machine)).collect();
        let left: Vec<_> =
            bad.iter().map(|bad| |machine: &Machine, at| left_stage2(bad, machine, at)).collect();
        let watched = makes.iter().zip(&goods).zip(left.iter().zip(&leaks));
        let scenes = bad.iter().zip(watched).map(|(bad, ((make, good), (left, leaked)))| Scene {
            name: bad.name.into(),
            make,
            good,
            left,
            program: &self.program,
            start: self.program.find("kiln_main"),
            ram: &[SECURE_RAM, DRAM],
            stack: STACK,
            marks: &marks,
            pure: self.multiplication(),
            loops: &loops,
            checks: &checks,
            rank: usize::from(bad.is_beside_good()),
            own: if bad.is_beside_good() { scaled(0, 1) } else { 1 },
            shared: scaled(0, 1),
            wanted: wanted(bad.name),
            leaked,
        });
        run(&scenes.collect::<Vec<_>>(), share)
    }

    fn multiplication(&self) -> u64 {
        self.program.find("ec::Small as boot_crypto::ec::Multiply>::on_both")
    }

    fn loops(&self) -> Vec<Range<u64>> {
        self.program.functions(|name| LOOPS.iter().chain(&READERS).any(|part| name.contains(part)))
    }
}

/// Judges a run that left stage2 at this address: it may only for a good system that lies beside the bad one, at the first byte
/// of its kernel. It must be told of its command line: a fault in the very register that tells may tell it of no device
/// tree at all, or of one that has no command line. No key is in a register, in the tree or in the record of the boot.
fn left_stage2(bad: &BadSlot, machine: &Machine, address: u64) -> Left {
    let tree = machine.register(Register::General(0));
    // Whoever was told of the finished tree finds its command line there; a fault in the register itself may tell of anything.
    let told = || {
        let blob = DRAM.contains(tree, DTB_ROOM).then(|| machine.read(tree, DTB_ROOM))?;
        let blob = blob.get(..u32::from_be_bytes(blob[4..8].try_into().ok()?) as usize)?;
        let chosen = dtoolkit::fdt::Fdt::new(blob).ok()?.find_node("/chosen")?;
        Some(dtoolkit::Property::value(&dtoolkit::Node::property(&chosen, "bootargs")?).to_vec())
    };
    let right = [bad_slots::COMMAND_LINE.as_bytes(), &[0]].concat();
    let good = bad.is_beside_good()
        && address == KERNEL_LOAD
        && machine.read(KERNEL_LOAD, bad.kernel.len() as u64) == bad.kernel
        && told().map_or(tree != DTB_LOAD, |told| told == right);
    if !good {
        return Left::Wrongly(format!("executed {address:#x}, told of {tree:#x}"));
    }
    let told = [Region::new(DTB_LOAD, DTB_ROOM), BOOT_LOG];
    let in_memory = || told.into_iter().find_map(|place| bad.keys.lies_in(machine, place, &[]));
    let key = bad.keys.in_registers(machine).or_else(in_memory);
    key.map_or(Left::Rightly, |key| Left::Wrongly(format!("executed {address:#x} with the {key}")))
}

/// Returns QEMU's own device tree for a board with one core and the least memory.
fn machines_tree() -> &'static [u8] {
    static TREE: OnceLock<Vec<u8>> = OnceLock::new();
    TREE.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("tree.dtb");
        let machine = format!(
            "virt,secure=on,virtualization=on,gic-version=3,acpi=off,dumpdtb={}",
            file.to_str().expect("a name in UTF-8")
        );
        let memory = (DRAM_MIN / MIB).to_string();
        let arguments = ["-M", &machine, "-cpu", "cortex-a57", "-smp", "1", "-m", &memory];
        let quiet = ["-nic", "none", "-display", "none", "-serial", "none", "-monitor", "none"];
        let output = Command::new("qemu-system-aarch64").args(arguments).args(quiet).output();
        let output = output.expect("QEMU is installed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        std::fs::read(&file).expect("QEMU has written its device tree")
    })
}

#[test]
fn without_a_fault_a_good_system_is_entered_and_a_bad_one_refused_for_its_own_reason() {
    let (stage0, stage2) = (Stage0::read("stage0"), Stage2::read("stage2-production"));
    let all: Vec<BadSlot> = bad_slots::all().into_iter().chain(bad_slots::beside_good()).collect();
    assert_eq!(all.len(), 17);
    for bad in &all {
        let handed_over = stage0.hand_over(&bad.otp, &bad.stage);
        let mut machine = stage2.machine(&handed_over, [&bad.good; 2]);
        let end = machine.run(u64::MAX, u64::MAX, &[]);
        assert_eq!(end, End::Outside(KERNEL_LOAD), "{}: {}", bad.name, said(&machine));
        assert_eq!(machine.read(KERNEL_LOAD, bad.kernel.len() as u64), bad.kernel, "{}", bad.name);

        let mut machine = stage2.machine(&handed_over, [&bad.slot, &bad.other]);
        let end = machine.run(u64::MAX, u64::MAX, &[]);
        let refused = if bad.is_beside_good() {
            assert_eq!(end, End::Outside(KERNEL_LOAD), "{}: {}", bad.name, said(&machine));
            assert_eq!(left_stage2(bad, &machine, KERNEL_LOAD), Left::Rightly, "{}", bad.name);
            assert_eq!(machine.register(Register::General(0)), DTB_LOAD, "{}", bad.name);
            &["A"][..]
        } else {
            assert_eq!(end, End::Stopped, "{}", bad.name);
            &["A", "B"]
        };
        for slot in refused {
            let refusal = format!("OS slot {slot} refused: {}: {}", bad.about.name(), bad.code);
            assert!(said(&machine).contains(&refusal), "{}: {refusal} in {}", bad.name, said(&machine));
        }
    }
}

#[test]
fn no_single_fault_boots_a_bad_system() {
    let share = Share {
        inverted: scaled(1, 14),
        skipped: 1,
        both_ends: false,
        places: scaled(1, 3),
        bits: scaled(8192, 1024),
        bits_near: scaled(512, 64),
        bits_last: scaled(0, 16),
        looped_scenes: scaled(0, 2),
        loops: 64,
        from: scenes::from(),
        told: scenes::TOLD,
        seed: 2,
    };
    let all = bad_slots::all().into_iter().chain(bad_slots::beside_good());
    let bad: Vec<BadSlot> = all.filter(|bad| figures::is_long() || SHORT.contains(&bad.name)).collect();
    assert_eq!(bad.len(), scaled(SHORT.len(), 17));
    let tally = Stage2::read("stage2-production").campaign(&bad, share, scenes::is_wanted);
    scenes::report("instruction faults, stage2", &tally);
}

/// The control: a stage2 that looks once is broken by the same rig.
#[test]
fn a_stage2_that_looks_once_falls() {
    let wanted = ["a kernel for another board", "a kernel of another release", "an object of another kind"];
    let bad: Vec<BadSlot> = bad_slots::all().into_iter().filter(|bad| wanted.contains(&bad.name)).collect();
    assert_eq!(bad.len(), wanted.len());
    let tally = Stage2::read("stage2-control-one-look").campaign(&bad, OF_CONTROLS, |_| true);
    assert_fell(&tally, &format!("{KERNEL_LOAD:#x}"));
}
