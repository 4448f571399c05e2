//! What stands around: device trees, fuses, registers, lines.

use boot_crypto::sha256;
use boot_info::record::BootRecord;
use boot_info::{BootInfo, List, RootSlots, SecretPage, Secrets};
use boot_select::Selection;
use dtoolkit::ToPropertyValue;
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};
use fail_code::FailCode;
use lifecycle::{Die, Fuses, Lifecycle, OtpImage};
use memory_map::qemu_virt::{BOARD, BOOT_LOG, DRAM_BASE};
use memory_map::{GIB, MIB, Region};
use sealed_image::Kind;
use stage1_provision::Handoff;
use stage2_production::device_tree::{FixUps, fix_up};
use stage2_production::psci::{Outcome, Psci};
use stage2_production::smccc;

fn property<T: ToPropertyValue>(name: &str, value: T) -> DeviceTreeProperty {
    DeviceTreeProperty::new(name, value).unwrap()
}

fn node(name: &str, properties: Vec<DeviceTreeProperty>) -> DeviceTreeNode {
    let builder = DeviceTreeNode::builder(name).unwrap();
    properties.into_iter().fold(builder, |builder, property| builder.property(property)).build()
}

/// What stands for a second node `chosen` until the tree is made.
const AGAIN: &[u8] = b"chosex\0";

/// A sound tree, with nodes before and behind those that matter.
fn filled(before: Vec<DeviceTreeNode>, behind: Vec<DeviceTreeNode>) -> Result<Vec<u8>, FailCode> {
    let cells =
        |address: u32, size: u32| vec![property("#address-cells", address), property("#size-cells", size)];
    let memory = [DRAM_BASE, GIB].map(u64::to_be_bytes).concat();
    let memory =
        node("memory@40000000", vec![property("reg", memory.as_slice()), property("device_type", "memory")]);
    let mut cpus = node("cpus", cells(1, 0));
    cpus.add_child(node("cpu@0", vec![property("device_type", "cpu"), property("reg", 0_u32)]));
    let mut tree = DeviceTree::new();
    cells(2, 2).into_iter().for_each(|cells| tree.root.add_property(cells));
    let chosen = node("chosen", vec![property("bootargs", "signed")]);
    for child in before.into_iter().chain([memory, cpus, chosen]).chain(behind) {
        tree.root.add_child(child);
    }
    let mut buffer = tree.to_dtb();
    // The library makes no second node of one name.
    while let Some(at) = buffer.windows(AGAIN.len()).position(|window| window == AGAIN) {
        buffer[at..at + AGAIN.len()].copy_from_slice(b"chosen\0");
    }
    let length = buffer.len();
    buffer.resize(length + 4096, 0);
    let fix_ups = FixUps {
        memory: Region::new(DRAM_BASE, 512 * MIB),
        cores: &[0],
        command_line: "verified",
        initramfs: None,
        rng_seed: &[],
        kaslr_seed: 1,
        boot_record: BOOT_LOG,
    };
    let length = fix_up(&mut buffer, length, &fix_ups).map_err(|error| error.code())?;
    buffer.truncate(length);
    Ok(buffer)
}

pub(crate) fn a_unit_address_in_the_tree() {
    let line = |tree: &[u8]| fdt::Fdt::new(tree).unwrap().chosen().bootargs().map(str::to_owned);
    assert_eq!(line(&filled(vec![], vec![]).unwrap()).as_deref(), Some("verified"));
    let evil =
        |name| node(name, vec![property("bootargs", "init=/bin/sh"), property("device_type", "memory")]);
    // A name that only begins like it is another node.
    for tree in [filled(vec![evil("chosen-x")], vec![]), filled(vec![], vec![evil("chosen-x")])] {
        assert_eq!(line(&tree.unwrap()).as_deref(), Some("verified"));
    }
    // Before and behind the real ones: with an address, and the same name again.
    for name in ["chosex", "chosen@0", "cpus@0", "psci@1", "reserved-memory@0"] {
        for tree in [filled(vec![evil(name)], vec![]), filled(vec![], vec![evil(name)])] {
            assert_eq!(tree, Err(FailCode::DeviceTreeInvalid), "{name}");
        }
    }
    // Memory has an address in its name: a second one is refused, whichever it is and wherever it lies.
    for name in ["memory", "memory@0", "memory@e000000", "memory@40000001"] {
        for tree in [filled(vec![evil(name)], vec![]), filled(vec![], vec![evil(name)])] {
            assert_eq!(tree, Err(FailCode::DeviceTreeInvalid), "{name}");
        }
    }
}

fn die() -> Die {
    Die {
        chip_id: *b"chip id of a die",
        silicon_secret: [0x51; 32],
        root_digest: [0xA2; 32],
        provisioning_key: [0x33; 32],
        device_seed: [0xC4; 32],
        closing_measurement: [0x65; 32],
        floors: [0; 6],
        owner_generation: 0,
    }
}

fn selected(lifecycle: Lifecycle, die: &Die) -> Result<Kind, FailCode> {
    let fuses = Fuses::read(&OtpImage::for_die(lifecycle, die)).map_err(|error| error.code())?;
    Selection::of(&fuses).map(|selection| selection.kind())
}

pub(crate) fn a_published_secret_in_the_fuses() {
    use release::test_keys;
    let root = boot_crypto::host::Es256Key::from_scalar(&sha256(test_keys::ROOT.as_bytes())).unwrap();
    let root = sealed_image::PublicKey::P256(root.public()).thumbprint();
    let published = [
        Die { root_digest: root, ..die() },
        Die { silicon_secret: test_keys::silicon_secret(), ..die() },
        Die { device_seed: test_keys::device_seed(), ..die() },
    ];
    assert_eq!(selected(Lifecycle::Production, &die()), Ok(Kind::Stage2));
    for die in &published {
        assert_eq!(selected(Lifecycle::Production, die), Err(FailCode::TestKey));
        assert_eq!(selected(Lifecycle::Development, die), Ok(Kind::Stage2));
    }
    // Before the device is closed it has no seed yet.
    for die in &published[..2] {
        assert_eq!(selected(Lifecycle::Secured, die), Err(FailCode::TestKey));
    }
}

pub(crate) fn every_lifecycle_has_a_floor() {
    use boot_select::METADATA_ROOM;
    use memory_map::qemu_virt::STAGE_RUN;
    use sealed_image::host::{Facts, SignedPayload, certify, delegation, encode_grant};
    use sealed_image::{Grant, KindSet, MAX_BOARDS, PublicKey, Role, Version};
    let (root, key) = (fuzz_targets::sample::es256(1), fuzz_targets::sample::es256(2));
    let states = [
        (Lifecycle::Secured, Kind::Stage1),
        (Lifecycle::Closing, Kind::Stage1),
        (Lifecycle::Production, Kind::Stage2),
        (Lifecycle::Development, Kind::Stage2),
    ];
    for (lifecycle, kind) in states {
        let role: Role = kind.role().unwrap();
        let mut boards = [""; MAX_BOARDS];
        boards[0] = BOARD;
        let public = PublicKey::P256(key.public());
        let (min_version, max_version) = (Version::MIN, Version::MAX);
        let grant =
            Grant { role, key: public, kinds: KindSet::new(&[kind]), boards, min_version, max_version };
        let certificate = certify(&root, &encode_grant(&grant)).unwrap();
        let part = delegation(&PublicKey::P256(root.public()), &[certificate]);
        let facts = Facts {
            kind,
            board: BOARD.into(),
            version: Version(1),
            rollback_index: 7,
            load_address: STAGE_RUN.base,
            entry: STAGE_RUN.base,
            chunk_size: 4096,
        };
        let signed = SignedPayload::sign(&facts, vec![1; 5000], &part, &[&key]).unwrap();
        let image = signed.seal(&boot_crypto::Key::new([9; 32]), sealed_image::Compression::None).unwrap();
        let measurement = sealed_image::host::Inspected::of(&image).unwrap().manifest_digest;
        let found = |floor: u8| {
            let mut floors = [0; 6];
            floors[usize::from(role.number()) - 1] = floor;
            let root_digest = PublicKey::P256(root.public()).thumbprint();
            let die = Die { root_digest, closing_measurement: measurement, floors, ..die() };
            let fuses = Fuses::read(&OtpImage::for_die(lifecycle, &die)).unwrap();
            let selection = Selection::of(&fuses).unwrap();
            let mut flash = Slot(image.clone());
            let slot = Region::new(0, (image.len() as u64).next_multiple_of(4096));
            let mut buffer = [0; METADATA_ROOM];
            let found = selection.find(&mut flash, slot, STAGE_RUN, &mut buffer);
            found.map(|found| *found.measurement())
        };
        assert_eq!(found(7), Ok(measurement), "{lifecycle:?}");
        for floor in [8, 64] {
            assert_eq!(found(floor), Err(FailCode::RolledBack), "{lifecycle:?}");
        }
    }
}

/// A slot, erased behind its image.
struct Slot(Vec<u8>);

impl hal::Storage for Slot {
    fn size(&self) -> u64 {
        (self.0.len() as u64).next_multiple_of(4096)
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), hal::ReadError> {
        let stored = self.0.iter().skip(offset as usize).copied().chain(std::iter::repeat(0xFF));
        into.iter_mut().zip(stored).for_each(|(to, from)| *to = from);
        Ok(())
    }
}

const RAM: Region = Region::new(DRAM_BASE, 256 * MIB);

/// Functions of every service and some that do not exist, and arguments good and bad.
fn calls() -> Vec<(u64, [u64; 3])> {
    let numbers = (0..0x40).chain([0xFF00, 0xFF01, 0xFFFF]);
    let kinds = [0x8000_0000, 0x8400_0000, 0xC400_0000, 0xC000_0000, 0x0400_0000, 0xBF00_0000];
    let functions = numbers.flat_map(|number: u64| kinds.map(|kind: u64| kind | number));
    let arguments =
        [[0; 3], [1, DRAM_BASE, 7], [u64::MAX; 3], [0x8400_0003, 3, 1], [0x4000_0003, DRAM_BASE, 5]];
    functions.flat_map(|function| arguments.map(|args| (function, args))).collect()
}

pub(crate) fn result_registers_of_every_function() {
    let (mut returned, mut answered) = (0, 0);
    for (function, args) in calls() {
        let psci = Psci::new(&[0, 1], 0, RAM);
        match smccc::call(&psci, 0, function, args) {
            Outcome::Return([x0, x1, x2, x3]) => {
                assert_eq!([x1, x2, x3], [0; 3], "{function:#x} {args:x?}");
                answered += u32::from(x0 as i64 >= 0);
                returned += 1;
            }
            // What the monitor leaves in the registers of a call that returns later.
            Outcome::TurnOn { .. } | Outcome::Suspend(_) => assert_eq!(Outcome::SUCCESS, [0; 4]),
            Outcome::TurnOff | Outcome::SystemOff | Outcome::SystemReset => {}
        }
    }
    assert!(returned > 1500 && answered > 15, "{returned} returned, {answered} with a result");
}

pub(crate) fn registers_tell_only_what_was_asked() {
    const AFFINITY_INFO: [u64; 2] = [0x8400_0004, 0xC400_0004];
    const CPU_ON: u64 = 0xC400_0003;
    let fresh = || Psci::new(&[0, 1, 2], 0, RAM);
    let busy = || {
        let psci = fresh();
        // Another core was started with a secret as its argument, and is on; a third one is on its way.
        assert_eq!(psci.call(0, CPU_ON, [1, DRAM_BASE, 0x5EC2_E700_5EC2_E700]), Outcome::TurnOn { core: 1 });
        assert!(psci.started(1).is_some());
        assert_eq!(psci.call(0, CPU_ON, [2, DRAM_BASE + 64, 0x005E_C2E7]), Outcome::TurnOn { core: 2 });
        psci
    };
    let mut compared = 0;
    for (function, args) in calls() {
        let about_cores = AFFINITY_INFO.contains(&function)
            || matches!(function & 0xFF, 2 | 3)
            || args == [1, DRAM_BASE, 7];
        let (alone, among) = (fresh(), busy());
        let results = [&alone, &among].map(|psci| smccc::call(psci, 0, function, args));
        if let [Outcome::Return(alone), Outcome::Return(among)] = results {
            assert!(about_cores || alone == among, "{function:#x} {args:x?} tells of other cores");
            assert_eq!(among[1..], [0; 3]);
            compared += 1;
        }
    }
    assert!(compared > 1500, "{compared}");
}

pub(crate) fn stage1_does_not_run_in_production() {
    // stage0 takes no provisioning stage on a closed device, and the stage itself refuses to go on.
    assert_eq!(selected(Lifecycle::Secured, &die()), Ok(Kind::Stage1));
    assert_eq!(selected(Lifecycle::Production, &die()), Ok(Kind::Stage2));
    let code = |lifecycle: u32| {
        let mut board = [0; 16];
        board[..BOARD.len()].copy_from_slice(BOARD.as_bytes());
        let info = BootInfo {
            board,
            lifecycle,
            reset_reason: 1,
            slot: 0,
            fallback_code: 0,
            counter_hz: 62_500_000,
            chip_id: [7; 16],
            floors: [0; 8],
            roots: RootSlots::default(),
            images: List::new(),
            timestamps: List::new(),
        };
        let (mut page, mut secrets) = (vec![0; BootInfo::SIZE], vec![0; SecretPage::SIZE]);
        assert!(info.write(&mut page));
        let key = |byte| boot_crypto::Key::new([byte; 32]);
        let provision = Secrets::Provision { stage_secret: key(1), die_secret: key(2) };
        assert!(SecretPage { secrets: provision, evidence: None }.write(&mut secrets));
        let refused =
            Handoff::take(&page, &mut secrets, &mut BootRecord::default()).err().map(|error| error.code());
        assert!(secrets.iter().all(|byte| *byte == 0), "the secrets are still there");
        refused
    };
    for lifecycle in Lifecycle::ALL {
        let expected = match lifecycle {
            // It would run, if there were evidence.
            Lifecycle::Secured | Lifecycle::Closing => FailCode::BootInfoInvalid,
            _ => FailCode::LifecycleForbids,
        };
        assert_eq!(code(lifecycle.codeword()), Some(expected), "{lifecycle:?}");
    }
    for word in [0, 1, !Lifecycle::Secured.codeword(), u32::MAX - 1] {
        assert_eq!(code(word), Some(FailCode::LifecycleForbids), "{word:#x}");
    }
}
