//! The machine's tree under attack, and the signed tree before and after.

use super::*;
use crate::held::Held;
use dtoolkit::fdt::Fdt;
use dtoolkit::fdt_mut::FdtMut;
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};
use dtoolkit::{Node, Property, ToPropertyValue};
use memory_map::qemu_virt::{BOOT_LOG, DRAM_BASE, DRAM_MAX, DRAM_MIN, DTB_ROOM, MAX_CORES};
use memory_map::{GIB, MIB, Region};
use sealed_image::plain_digest;
use std::format;
use std::string::String;
use std::vec;
use std::vec::Vec;

fn property<T: ToPropertyValue>(name: &str, value: T) -> DeviceTreeProperty {
    DeviceTreeProperty::new(name, value).unwrap()
}

fn node<const P: usize>(name: &str, properties: [DeviceTreeProperty; P]) -> DeviceTreeNode {
    let builder = DeviceTreeNode::builder(name).unwrap();
    properties.into_iter().fold(builder, |builder, property| builder.property(property)).build()
}

fn cells() -> [DeviceTreeProperty; 2] {
    [property("#address-cells", 2_u32), property("#size-cells", 2_u32)]
}

fn be(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_be_bytes()).collect()
}

fn reg(base: u64, size: u64) -> DeviceTreeProperty {
    property("reg", be(&[base, size]).as_slice())
}

fn cpus(count: usize) -> DeviceTreeNode {
    let mut cpus = node("cpus", [property("#address-cells", 1_u32), property("#size-cells", 0_u32)]);
    for index in 0..count as u32 {
        cpus.add_child(node(
            &format!("cpu@{index:x}"),
            [property("device_type", "cpu"), property("reg", index), property("status", "okay")],
        ));
    }
    cpus
}

fn root<const C: usize>(children: [DeviceTreeNode; C]) -> DeviceTree {
    let mut tree = DeviceTree::new();
    for cells in cells() {
        tree.root.add_property(cells);
    }
    tree.root.add_property(property("compatible", "linux,dummy-virt"));
    for child in children {
        tree.root.add_child(child);
    }
    tree
}

fn memory(base: u64, size: u64) -> DeviceTreeNode {
    node(&format!("memory@{base:x}"), [reg(base, size), property("device_type", "memory")])
}

/// Marsaglia's xorshift: the same blobs in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }

    /// Returns a blob with one to six changes.
    fn mutated(&mut self, original: &[u8]) -> Vec<u8> {
        let mut blob = original.to_vec();
        for _ in 0..=self.below(6) {
            let at = self.below(blob.len());
            match self.below(4) {
                0 => blob[at] ^= 1 << self.below(8),
                1 => blob[at] = self.below(256) as u8,
                // A cell gets a value that means something to a parser.
                2 => {
                    let value = [0, 1, 2, 3, 4, 9, 0x7FFF_FFFF, u32::MAX, u32::MAX - 3][self.below(9)];
                    let at = (at & !3).min(blob.len() - 4);
                    blob[at..at + 4].copy_from_slice(&value.to_be_bytes());
                }
                _ => {
                    let from = self.below(blob.len());
                    let length = self.below(64).min(blob.len() - from.max(at));
                    blob.copy_within(from..from + length, at);
                }
            }
        }
        blob
    }
}

mod machine {
    use super::*;

    /// The shape of QEMU's tree, with what matters and some of what does not.
    fn machine_tree(size: u64, cores: usize) -> Vec<u8> {
        let mut chosen = node("chosen", [property("stdout-path", "/pl011@9000000")]);
        chosen.add_property(property("rng-seed", [7_u8; 32]));
        root([
            node("psci", [property("compatible", "arm,psci-1.0"), property("method", "hvc")]),
            memory(DRAM_BASE, size),
            node("secram@e000000", [reg(0x0E00_0000, 16 * MIB), property("device_type", "memory")]),
            node("pl011@9000000", [reg(0x0900_0000, 0x1000), property("compatible", "arm,pl011")]),
            cpus(cores),
            chosen,
        ])
        .to_dtb()
    }

    #[test]
    fn memory_and_cores_are_read() {
        let found = parse_hardware(&machine_tree(512 * MIB, 2));
        assert_eq!(found, Ok(Hardware { memory: Region::new(DRAM_BASE, 512 * MIB), cores: 2 }));
    }

    #[test]
    fn a_tree_padded_to_its_region_is_read() {
        let mut blob = machine_tree(GIB, 4);
        blob.resize(MIB as usize, 0);
        blob[4..8].copy_from_slice(&(MIB as u32).to_be_bytes());
        assert_eq!(parse_hardware(&blob).unwrap().cores, 4);
        // The same, with the rest of the region behind a tree that is not padded.
        let mut blob = machine_tree(GIB, 4);
        blob.resize(MIB as usize, 0xFF);
        assert_eq!(parse_hardware(&blob).unwrap().memory.size, GIB);
    }

    #[test]
    fn values_are_clamped_to_the_memory_map() {
        for (size, expected) in [
            (DRAM_MIN, DRAM_MIN),
            (DRAM_MIN + 3 * MIB + 5, DRAM_MIN + 2 * MIB),
            (DRAM_MAX + GIB, DRAM_MAX),
            (u64::MAX, DRAM_MAX),
        ] {
            assert_eq!(parse_hardware(&machine_tree(size, 1)).unwrap().memory.size, expected);
        }
        assert_eq!(parse_hardware(&machine_tree(GIB, MAX_CORES + 5)).unwrap().cores, MAX_CORES);
    }

    #[test]
    fn too_little_hardware_is_refused() {
        for size in [0, 1, DRAM_MIN - 1] {
            let refused = Err(DeviceTreeError::HardwareMemoryTooSmall(size));
            assert_eq!(parse_hardware(&machine_tree(size, 1)), refused);
        }
        assert_eq!(parse_hardware(&machine_tree(GIB, 0)), Err(DeviceTreeError::HardwareCpusMissing));
        let elsewhere = root([memory(DRAM_BASE + GIB, GIB), memory(0, 4 * GIB), cpus(1)]).to_dtb();
        assert_eq!(parse_hardware(&elsewhere), Err(DeviceTreeError::HardwareMemoryMissing));
        let short = root([node("memory", [property("reg", be(&[DRAM_BASE]).as_slice())]), cpus(1)]).to_dtb();
        assert_eq!(parse_hardware(&short), Err(DeviceTreeError::HardwareMemoryMissing));
        assert_eq!(
            parse_hardware(&root([memory(DRAM_BASE, GIB)]).to_dtb()),
            Err(DeviceTreeError::HardwareCpusMissing)
        );
    }

    #[test]
    fn truncation_at_every_byte_is_refused() {
        let blob = machine_tree(GIB, 2);
        for length in 0..blob.len() {
            assert_eq!(parse_hardware(&blob[..length]), Err(DeviceTreeError::HardwareMalformed), "{length}");
            let mut shorter = blob[..length].to_vec();
            if let Some(total) = shorter.get_mut(4..8) {
                total.copy_from_slice(&(length as u32).to_be_bytes());
                assert_eq!(parse_hardware(&shorter), Err(DeviceTreeError::HardwareMalformed), "{length}");
            }
        }
    }

    #[test]
    fn mutated_trees_never_panic_and_never_leave_the_memory_map() {
        let original = machine_tree(GIB, 2);
        let mut random = Random(0x4B49_4C4E);
        let (mut accepted, mut refused) = (0, 0);
        for round in 0..40_000 {
            let mut blob = random.mutated(&original);
            if round % 5 == 0 {
                blob.truncate(random.below(blob.len()) + 1);
            }
            match parse_hardware(&blob) {
                Ok(Hardware { memory, cores }) => {
                    accepted += 1;
                    assert!(memory.base == DRAM_BASE && (DRAM_MIN..=DRAM_MAX).contains(&memory.size));
                    assert!((1..=MAX_CORES).contains(&cores));
                }
                Err(error) => {
                    refused += 1;
                    assert_eq!(error.code(), FailCode::HardwareTreeInvalid);
                }
            }
        }
        assert!(accepted > 1_000 && refused > 1_000, "{accepted} accepted, {refused} refused");
    }
}

mod signed {
    use super::*;

    const ROOM: usize = DTB_ROOM as usize;
    const INITRAMFS: Region = Region::new(0x4820_0000, 0x0012_3456);

    fn fix_ups() -> FixUps<'static> {
        FixUps {
            memory: Region::new(DRAM_BASE, 512 * MIB),
            cores: &[0, 1],
            command_line: "console=ttyAMA0 quiet",
            initramfs: Some(INITRAMFS),
            rng_seed: &[0xA5; 64],
            kaslr_seed: 0x0123_4567_89AB_CDEF,
            boot_record: BOOT_LOG,
        }
    }

    /// A tree as a board's source makes it.
    fn signed_tree() -> DeviceTree {
        let timer = node("timer", [property("compatible", "arm,armv8-timer")]);
        root([
            node(
                "chosen",
                [property("stdout-path", "/pl011@9000000"), property("bootargs", "from the source")],
            ),
            memory(DRAM_BASE, 256 * MIB),
            cpus(4),
            node("psci", [property("compatible", "arm,psci-0.2"), property("method", "hvc")]),
            timer,
        ])
    }

    fn fixed(tree: &DeviceTree, fix_ups: &FixUps<'_>) -> Result<Vec<u8>, DeviceTreeError> {
        let mut buffer = tree.to_dtb();
        let length = buffer.len();
        buffer.resize(ROOM, 0xEE);
        let length = fix_up(&mut buffer, length, fix_ups)?;
        buffer.truncate(length);
        Ok(buffer)
    }

    fn value<'a>(blob: &'a [u8], path: &str, name: &str) -> Option<&'a [u8]> {
        let node = fdt::Fdt::new(blob).unwrap().find_node(path)?.property(name)?.value;
        // Both readers agree on every property that is looked at.
        let other = Fdt::new(blob).unwrap().find_node(path).unwrap().property(name).unwrap().value().to_vec();
        assert_eq!(node, other);
        Some(node)
    }

    fn check_complete(blob: &[u8]) {
        let chosen = |name| value(blob, "/chosen", name).map(<[u8]>::to_vec);
        assert_eq!(chosen("bootargs").unwrap(), b"console=ttyAMA0 quiet\0");
        assert_eq!(chosen("linux,initrd-start").unwrap(), be(&[INITRAMFS.base]));
        assert_eq!(chosen("linux,initrd-end").unwrap(), be(&[INITRAMFS.end()]));
        assert_eq!(chosen("rng-seed").unwrap(), [0xA5; 64]);
        assert_eq!(chosen("kaslr-seed").unwrap(), be(&[0x0123_4567_89AB_CDEF]));
        assert_eq!(value(blob, "/memory", "reg").unwrap(), be(&[DRAM_BASE, 512 * MIB]));
        assert_eq!(value(blob, "/psci", "method").unwrap(), b"smc\0");
        assert_eq!(value(blob, "/psci", "compatible").unwrap(), b"arm,psci-1.0\0arm,psci-0.2\0");
        let record = format!("/reserved-memory/boot-record@{:x}", BOOT_LOG.base);
        assert_eq!(value(blob, &record, "reg").unwrap(), be(&[BOOT_LOG.base, BOOT_LOG.size]));
        assert_eq!(value(blob, &record, "compatible").unwrap(), b"kiln,boot-record\0");
        assert_eq!(value(blob, "/reserved-memory", "ranges").unwrap(), b"");
        for (index, status) in ["okay", "okay", "fail", "fail"].into_iter().enumerate() {
            let path = format!("/cpus/cpu@{index}");
            assert_eq!(value(blob, &path, "status").unwrap(), format!("{status}\0").as_bytes(), "{path}");
            assert_eq!(value(blob, &path, "enable-method").unwrap(), b"psci\0");
        }
    }

    /// A signed tree, and what is known of it.
    fn verified() -> (Vec<u8>, Held) {
        let tree = signed_tree().to_dtb();
        let place = Region::new(0x4800_0000, tree.len() as u64);
        let held = Held { place, chunk_size: 4096, digest: plain_digest(&tree, 4096) };
        (tree, held)
    }

    #[test]
    fn a_tree_that_two_looks_fill_in_alike_is_the_one_that_the_kernel_gets() {
        let (tree, signed) = verified();
        let finished = finish(&tree, &signed, [&fix_ups(), &fix_ups()]).unwrap();
        let filled = fixed(&signed_tree(), &fix_ups()).unwrap();
        let place = finished.held().place;
        assert_eq!((place.base, place.size), (signed.place.base, filled.len() as u64));

        let window = Region::new(place.base - 64, place.size + 128);
        let mut memory = vec![0xEE; window.size as usize];
        // Memory lies elsewhere here than its window says: what the kernel is told is where the tree is.
        let told = finished.put(&mut memory, window).unwrap();
        assert_eq!(told.get(), memory[64..].as_ptr().addr() as u64);
        assert!(memory[64..].starts_with(&filled));
        let behind = &memory[64 + filled.len()..];
        assert!(behind.starts_with(&[0; 16]), "the guard is gone");
        assert!(memory.iter().take(64).chain(&behind[16..]).all(|byte| *byte == 0xEE));
        for at in [64, 64 + filled.len() - 1] {
            memory[at] ^= 1;
            assert!(!finished.held().is_in(&memory, window).accepts());
            memory[at] ^= 1;
        }
        let short = Region::new(window.base, window.size - 65);
        assert_eq!(finished.put(&mut memory[..short.size as usize], short), None);
    }

    #[test]
    fn a_tree_that_two_looks_would_fill_in_otherwise_is_refused() {
        let right = fix_ups();
        let line = right.command_line;
        for other in [
            FixUps { command_line: &line[1..], ..right },
            FixUps { command_line: "", ..right },
            FixUps { initramfs: None, ..right },
            FixUps { initramfs: Some(Region::new(INITRAMFS.base, INITRAMFS.size - 1)), ..right },
            FixUps { initramfs: Some(Region::new(INITRAMFS.base + 1, INITRAMFS.size - 1)), ..right },
            FixUps { rng_seed: &[0xA5; 63], ..right },
        ] {
            for looks in [[&right, &other], [&other, &right]] {
                let (tree, signed) = verified();
                assert_eq!(finish(&tree, &signed, looks), Err(FailCode::LooksDiffer), "{other:x?}");
            }
        }
    }

    /// What was verified may have been altered since.
    #[test]
    fn a_tree_that_is_not_the_signed_one_any_more_is_not_filled_in() {
        let (tree, signed) = verified();
        for at in [0, tree.len() - 1] {
            let mut altered = tree.clone();
            altered[at] ^= 1;
            let error = finish(&altered, &signed, [&fix_ups(), &fix_ups()]);
            assert_eq!(error, Err(FailCode::LooksDiffer), "byte {at}");
        }
        let error = finish(&tree[1..], &signed, [&fix_ups(), &fix_ups()]);
        assert_eq!(error, Err(FailCode::LooksDiffer), "cut short");
    }

    /// Counts nodes and properties, so that a lost or doubled one is seen.
    fn census(node: &DeviceTreeNode) -> (usize, usize) {
        let names: Vec<String> = node.properties().map(|property| String::from(property.name())).collect();
        node.children()
            .map(census)
            .fold((1, names.len()), |(n, p), (nodes, properties)| (n + nodes, p + properties))
    }

    #[test]
    fn everything_that_linux_needs_is_filled_in() {
        let before = signed_tree();
        let blob = fixed(&before, &fix_ups()).unwrap();
        check_complete(&blob);
        assert_eq!(value(&blob, "/chosen", "stdout-path").unwrap(), b"/pl011@9000000\0", "the rest stays");
        assert_eq!(value(&blob, "/timer", "compatible").unwrap(), b"arm,armv8-timer\0");

        let (nodes, properties) = census(&before.root);
        let after = DeviceTree::from_fdt(&Fdt::new(&blob).unwrap());
        // Added: 2 nodes; 4 in /chosen, 4 enable-methods, 3 in /reserved-memory, 2 in the record.
        assert_eq!(census(&after.root), (nodes + 2, properties + 4 + 4 + 3 + 2));
    }

    /// The owner signs what a tool made of it. Whatever that is, the stage refuses it or fills it in, and goes on.
    #[test]
    fn mutated_trees_never_panic_and_what_is_accepted_is_read_alike_by_both_readers() {
        let original = signed_tree().to_dtb();
        let fix_ups = fix_ups();
        let mut random = Random(0x5349_474E);
        let (mut accepted, mut refused) = (0, 0);
        for _ in 0..40_000 {
            let mut buffer = random.mutated(&original);
            let length = buffer.len();
            buffer.resize(ROOM, 0xEE);
            match fix_up(&mut buffer, length, &fix_ups) {
                Ok(length) => {
                    accepted += 1;
                    let memory = value(&buffer[..length], "/memory", "reg");
                    assert_eq!(memory.unwrap(), be(&[fix_ups.memory.base, fix_ups.memory.size]));
                }
                Err(error) => {
                    refused += 1;
                    assert_eq!(error.code(), FailCode::DeviceTreeInvalid);
                }
            }
        }
        assert!(accepted > 1_000 && refused > 1_000, "{accepted} accepted, {refused} refused");
    }

    #[test]
    fn a_bare_tree_gets_the_nodes_that_it_lacks() {
        let blob = fixed(&root([memory(DRAM_BASE, 0), cpus(4)]), &fix_ups()).unwrap();
        check_complete(&blob);
    }

    #[test]
    fn a_tree_that_was_fixed_up_before_gets_the_new_values_only() {
        let old = FixUps {
            memory: Region::new(DRAM_BASE, GIB),
            cores: &[0, 3],
            command_line: "an old and much longer command line, with room=too much",
            initramfs: Some(Region::new(1, 2)),
            rng_seed: &[1; 8],
            kaslr_seed: 1,
            boot_record: BOOT_LOG,
        };
        let first = fixed(&signed_tree(), &old).unwrap();
        let again = DeviceTree::from_fdt(&Fdt::new(&first).unwrap());
        let second = fixed(&again, &fix_ups()).unwrap();
        check_complete(&second);
        assert_eq!(census(&DeviceTree::from_fdt(&Fdt::new(&second).unwrap()).root), census(&again.root));
    }

    #[test]
    fn a_tree_with_holes_of_an_editor_is_closed_up() {
        let mut tree = signed_tree();
        tree.root.add_child(node("removed", [property("compatible", "gone")]));
        let mut holes = FdtMut::new(tree.to_dtb()).unwrap();
        assert!(holes.find_node_mut("/").unwrap().remove_child("removed"));
        assert!(holes.find_node_mut("/timer").unwrap().remove_property("compatible"));
        assert!(holes.find_node_mut("/psci").unwrap().remove_property("compatible"));
        let mut buffer = holes.data_mut().to_vec();
        let length = buffer.len();
        buffer.resize(ROOM, 0);
        let length = fix_up(&mut buffer, length, &fix_ups()).unwrap();
        check_complete(&buffer[..length]);
        // The NOP tag must not be left anywhere: `fdt` above would have stumbled over most of them.
        assert!(fdt::Fdt::new(&buffer[..length]).unwrap().all_nodes().all(|node| node.name != "removed"));
    }

    #[test]
    fn without_initramfs_and_seed_old_ones_do_not_stay() {
        let first = fixed(&signed_tree(), &fix_ups()).unwrap();
        let again = DeviceTree::from_fdt(&Fdt::new(&first).unwrap());
        let blob = fixed(&again, &FixUps { initramfs: None, rng_seed: &[], ..fix_ups() }).unwrap();
        for name in ["linux,initrd-start", "linux,initrd-end", "rng-seed"] {
            assert_eq!(value(&blob, "/chosen", name), None, "{name}");
        }
    }

    #[test]
    fn a_tree_padded_to_the_whole_room_still_has_room() {
        let mut blob = signed_tree().to_dtb();
        blob.resize(ROOM, 0);
        blob[4..8].copy_from_slice(&(ROOM as u32).to_be_bytes());
        let length = fix_up(&mut blob, ROOM, &fix_ups()).unwrap();
        assert!(length < ROOM / 2);
        check_complete(&blob[..length]);
    }

    #[test]
    fn every_room_that_is_too_small_is_refused_without_panic() {
        let blob = signed_tree().to_dtb();
        let needed = fixed(&signed_tree(), &fix_ups()).unwrap().len();
        for room in blob.len()..needed {
            let mut buffer = blob.clone();
            buffer.resize(room, 0);
            let refused = fix_up(&mut buffer, blob.len(), &fix_ups());
            assert_eq!(refused, Err(DeviceTreeError::Full), "{room} of {needed}");
        }
        let mut buffer = blob.clone();
        buffer.resize(needed, 0);
        assert_eq!(fix_up(&mut buffer, blob.len(), &fix_ups()), Ok(needed));
    }

    /// One reader takes the first of two, another the last: which one would count is open.
    #[test]
    fn a_property_that_is_there_twice_or_behind_a_child_is_refused() {
        let refused = |blob: &[u8]| {
            let mut buffer = blob.to_vec();
            buffer.resize(ROOM, 0);
            fix_up(&mut buffer, blob.len(), &fix_ups())
        };
        let sound = signed_tree().to_dtb();
        assert!(refused(&sound).is_ok());
        // `compatible` of the root gets the name of what comes before it.
        let name = |name: &[u8]| {
            let strings = u32::from_be_bytes(sound[12..16].try_into().unwrap()) as usize;
            sound[strings..].windows(name.len()).position(|window| window == name).unwrap() as u32
        };
        let property =
            [&3_u32.to_be_bytes()[..], &17_u32.to_be_bytes(), &name(b"compatible\0").to_be_bytes()].concat();
        let at = sound.windows(12).position(|window| window == property).unwrap() + 8;
        for twice in [&b"#address-cells\0"[..], b"#size-cells\0"] {
            let mut blob = sound.clone();
            blob[at..at + 4].copy_from_slice(&name(twice).to_be_bytes());
            assert_eq!(refused(&blob), Err(DeviceTreeError::Malformed));
        }
        // The end of the last child of the root, and the property that follows, change places.
        let mut behind = sound.clone();
        let end =
            behind.windows(12).rposition(|window| window == [0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 9]).unwrap();
        let last = behind[..end].windows(4).rposition(|window| window == [0, 0, 0, 3]).unwrap();
        let moved: Vec<u8> = behind.drain(last..end).collect();
        behind.splice(last + 4..last + 4, moved);
        assert_eq!(refused(&behind), Err(DeviceTreeError::Malformed));
    }

    #[test]
    fn trees_that_linux_could_not_use_are_refused() {
        use DeviceTreeError::*;
        let check = |tree: &DeviceTree, error: DeviceTreeError| {
            assert_eq!(fixed(tree, &fix_ups()), Err(error));
            assert_eq!(error.code(), FailCode::DeviceTreeInvalid);
        };
        check(&root([cpus(2)]), NodeMissing("/memory"));
        check(&root([memory(DRAM_BASE, 0)]), NodeMissing("/cpus"));
        check(&root([memory(DRAM_BASE, 0), memory(0, 0), cpus(2)]), NodeAmbiguous("/memory"));
        for (path, name) in [
            ("/chosen", "chosen@0"),
            ("/cpus", "cpus@1"),
            ("/psci", "psci@0"),
            ("/reserved-memory", "reserved-memory@2"),
        ] {
            // Alone, before and behind the node that is meant.
            let (with, without) = (node(name, []), node(path.trim_start_matches('/'), []));
            check(&root([memory(DRAM_BASE, 0), with.clone()]), NodeAmbiguous(path));
            check(&root([memory(DRAM_BASE, 0), with.clone(), without.clone()]), NodeAmbiguous(path));
            check(&root([memory(DRAM_BASE, 0), without, with]), NodeAmbiguous(path));
        }
        check(&root([memory(DRAM_BASE, 0), cpus(0)]), BootCoreMissing(0));
        let mut one_cell = root([memory(DRAM_BASE, 0), cpus(2)]);
        one_cell.root.property_mut("#size-cells").unwrap().set_value(1_u32);
        check(&one_cell, CellsUnsupported("/"));
        let reserved = node("reserved-memory", [property("#address-cells", 1_u32)]);
        check(&root([memory(DRAM_BASE, 0), cpus(2), reserved]), CellsUnsupported("/reserved-memory"));
        let mut odd = cpus(2);
        odd.child_mut("cpu@1").unwrap().remove_property("reg");
        check(&root([memory(DRAM_BASE, 0), odd]), CellsUnsupported("/cpus"));
        // The core that boots has to be among those of the tree; another one may be absent from it.
        let beyond = FixUps { cores: &[4, 0], ..fix_ups() };
        assert_eq!(fixed(&signed_tree(), &beyond), Err(BootCoreMissing(4)));
        assert!(fixed(&signed_tree(), &FixUps { cores: &[0, 4], ..fix_ups() }).is_ok());
    }

    #[test]
    fn more_or_less_than_one_tree_is_refused() {
        let blob = signed_tree().to_dtb();
        for length in [0, 4, 39, blob.len() - 1, blob.len() + 1, blob.len() + 4096] {
            let mut buffer = blob.clone();
            buffer.resize(ROOM, 0);
            let refused = fix_up(&mut buffer, length, &fix_ups());
            assert_eq!(refused, Err(DeviceTreeError::Malformed), "{length}");
        }
        let mut short = blob.clone();
        assert_eq!(fix_up(&mut short, blob.len() + 1, &fix_ups()), Err(DeviceTreeError::Malformed));
        let mut strings = blob.clone();
        *strings.last_mut().unwrap() = b'x';
        assert_eq!(fix_up(&mut strings, blob.len(), &fix_ups()), Err(DeviceTreeError::Malformed));
    }

    #[test]
    fn command_lines_that_linux_would_cut_are_refused() {
        let longest = "a".repeat(COMMAND_LINE_MAX);
        assert!(fixed(&signed_tree(), &FixUps { command_line: &longest, ..fix_ups() }).is_ok());
        let longer = "a".repeat(COMMAND_LINE_MAX + 1);
        let refused = fixed(&signed_tree(), &FixUps { command_line: &longer, ..fix_ups() });
        assert_eq!(refused, Err(DeviceTreeError::CommandLineTooLong(COMMAND_LINE_MAX + 1)));
        assert_eq!(DeviceTreeError::CommandLineTooLong(0).code(), FailCode::DeviceTreeFull);
        let cut = fixed(&signed_tree(), &FixUps { command_line: "quiet\0 root=x", ..fix_ups() });
        assert_eq!(cut, Err(DeviceTreeError::CommandLineNul));
    }
}
