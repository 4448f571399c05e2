//! Every vector through Kiln's functions on the host.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;

use figures::Figure;
use vectors::host::{Collection, HOST};
use vectors::{Group, List, check};

/// Runs with the interpreter that `KILN_PYTHON` names, which has `cryptography-vectors`; `cargo xtask test` provides one.
#[test]
fn every_published_vector_gives_what_it_lists_and_wrong_ones_are_noticed() {
    let python = std::env::var_os("KILN_PYTHON").expect(
        "KILN_PYTHON names an interpreter with cryptography-vectors: run `cargo xtask test`, which sets it up",
    );
    let all = Collection::gather(&PathBuf::from(python));
    let (list, controls) = all.list(&HOST);
    let controls: BTreeSet<usize> = controls.into_iter().collect();

    let mut violations = Vec::new();
    let mut tallies: BTreeMap<Group, (u64, u64, u64)> = BTreeMap::new();
    for (place, vector) in List::new(&list).enumerate() {
        let vector = vector.unwrap();
        let checked = check(&vector, &HOST);
        let (vectors, runs, noticed) = tallies.entry(vector.group).or_default();
        if controls.contains(&place) {
            assert!(checked.wrong > 0, "control {place}: {vector:x?}");
            *noticed += 1;
        } else if checked.is_right() {
            *vectors += 1;
            *runs += u64::from(checked.runs);
        } else {
            violations.push(format!("vector {place}, {checked:?}: {vector:x?}"));
        }
    }

    let mut note = String::new();
    let (mut distinct, mut ran) = (0, 0);
    for group in Group::ALL {
        let (vectors, runs, noticed) = tallies.get(&group).copied().unwrap_or_default();
        assert!(vectors > 0 && noticed > 0, "{group:?}: {vectors} vectors, {noticed} controls");
        write!(note, "{} {vectors} ({runs}), ", group.name()).unwrap();
        (distinct, ran) = (distinct + vectors, ran + runs);
    }
    let noticed: u64 = tallies.values().map(|(_, _, noticed)| noticed).sum();
    assert_eq!(noticed, controls.len() as u64);
    let repeated: u64 = all.repeated.values().sum();
    let skipped: u64 = all.skipped.values().sum();
    let reasons: Vec<String> =
        all.skipped.iter().map(|((group, why), count)| format!("{count} {}: {why}", group.name())).collect();
    let note = format!(
        "{distinct} distinct vectors, each through every function that takes it: {note}{noticed} wrong on purpose, all noticed; \
         {repeated} listed twice; {skipped} skipped: {}",
        reasons.join(", ")
    );
    Figure::new("vectors, host", "runs of vectors", 20_000)
        .ran(ran)
        .violations(&violations)
        .note(note)
        .report();
}
