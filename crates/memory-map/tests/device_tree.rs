//! The board's device tree, compiled by dtc, against the memory map.

use fdt::Fdt;
use memory_map::{Region, qemu_virt as board};
use std::{env, process::Command};

/// Compiles the tree; a machine without dtc fails the test rather than skip it.
fn compile() -> Vec<u8> {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../../dts/qemu-virt.dts");
    let dtc = env::var_os("KILN_DTC").unwrap_or_else(|| "dtc".into());
    let output = Command::new(&dtc).args(["-I", "dts", "-O", "dtb", source]).output();
    let output = output.unwrap_or_else(|error| {
        panic!("cannot run {dtc:?}: {error}; install device-tree-compiler, or name dtc in KILN_DTC")
    });
    let messages = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && messages.is_empty(), "dtc says:\n{messages}");
    output.stdout
}

/// Returns every region of a node.
fn regions(node: fdt::node::FdtNode<'_, '_>) -> Vec<Region> {
    let region = |r: fdt::standard_nodes::MemoryRegion| {
        Region::new(r.starting_address as u64, r.size.expect("a region has a size") as u64)
    };
    node.reg().into_iter().flatten().map(region).collect()
}

/// Returns the regions of the nodes compatible with `compatible`, in order of address.
fn find(tree: &Fdt<'_>, compatible: &str) -> Vec<Vec<Region>> {
    let is_it = |node: &fdt::node::FdtNode<'_, '_>| {
        node.compatible().is_some_and(|names| names.all().any(|name| name == compatible))
    };
    let mut found: Vec<_> = tree.all_nodes().filter(is_it).map(regions).collect();
    found.sort_by_key(|regions| regions.first().map(|region| region.base));
    found
}

#[test]
fn the_device_tree_and_the_memory_map_agree() {
    let blob = compile();
    let tree = Fdt::new(&blob).expect("dtc makes valid blobs");
    for (compatible, expected) in [
        ("arm,pl011", vec![board::UART0]),
        ("arm,gic-v3", vec![board::GICD, board::GICR]),
        ("cfi-flash", vec![board::FLASH1]),
        ("arm,pl031", vec![board::RTC]),
    ] {
        assert_eq!(find(&tree, compatible), [expected], "{compatible}");
    }
    let transports = board::VIRTIO.size / board::VIRTIO_STRIDE;
    let expected: Vec<_> = (0..transports)
        .map(|n| vec![board::VIRTIO.part(n * board::VIRTIO_STRIDE, board::VIRTIO_STRIDE)])
        .collect();
    assert_eq!(expected.len(), 32);
    assert_eq!(find(&tree, "virtio,mmio"), expected);

    let memory: Vec<_> =
        tree.all_nodes().filter(|node| node.name.starts_with("memory")).map(regions).collect();
    assert_eq!(memory, [[Region::new(board::DRAM_BASE, board::DRAM_MIN)]]);
    let stdout = tree.find_node("/chosen").and_then(|node| node.property("stdout-path")?.as_str());
    assert_eq!(stdout, Some("serial0:115200n8"));
    let console = tree.find_node("serial0").expect("an alias of the console");
    assert_eq!(regions(console), [board::UART0]);
}

#[test]
fn every_core_that_kiln_serves_starts_through_psci_by_smc() {
    let blob = compile();
    let tree = Fdt::new(&blob).expect("dtc makes valid blobs");
    assert_eq!(tree.cpus().count(), board::MAX_CORES);
    for (n, cpu) in tree.cpus().enumerate() {
        assert_eq!(cpu.ids().first(), n);
        let text = |name| cpu.properties().find(|property| property.name == name).and_then(|p| p.as_str());
        assert_eq!((text("enable-method"), text("status")), (Some("psci"), Some("okay")), "core {n}");
    }
    assert!(board::MAX_CORES as u64 * board::GICR_STRIDE <= board::GICR.size);
    let psci = tree.find_node("/psci").expect("a PSCI node");
    assert_eq!(psci.property("method").and_then(|method| method.as_str()), Some("smc"));
}

#[test]
fn nothing_secure_and_nothing_unsigned_is_shown_to_linux() {
    let blob = compile();
    let tree = Fdt::new(&blob).expect("dtc makes valid blobs");
    let hidden = [
        ("flash0", board::FLASH0),
        ("the OTP bank", board::OTP),
        ("secure RAM", board::SECURE_RAM),
        ("UART1", board::UART1),
        ("the secure GPIO", board::SECURE_GPIO),
    ];
    let mut looked_at = 0;
    for node in tree.all_nodes() {
        // A core's `reg` is its number, not an address.
        if node.name.starts_with("cpu@") {
            continue;
        }
        for region in regions(node) {
            looked_at += 1;
            for (name, secure) in hidden {
                assert!(!region.overlaps(&secure), "{} shows {name}", node.name);
            }
        }
        let compatible = node.compatible().map_or("", |names| names.first());
        assert!(!compatible.contains("fw-cfg") && !compatible.contains("pci"), "{}", node.name);
        assert!(node.property("secure-status").is_none(), "{}", node.name);
    }
    // Memory, distributor, redistributors, ITS, flash1, UART0, RTC, GPIO, 32 transports.
    assert_eq!(looked_at, 40);
    assert!(tree.find_node("/secure-chosen").is_none());
}
