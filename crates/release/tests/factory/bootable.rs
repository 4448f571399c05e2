//! The smallest kernel and device tree that stage2 takes. The tests of `kiln` have them from here too.

use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};

/// The header of an arm64 Image, and bytes behind it; it needs so much memory.
pub(crate) fn kernel(length: usize, memory: u64) -> Vec<u8> {
    let mut image = vec![3; length];
    image[..64].fill(0);
    image[16..24].copy_from_slice(&memory.to_le_bytes());
    image[24..32].copy_from_slice(&0b1010_u64.to_le_bytes());
    image[56..60].copy_from_slice(b"ARM\x64");
    image
}

/// A device tree of one core with all that stage2 does not add by itself.
pub(crate) fn device_tree() -> Vec<u8> {
    let mut tree = DeviceTree::new();
    let cells = |address: u32, size: u32| [("#address-cells", address), ("#size-cells", size)];
    let property = |(name, value): (&str, u32)| DeviceTreeProperty::new(name, value).unwrap();
    cells(2, 2).into_iter().for_each(|cell| tree.root.add_property(property(cell)));
    tree.root.add_child(DeviceTreeNode::builder("memory@40000000").unwrap().build());
    let cpus = DeviceTreeNode::builder("cpus").unwrap();
    let mut cpus = cells(1, 0).into_iter().fold(cpus, |cpus, cell| cpus.property(property(cell))).build();
    cpus.add_child(DeviceTreeNode::builder("cpu@0").unwrap().property(property(("reg", 0))).build());
    tree.root.add_child(cpus);
    tree.to_dtb()
}
