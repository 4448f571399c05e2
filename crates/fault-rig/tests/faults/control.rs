//! What the controls have in common: stages that look once, which have to fall.

use fault_rig::{Share, Tally};

/// What the controls run: what is skipped and inverted where three scenes are decided. What they find is no news.
pub(crate) const OF_CONTROLS: Share = Share {
    inverted: 0,
    skipped: 0,
    both_ends: false,
    places: 1,
    bits: u64::MAX,
    bits_near: u64::MAX,
    bits_last: 0,
    looped_scenes: 0,
    loops: u64::MAX,
    from: 0,
    told: 0,
    seed: 1,
};

/// Asserts that a control fell: that faults made it execute something at an address that starts so.
pub(crate) fn assert_fell(tally: &Tally, executed: &str) {
    let executed = format!("executed {executed}");
    let booted = tally.violations.iter().filter(|violation| violation.contains(&executed)).count();
    let (total, first) = (tally.total(), tally.violations.first());
    eprintln!("control: {booted} of {total} faults boot what is bad, as {first:?}; {}", tally.note());
    assert!(booted > 0, "the rig does not see what it is there to see: {:?}", tally.violations);
}
