//! Device trees and kernels.

use crate::Verdict::{self, Refused, Taken};
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};
use dtoolkit::{Node, ToPropertyValue};
use memory_map::qemu_virt::{BOOT_LOG, DRAM_BASE, DRAM_MAX, DRAM_MIN, MAX_CORES, OS_LOAD};
use memory_map::{GIB, MIB, Region};
use stage2_production::device_tree::{FixUps, fix_up, parse_hardware};
use stage2_production::kernel_image::footprint;

/// The machine's own tree: two numbers within the memory map.
pub(crate) fn hardware(data: &[u8]) -> Verdict {
    let Ok(hardware) = parse_hardware(data) else { return Refused };
    let memory = hardware.memory;
    assert!(
        memory.base == DRAM_BASE
            && (DRAM_MIN..=DRAM_MAX).contains(&memory.size)
            && memory.size % (2 * MIB) == 0
    );
    assert!((1..=MAX_CORES).contains(&hardware.cores));
    Taken
}

/// The signed tree: one that is taken is read alike by both libraries, with what was filled in.
pub(crate) fn signed(data: &[u8]) -> Verdict {
    const ROOM: usize = 4096;
    const LINE: &str = "console=ttyAMA0 quiet";
    if data.len() > 64 * 1024 {
        return Refused;
    }
    let fix_ups = FixUps {
        memory: Region::new(DRAM_BASE, GIB),
        cores: &[0, 1],
        command_line: LINE,
        initramfs: Some(Region::new(0x4820_0000, MIB)),
        rng_seed: &[7; 32],
        kaslr_seed: 9,
        boot_record: BOOT_LOG,
    };
    let mut buffer = data.to_vec();
    buffer.resize(data.len() + ROOM, 0);
    let Ok(length) = fix_up(&mut buffer, data.len(), &fix_ups) else { return Refused };
    let tree = &buffer[..length];
    let theirs = fdt::Fdt::new(tree).expect("the second library reads it");
    assert_eq!(theirs.chosen().bootargs(), Some(LINE));
    let ours = dtoolkit::fdt::Fdt::new(tree).expect("the first library reads it");
    assert_eq!(
        theirs.find_all_nodes("/memory").count(),
        ours.root().children().filter(|node| node.name_without_address() == "memory").count(),
    );
    let region = theirs.memory().regions().next().expect("there is memory");
    assert_eq!((region.starting_address as u64, region.size), (DRAM_BASE, Some(GIB as usize)));
    assert_eq!(theirs.memory().regions().count(), 1, "there is more memory than was filled in");
    let count = theirs.all_nodes().map(|node| node.properties().count()).sum::<usize>();
    assert!(count > 0);
    assert!(theirs.find_node("/reserved-memory").is_some_and(|node| node.children().count() > 0));
    Taken
}

fn property<T: ToPropertyValue>(name: &str, value: T) -> DeviceTreeProperty {
    DeviceTreeProperty::new(name, value).expect("a sound name")
}

fn node(name: &str, properties: Vec<DeviceTreeProperty>) -> DeviceTreeNode {
    let builder = DeviceTreeNode::builder(name).expect("a sound name");
    properties.into_iter().fold(builder, |builder, property| builder.property(property)).build()
}

fn cells(address: u32, size: u32) -> Vec<DeviceTreeProperty> {
    vec![property("#address-cells", address), property("#size-cells", size)]
}

fn reg(base: u64, size: u64) -> DeviceTreeProperty {
    let bytes = [base, size].map(u64::to_be_bytes).concat();
    property("reg", bytes.as_slice())
}

fn tree(children: Vec<DeviceTreeNode>) -> Vec<u8> {
    let mut tree = DeviceTree::new();
    cells(2, 2).into_iter().for_each(|cells| tree.root.add_property(cells));
    tree.root.add_property(property("compatible", "linux,dummy-virt"));
    children.into_iter().for_each(|child| tree.root.add_child(child));
    tree.to_dtb()
}

fn cpus() -> DeviceTreeNode {
    let mut cpus = node("cpus", cells(1, 0));
    for index in 0..2_u32 {
        let properties = vec![property("device_type", "cpu"), property("reg", index)];
        cpus.add_child(node(&format!("cpu@{index:x}"), properties));
    }
    cpus
}

fn memory() -> DeviceTreeNode {
    node("memory@40000000", vec![reg(DRAM_BASE, GIB), property("device_type", "memory")])
}

pub(crate) fn hardware_seeds() -> Vec<Vec<u8>> {
    let secure = node("secram@e000000", vec![reg(0x0E00_0000, 16 * MIB), property("device_type", "memory")]);
    let uart = node("pl011@9000000", vec![reg(0x0900_0000, 0x1000), property("compatible", "arm,pl011")]);
    vec![tree(vec![memory(), secure, uart, cpus()]), tree(vec![cpus(), memory()])]
}

pub(crate) fn signed_seeds() -> Vec<Vec<u8>> {
    let chosen = node("chosen", vec![property("stdout-path", "/pl011@9000000"), property("bootargs", "old")]);
    let mut reserved = node("reserved-memory", cells(2, 2));
    reserved.add_property(property::<&[u8]>("ranges", &[]));
    vec![tree(vec![memory(), cpus()]), tree(vec![chosen, reserved, cpus(), memory(), node("psci", vec![])])]
}

/// A kernel's header, against a second reading of it. The first eight bytes are the load address.
pub(crate) fn kernel(data: &[u8]) -> Verdict {
    let Some((load, kernel)) = data.split_first_chunk() else { return Refused };
    let load = u64::from_le_bytes(*load);
    let found = footprint(kernel, load, OS_LOAD);
    let word = |at: usize| Some(u64::from_le_bytes(kernel.get(at..at + 8)?.try_into().ok()?));
    let sound = || {
        let (text_offset, size, flags) = (word(8)?, word(16)?, word(24)?);
        let fits = u128::from(load) + u128::from(size) <= u128::from(OS_LOAD.end()) && load >= OS_LOAD.base;
        let flagged = matches!(flags, 0 | 2 | 8 | 10);
        let placed = load % (2 * MIB) == text_offset && text_offset < 2 * MIB;
        let sound = kernel.len() >= 64 && kernel[56..60] == *b"ARM\x64" && size >= kernel.len() as u64;
        (fits && flagged && placed && sound).then_some(Region::new(load, size))
    };
    assert_eq!(found.ok(), sound());
    Verdict::of(found.is_ok())
}

pub(crate) fn kernel_seeds() -> Vec<Vec<u8>> {
    let kernel = |offset: u64, size: u64, flags: u64| {
        let mut bytes = (OS_LOAD.base + offset).to_le_bytes().to_vec();
        bytes.extend([0_u64, offset, size, flags, 0, 0, 0].map(u64::to_le_bytes).concat());
        bytes.extend(b"ARM\x64\0\0\0\0 the rest of the kernel");
        bytes
    };
    vec![kernel(0, 12 * MIB, 0b1010), kernel(0x8_0000, 4096, 0)]
}
