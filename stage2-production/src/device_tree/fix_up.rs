//! Fills the signed tree in: what only the running machine knows.

use super::DeviceTreeError;
use super::splice::{ensure_node, open, trim};
use super::structure;
use core::fmt::Write;
use dtoolkit::fdt_mut::{FdtMut, FdtNodeMut, SliceBuffer};
use dtoolkit::{Node, Property, ToPropertyValue};
use memory_map::Region;

/// The longest command line that Linux on arm64 reads, in bytes without the terminator.
pub const COMMAND_LINE_MAX: usize = 2047;

type Tree<'a> = FdtMut<SliceBuffer<'a>>;
type TreeNode<'a, 'b> = FdtNodeMut<'a, SliceBuffer<'b>>;

/// What goes into the signed tree. Properties of these names that it already has are replaced.
#[derive(Clone, Copy, Debug)]
pub struct FixUps<'a> {
    /// All RAM: `/memory`.
    pub memory: Region,
    /// The affinity fields of each present core's `MPIDR_EL1`, the one that boots first. Other cores of the
    /// signed tree get the status "fail".
    pub cores: &'a [u64],
    /// `/chosen/bootargs`: the verified command line.
    pub command_line: &'a str,
    /// `/chosen/linux,initrd-start` and `-end`.
    pub initramfs: Option<Region>,
    /// `/chosen/rng-seed`; left out if empty.
    pub rng_seed: &'a [u8],
    /// `/chosen/kaslr-seed`.
    pub kaslr_seed: u64,
    /// Where the record of this boot lies: a node below `/reserved-memory`.
    pub boot_record: Region,
}

/// Fills in the tree at the start of `buffer`, the rest of which is room to grow, and returns its new length.
///
/// The first `length` bytes are the verified tree, as signed. On an error the buffer is undefined.
///
/// # Errors
/// [`DeviceTreeError::Full`] and [`DeviceTreeError::CommandLineTooLong`] if there is too much to add, another
/// variant if the signed tree or the command line cannot be used.
pub fn fix_up(buffer: &mut [u8], length: usize, fix_ups: &FixUps<'_>) -> Result<usize, DeviceTreeError> {
    check_command_line(fix_ups.command_line)?;
    check_structure(buffer.get(..length).ok_or(DeviceTreeError::Malformed)?)?;
    trim(buffer)?;
    // `fdt` cannot read the tags that an editor leaves where something was removed.
    tree_in(buffer)?.compact();
    check_usable(buffer)?;

    let mut name = NodeName::default();
    write!(name, "boot-record@{:x}", fix_ups.boot_record.base).map_err(|_| DeviceTreeError::Full)?;
    ensure_node(buffer, "/", "chosen")?;
    ensure_node(buffer, "/", "psci")?;
    ensure_node(buffer, "/", "reserved-memory")?;
    ensure_node(buffer, "/reserved-memory", name.as_str())?;

    let mut tree = tree_in(buffer)?;
    set_memory(&mut tree, fix_ups.memory)?;
    set_cores(&mut tree, fix_ups.cores)?;
    set_psci(&mut tree)?;
    set_boot_record(&mut tree, name.as_str(), fix_ups.boot_record)?;
    set_chosen(&mut tree, fix_ups)?;
    tree.compact();
    Ok(tree.as_read_only().data().len())
}

fn check_command_line(text: &str) -> Result<(), DeviceTreeError> {
    if text.contains('\0') {
        Err(DeviceTreeError::CommandLineNul)
    } else if text.len() > COMMAND_LINE_MAX {
        Err(DeviceTreeError::CommandLineTooLong(text.len()))
    } else {
        Ok(())
    }
}

/// Checks that the signed bytes are exactly one tree, before anything else looks at them.
fn check_structure(verified: &[u8]) -> Result<(), DeviceTreeError> {
    if open(verified)?.data().len() != verified.len() {
        return Err(DeviceTreeError::Malformed);
    }
    structure::check(verified)
}

/// Checks that of each node that is filled in there is one at most, under the name by which everybody looks for it.
///
/// # Threat
/// *A node with an address in its name.* To some readers `/chosen` means `chosen@0` as well, if it comes first, and to
/// others it does not: one would be filled in, and another one read (CVE-2021-27097 was of this kind).
fn check_unambiguous(verified: &[u8]) -> Result<(), DeviceTreeError> {
    for path in ["/memory", "/cpus", "/chosen", "/psci", "/reserved-memory"] {
        let name = path.trim_start_matches('/');
        let tree = open(verified)?;
        let named = || tree.root().children().filter(|node| node.name_without_address() == name);
        let with_address = named().any(|node| node.name().contains('@'));
        match named().count() {
            0 if path == "/memory" => return Err(DeviceTreeError::NodeMissing(path)),
            1 if path == "/memory" || !with_address => {}
            0 => {}
            _ => return Err(DeviceTreeError::NodeAmbiguous(path)),
        }
    }
    Ok(())
}

/// Checks that the tree has the nodes that are filled in, and addresses of the length that is written.
fn check_usable(verified: &[u8]) -> Result<(), DeviceTreeError> {
    check_unambiguous(verified)?;
    let tree = fdt::Fdt::new(verified).map_err(|_| DeviceTreeError::Malformed)?;
    tree.find_node("/cpus").ok_or(DeviceTreeError::NodeMissing("/cpus"))?;
    let two_cells = |node: fdt::node::FdtNode<'_, '_>, path| {
        let cells = |name| node.property(name).and_then(|property| property.as_usize());
        if (cells("#address-cells"), cells("#size-cells")) == (Some(2), Some(2)) {
            Ok(())
        } else {
            Err(DeviceTreeError::CellsUnsupported(path))
        }
    };
    two_cells(tree.find_node("/").ok_or(DeviceTreeError::Malformed)?, "/")?;
    match tree.find_node("/reserved-memory") {
        Some(node) => two_cells(node, "/reserved-memory"),
        None => Ok(()),
    }
}

fn set_memory(tree: &mut Tree<'_>, memory: Region) -> Result<(), DeviceTreeError> {
    let mut node = find(tree, "/memory")?;
    set(&mut node, "device_type", "memory")?;
    set(&mut node, "reg", reg(memory))
}

/// Marks which cores are there: Linux skips those with the status "fail". All start through PSCI.
fn set_cores(tree: &mut Tree<'_>, cores: &[u64]) -> Result<(), DeviceTreeError> {
    let boot = cores.first().copied().unwrap_or_default();
    let mut boot_seen = false;
    let mut cpus = find(tree, "/cpus")?;
    let mut children = cpus.children_mut();
    while let Some(mut cpu) = children.next() {
        if cpu.name_without_address() != "cpu" {
            continue;
        }
        let affinity = cpu.property("reg").and_then(|reg| affinity(reg.value()));
        let affinity = affinity.ok_or(DeviceTreeError::CellsUnsupported("/cpus"))?;
        let present = cores.contains(&affinity);
        boot_seen |= present && affinity == boot;
        set(&mut cpu, "status", if present { "okay" } else { "fail" })?;
        set(&mut cpu, "enable-method", "psci")?;
    }
    if boot_seen { Ok(()) } else { Err(DeviceTreeError::BootCoreMissing(boot)) }
}

/// Reads the `reg` of a core: one cell or two.
fn affinity(value: &[u8]) -> Option<u64> {
    match value.len() {
        4 => Some(u32::from_be_bytes(value.try_into().ok()?).into()),
        8 => Some(u64::from_be_bytes(value.try_into().ok()?)),
        _ => None,
    }
}

fn set_psci(tree: &mut Tree<'_>) -> Result<(), DeviceTreeError> {
    let mut node = find(tree, "/psci")?;
    set(&mut node, "compatible", b"arm,psci-1.0\0arm,psci-0.2\0".as_slice())?;
    set(&mut node, "method", "smc")
}

fn set_boot_record(tree: &mut Tree<'_>, name: &str, record: Region) -> Result<(), DeviceTreeError> {
    let mut parent = find(tree, "/reserved-memory")?;
    set(&mut parent, "#address-cells", 2_u32)?;
    set(&mut parent, "#size-cells", 2_u32)?;
    set(&mut parent, "ranges", [0_u8; 0])?;
    let mut node = parent.child_mut(name).ok_or(DeviceTreeError::Malformed)?;
    set(&mut node, "compatible", "kiln,boot-record")?;
    set(&mut node, "reg", reg(record))
}

fn set_chosen(tree: &mut Tree<'_>, fix_ups: &FixUps<'_>) -> Result<(), DeviceTreeError> {
    let mut node = find(tree, "/chosen")?;
    set(&mut node, "bootargs", fix_ups.command_line)?;
    let initramfs = fix_ups.initramfs;
    set_or_remove(&mut node, "linux,initrd-start", initramfs.map(|region| region.base))?;
    set_or_remove(&mut node, "linux,initrd-end", initramfs.map(|region| region.end()))?;
    let rng_seed = Some(fix_ups.rng_seed).filter(|seed| !seed.is_empty());
    set_or_remove(&mut node, "rng-seed", rng_seed)?;
    set(&mut node, "kaslr-seed", fix_ups.kaslr_seed)
}

fn tree_in(buffer: &mut [u8]) -> Result<Tree<'_>, DeviceTreeError> {
    Tree::from_slice(buffer).map_err(|_| DeviceTreeError::Malformed)
}

fn find<'a, 'b>(tree: &'a mut Tree<'b>, path: &'static str) -> Result<TreeNode<'a, 'b>, DeviceTreeError> {
    tree.find_node_mut(path).ok_or(DeviceTreeError::NodeMissing(path))
}

/// Sets a property; of each name there is one.
fn set<T: ToPropertyValue>(node: &mut TreeNode<'_, '_>, name: &str, value: T) -> Result<(), DeviceTreeError> {
    let done = match node.property_mut(name) {
        Some(mut property) => property.set_value(value),
        None => node.add_property(name, value).map(drop),
    };
    done.map_err(|_| DeviceTreeError::Full)
}

fn set_or_remove<T: ToPropertyValue>(
    node: &mut TreeNode<'_, '_>,
    name: &str,
    value: Option<T>,
) -> Result<(), DeviceTreeError> {
    match value {
        Some(value) => set(node, name, value),
        None => {
            node.remove_property(name);
            Ok(())
        }
    }
}

/// Encodes a region as two cells of address and two of size.
fn reg(region: Region) -> [u8; 16] {
    let [base, size] = [region.base, region.size].map(u64::to_be_bytes);
    let mut value = [0; 16];
    value.iter_mut().zip(base.into_iter().chain(size)).for_each(|(to, from)| *to = from);
    value
}

/// A node name as it is put together: at most 31 characters, an `@` and an address.
#[derive(Default)]
struct NodeName {
    bytes: [u8; 32],
    length: usize,
}

impl NodeName {
    fn as_str(&self) -> &str {
        self.bytes.get(..self.length).and_then(|bytes| core::str::from_utf8(bytes).ok()).unwrap_or_default()
    }
}

impl Write for NodeName {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let end = self.length + text.len();
        self.bytes.get_mut(self.length..end).ok_or(core::fmt::Error)?.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}
