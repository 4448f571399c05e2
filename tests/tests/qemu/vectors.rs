//! Published vectors on the device: `crates/board-qemu-virt/examples/conformance/vectors.rs` holds them against Kiln's
//! cryptography as the stages have it, with the processor's instructions for AES and SHA-2. stage0 starts it in the place
//! of stage2.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use figures::Figure;
use memory_map::qemu_virt::OS_LOAD;
use tests::verdict::numbers;
use tests::{Device, Maker};
use vectors::host::Collection;
use vectors::{Functions, Group, List};

const WITHIN: Duration = Duration::from_secs(300);

#[test]
fn every_published_vector_gives_what_it_lists_on_the_device_and_wrong_ones_are_noticed() {
    let python = std::env::var_os("KILN_PYTHON").expect(
        "KILN_PYTHON names an interpreter with cryptography-vectors: run `cargo xtask test`, which sets it up",
    );
    let all = Collection::gather(&PathBuf::from(python));
    let (list, controls) = all.list(&Functions::DEVICE);
    let controls: BTreeSet<usize> = controls.into_iter().collect();
    let groups: Vec<Group> = List::new(&list).map(|vector| vector.unwrap().group).collect();

    let maker = Maker::development();
    let text = Device::running(&maker, "conformance-vectors").loaded(OS_LOAD, &list).run(|machine| {
        machine.console.wait_for_line("VECTORS done ", 0, WITHIN).unwrap_or_else(|error| panic!("{error}"));
        machine.wait_power_off(WITHIN).unwrap();
        machine.console.text()
    });
    assert!(text.contains(&format!("VECTORS done {}\r\n", groups.len())), "{text}");

    let places = text.lines().filter_map(|line| line.strip_prefix("VECTORS differs "));
    let different: BTreeSet<usize> = places.map(|place| place.parse().unwrap()).collect();
    let mut violations: Vec<String> = Vec::new();
    for (place, vector) in List::new(&list).enumerate() {
        match (different.contains(&place), controls.contains(&place)) {
            (true, false) => violations.push(format!("vector {place}: {:x?}", vector.unwrap())),
            (false, true) => {
                violations.push(format!("control {place} was not noticed: {:x?}", vector.unwrap()))
            }
            _ => {}
        }
    }

    let mut note = String::new();
    let mut ran = 0;
    for group in Group::ALL.into_iter().filter(|group| groups.contains(group)) {
        // Vectors, runs, and those that differ.
        let [vectors, runs, wrong] = numbers(&text, &format!("VECTORS group {} ", group as u8));
        let listed = groups.iter().filter(|other| **other == group).count() as u64;
        assert!(vectors == listed && wrong > 0 && runs >= vectors, "{group:?}: {listed} listed\n{text}");
        write!(note, "{} {}, ", group.name(), vectors - wrong).unwrap();
        ran += vectors - wrong;
    }
    let note = format!("{note}{} wrong on purpose, all noticed", controls.len());
    Figure::new("vectors, target", "distinct vectors", 3_000)
        .ran(ran)
        .violations(&violations)
        .note(note)
        .report();
}
