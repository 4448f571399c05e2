//! The table of docs/verification.md: what the test rigs ran, as they reported it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use figures::Figure;

use crate::{mutation, workspace};

/// Every rig that has to report. One that does not has not run, whatever the test harness says.
const RIGS: &[&str] = &[
    "QEMU kill campaign",
    "authority leak scan",
    "authority storage faults",
    "bits flipped in a journal",
    "bits flipped in an image's metadata",
    "bits flipped in signed messages",
    "constant time",
    "device leak scan, every step",
    "device leak scan, random cuts",
    "firmware built again",
    "fuzz corpora replayed",
    "image trees, against U-Boot",
    "instruction faults, stage0",
    "instruction faults, stage2",
    "kiln verify, against devices",
    "kiln verify, against stages in QEMU",
    "kiln verify, of packages, against stage1",
    "malformed fields of images, signed again",
    "malformed fields of journals, checksummed again",
    "malformed fields of messages, signed again",
    "model check",
    "power cuts, every operation",
    "power cuts, two in a row",
    "quota under fire, kills",
    "regressions of known shapes",
    "truncations of signed messages",
    "vectors, host",
    "vectors, target",
];

/// The test that holds the page's table of the short run against the rigs.
pub(crate) const OF_THE_TABLE: &str = "the_page_has_a_row_of_every_rig";

/// Returns the folder that figures are gathered in, empty.
pub(crate) fn folder() -> Result<PathBuf> {
    let folder = workspace::kiln_dir().join("figures");
    if folder.exists() {
        std::fs::remove_dir_all(&folder).with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    Ok(folder)
}

/// What the rigs ran, as a table in Markdown.
pub(crate) fn table(figures: &[Figure]) -> String {
    let mut table = String::from("| rig | ran | due | result | of this |\n|---|---:|---:|---|---|\n");
    for figure in figures {
        writeln!(table, "{}", row(figure)).expect("a string takes it");
    }
    table
}

/// One rig's row of the table.
fn row(figure: &Figure) -> String {
    let Figure { rig, unit, ran, due, violations, note } = figure;
    let result = match (figure.is_good(), violations) {
        (true, _) => "0 violations".to_owned(),
        (false, 0) => "**too few**".to_owned(),
        (false, violations) => format!("**{violations} violations**"),
    };
    let note = note.replace('|', "/").replace('\n', " ");
    format!("| {rig} | {ran} {unit} | {due} | {result} | {note} |")
}

/// Returns the table of long runs with these rigs' rows put in, each with the commit that it was made from, and names
/// the rigs that are in no row. A long run takes hours, so it can be made in parts.
fn long_table(old: &str, figures: &[Figure], commit: &str) -> String {
    let name = |row: &str| row.split('|').nth(1).unwrap_or_default().trim().to_owned();
    let mut rows: BTreeMap<String, String> = old
        .lines()
        .filter(|line| line.starts_with("| ") && name(line) != "rig")
        .map(|line| (name(line), line.to_owned()))
        .collect();
    for figure in figures {
        rows.insert(figure.rig.clone(), format!("{} {commit} |", row(figure)));
    }
    let missing: Vec<_> =
        RIGS.iter().chain([&mutation::RIG]).copied().filter(|rig| !rows.contains_key(*rig)).collect();
    let mut table =
        String::from("| rig | ran | due | result | of this | made from |\n|---|---:|---:|---|---|---|\n");
    for row in rows.values() {
        writeln!(table, "{row}").expect("a string takes it");
    }
    if !missing.is_empty() {
        write!(table, "\nWithout a long run until now: {}.\n", missing.join("; "))
            .expect("a string takes it");
    }
    table
}

/// Tells which rigs have not reported, of those of a short or of a long run.
pub(crate) fn missing(figures: &[Figure], long: bool) -> Vec<&'static str> {
    let only_long = long.then_some(mutation::RIG);
    RIGS.iter()
        .copied()
        .chain(only_long)
        .filter(|rig| figures.iter().all(|figure| figure.rig != *rig))
        .collect()
}

/// Puts these rigs' rows, made from this commit, into the table of long runs in docs/verification.md.
///
/// # Errors
/// If the document cannot be read or written, or has no place for it.
pub(crate) fn record_long(figures: &[Figure], commit: &str) -> Result<()> {
    let text = read()?;
    let (_, old, _) = parts(&text, "long")?;
    record(&long_table(old, figures, commit), "long")
}

/// Puts a table into docs/verification.md: that of `short` or of `long` runs, that of
/// `protections`, or that of `mutation` testing.
///
/// # Errors
/// If the document cannot be read or written, or has no place for it.
pub(crate) fn record(table: &str, name: &str) -> Result<()> {
    let text = replaced(&read()?, name, table)?;
    let path = path();
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn path() -> PathBuf {
    workspace::root().join("docs/verification.md")
}

fn read() -> Result<String> {
    let path = path();
    std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// Splits the document into what stands before, between and behind the markers of this name.
fn parts<'a>(text: &'a str, name: &str) -> Result<(&'a str, &'a str, &'a str)> {
    let [begin, end] = ["begin", "end"].map(|edge| format!("<!-- {name}: {edge} -->"));
    let Some((before, rest)) = text.split_once(&begin) else { bail!("docs/verification.md lacks `{begin}`") };
    let Some((between, after)) = rest.split_once(&end) else { bail!("docs/verification.md lacks `{end}`") };
    Ok((before, between, after))
}

/// Replaces what stands between the markers of this name.
pub(crate) fn replaced(text: &str, name: &str, with: &str) -> Result<String> {
    let (before, _, after) = parts(text, name)?;
    Ok(format!("{before}<!-- {name}: begin -->\n\n{with}\n<!-- {name}: end -->{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_says_what_is_too_little_or_wrong() {
        let figure = Figure::new("a rig", "cuts", 3).ran(3);
        let table = table(&[
            figure.clone().note("fine"),
            figure.clone().ran(2),
            figure.violations(&["one".into(), "two".into()]),
        ]);
        let lines: Vec<&str> = table.lines().skip(2).collect();
        assert_eq!(
            lines,
            [
                "| a rig | 3 cuts | 3 | 0 violations | fine |",
                "| a rig | 2 cuts | 3 | **too few** |  |",
                "| a rig | 3 cuts | 3 | **2 violations** |  |",
            ]
        );
    }

    #[test]
    fn a_rig_that_does_not_report_is_missed() {
        assert_eq!(missing(&[], false), RIGS);
        assert_eq!(missing(&[], true).last(), Some(&mutation::RIG));
        let all: Vec<_> = RIGS.iter().map(|rig| Figure::new(rig, "", 0)).collect();
        assert!(missing(&all, false).is_empty());
    }

    #[test]
    fn the_page_has_a_row_of_every_rig() {
        let page = read().unwrap();
        let short = parts(&page, "short").unwrap().1;
        let missing: Vec<&str> =
            RIGS.iter().copied().filter(|rig| !short.contains(&format!("\n| {rig} | "))).collect();
        assert_eq!(missing, [""; 0], "`cargo xtask test --record` writes a table of all rigs");
        let commit =
            short.split("Made from ").nth(1).and_then(|rest| rest.split_once('.')).map(|(commit, _)| commit);
        assert!(
            commit.is_some_and(|it| it.len() == 7 && it.chars().all(|digit| digit.is_ascii_hexdigit())),
            "{commit:?}"
        );
        assert!(!short.contains("**"), "the table is of a run that was good");
    }

    #[test]
    fn a_long_run_can_be_recorded_in_parts() {
        let part = |rig: &str, ran| Figure::new(rig, "cuts", 3).ran(ran).note("a | b");
        let first = long_table("", &[part("model check", 3), part("constant time", 4)], "c0ffee1");
        let both = long_table(&first, &[part("model check", 9), part("vectors, host", 5)], "badcafe");
        let rows: Vec<&str> = both.lines().skip(2).take_while(|line| !line.is_empty()).collect();
        assert_eq!(
            rows,
            [
                "| constant time | 4 cuts | 3 | 0 violations | a / b | c0ffee1 |",
                "| model check | 9 cuts | 3 | 0 violations | a / b | badcafe |",
                "| vectors, host | 5 cuts | 3 | 0 violations | a / b | badcafe |",
            ]
        );
        let missing = both.lines().last().unwrap();
        assert!(
            missing.contains("QEMU kill campaign;") && missing.ends_with("mutation testing."),
            "{missing}"
        );
        assert!(!missing.contains("model check"), "{missing}");
        let all: Vec<_> = RIGS.iter().chain([&mutation::RIG]).map(|rig| part(rig, 3)).collect();
        assert!(!long_table(&both, &all, "c0ffee1").contains("Without a long run"));
    }

    #[test]
    fn only_what_is_between_the_markers_is_replaced() {
        let text = "a\n<!-- short: begin -->\nold\n<!-- short: end -->\nz\n";
        let new = replaced(text, "short", "| new |\n").unwrap();
        assert_eq!(new, "a\n<!-- short: begin -->\n\n| new |\n\n<!-- short: end -->\nz\n");
        assert!(replaced(text, "long", "").is_err());
    }
}
