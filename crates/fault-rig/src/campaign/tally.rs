//! What came of the faults.

use std::collections::BTreeMap;

use crate::fault::KINDS;

/// What came of the faults.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Faults by kind.
    pub ran: [u64; KINDS.len()],
    /// Those that changed what was executed or said.
    pub changed: [u64; KINDS.len()],
    /// By the way they ended.
    pub ends: BTreeMap<&'static str, u64>,
    /// Faults in the loops.
    pub loops: u64,
    /// What must never happen.
    pub violations: Vec<String>,
}

impl Tally {
    /// Adds another tally.
    pub fn add(&mut self, other: Self) {
        for kind in 0..KINDS.len() {
            self.ran[kind] += other.ran[kind];
            self.changed[kind] += other.changed[kind];
        }
        for (end, count) in other.ends {
            *self.ends.entry(end).or_default() += count;
        }
        self.loops += other.loops;
        self.violations.extend(other.violations);
    }

    /// Returns how many faults ran.
    pub fn total(&self) -> u64 {
        self.ran.iter().sum()
    }

    /// Returns how many changed what was executed or said.
    pub fn changed(&self) -> u64 {
        self.changed.iter().sum()
    }

    /// Says how many of which kind ran and what they did.
    pub fn note(&self) -> String {
        let kinds: Vec<String> = KINDS
            .iter()
            .zip(self.ran.iter().zip(self.changed))
            .map(|(kind, (ran, changed))| format!("{ran} {kind} {changed}"))
            .collect();
        let ends: Vec<String> = self.ends.iter().map(|(end, count)| format!("{count} {end}")).collect();
        format!(
            "{} changed execution, of {}; {} in loops of cryptography; {}",
            self.changed(),
            kinds.join(", "),
            self.loops,
            ends.join(", ")
        )
    }
}
