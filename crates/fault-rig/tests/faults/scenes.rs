//! Which scenes have faults, and what a run of them has to come to.

use std::env;

use fault_rig::Tally;
use figures::{Figure, scaled};

/// The environment variable with a part of a name: then faults go into the scenes alone whose names have that part, the same faults
/// as when all have theirs.
const ONLY: &str = "KILN_FAULT_SCENES";

/// The environment variable with the number of places that each half of such a scene leaves out.
const FROM: &str = "KILN_FAULT_FROM";

/// How many violations of each half of a scene are told at once.
pub(crate) const TOLD: usize = 20;

/// Returns how many places each half of a scene leaves out.
pub(crate) fn from() -> usize {
    let from = env::var(FROM).ok().filter(|_| env::var_os(ONLY).is_some());
    from.map_or(0, |from| from.parse().expect("KILN_FAULT_FROM is a number of places"))
}

/// Tells whether faults go into the scene with this name.
pub(crate) fn is_wanted(name: &str) -> bool {
    env::var(ONLY).map_or(true, |part| name.contains(&part))
}

/// Reports a run. One of some scenes alone is no figure, but what it must not find is the same.
pub(crate) fn report(rig: &str, tally: &Tally) {
    if let Ok(part) = env::var(ONLY) {
        assert!(tally.total() > 0, "{rig}: no scene is named {part:?}, the part of a name in {ONLY}");
        eprintln!("{rig}, only {part:?}: {} faults; {}", tally.total(), tally.note());
        assert_eq!(tally.violations, [""; 0], "{rig}, only {part:?}");
        return;
    }
    let half = tally.total() / 2;
    assert!(tally.changed() > half, "faults that change nothing prove nothing: {}", tally.note());
    Figure::new(rig, "faults", scaled(20_000, 100_000))
        .ran(tally.total())
        .violations(&tally.violations)
        .note(tally.note())
        .report();
}
