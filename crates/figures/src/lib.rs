//! How much a test rig ran.
//!
//! A rig that looks for what must never happen passes most easily by not looking. So each says how much it did: it makes a
//! [`Figure`], which holds how much is due, and reports it at the end. A report of too little, or of a violation, fails
//! the test. `cargo xtask test` gathers the figures, fails if one that it knows of is missing, and shows them as a table.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The environment variable that asks for the long runs.
pub const LONG: &str = "KILN_LONG";
/// The environment variable with the folder that figures are written to.
pub const FOLDER: &str = "KILN_FIGURES";

/// Tells whether the long runs are wanted.
pub fn is_long() -> bool {
    std::env::var_os(LONG).is_some()
}

/// Returns `long` in a long run, `short` else.
pub fn scaled<T>(short: T, long: T) -> T {
    if is_long() { long } else { short }
}

/// What one rig ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figure {
    /// The rig.
    pub rig: String,
    /// What it counts.
    pub unit: String,
    /// How many it ran.
    pub ran: u64,
    /// How many are due.
    pub due: u64,
    /// How often what must never happen has happened.
    pub violations: u64,
    /// Of what kinds they were, or whatever else tells that they were real.
    pub note: String,
}

impl Figure {
    /// Makes the figure of a rig that has run nothing yet, and has to run at least `due` of `unit`.
    pub fn new(rig: &str, unit: &str, due: u64) -> Self {
        Self { rig: rig.into(), unit: unit.into(), ran: 0, due, violations: 0, note: String::new() }
    }

    /// Says how many ran.
    #[must_use]
    pub fn ran(self, ran: u64) -> Self {
        Self { ran, ..self }
    }

    /// Says which violations there were, and prints the first of them.
    #[must_use]
    pub fn violations(self, violations: &[String]) -> Self {
        violations.iter().take(20).for_each(|violation| eprintln!("VIOLATION {}: {violation}", self.rig));
        Self { violations: violations.len() as u64, ..self }
    }

    /// Adds what else the reader should know.
    #[must_use]
    pub fn note(self, note: impl Into<String>) -> Self {
        Self { note: note.into(), ..self }
    }

    /// Tells whether enough ran and nothing was found.
    pub fn is_good(&self) -> bool {
        self.ran >= self.due && self.violations == 0
    }

    /// Prints the figure and writes it where the test command gathers it, if that is what runs.
    ///
    /// # Panics
    /// If too little ran or something was found: then the test that reports it fails. Also if it cannot be written.
    pub fn report(&self) {
        eprintln!(
            "FIGURE {}: {} of {} {}, {} violations; {}",
            self.rig, self.ran, self.due, self.unit, self.violations, self.note
        );
        if let Some(folder) = std::env::var_os(FOLDER) {
            self.write(&PathBuf::from(folder)).expect("the figure is written");
        }
        assert!(self.is_good(), "{self:?}");
    }

    fn write(&self, folder: &Path) -> std::io::Result<()> {
        let name: String =
            self.rig.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        std::fs::create_dir_all(folder)?;
        std::fs::write(folder.join(name + ".json"), serde_json::to_vec_pretty(self)?)
    }
}

/// Reads the figures in a folder, by name of the rig. A folder that does not exist holds none.
///
/// # Errors
/// If one cannot be read.
pub fn gather(folder: &Path) -> std::io::Result<Vec<Figure>> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut figures = Vec::new();
    for entry in entries {
        figures.push(serde_json::from_slice::<Figure>(&std::fs::read(entry?.path())?)?);
    }
    figures.sort_by(|a, b| a.rig.cmp(&b.rig));
    Ok(figures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_gathered_as_they_were_written() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(gather(&folder.path().join("none")).unwrap(), []);
        let figures = ["b: two", "a"]
            .map(|rig| Figure::new(rig, "cuts", 3).ran(4).violations(&["one".into()]).note("all \"kinds\""));
        figures.iter().for_each(|figure| figure.write(folder.path()).unwrap());
        let [b, a] = figures;
        assert_eq!(gather(folder.path()).unwrap(), [a, b]);
        std::fs::write(folder.path().join("x.json"), "{}").unwrap();
        assert!(gather(folder.path()).is_err());
    }

    #[test]
    fn too_little_or_a_violation_is_not_good() {
        let due = Figure::new("rig", "cuts", 3);
        assert!(!due.is_good() && !due.clone().ran(2).is_good());
        assert!(due.clone().ran(3).is_good() && !due.ran(3).violations(&["one".into()]).is_good());
    }
}
