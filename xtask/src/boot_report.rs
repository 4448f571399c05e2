//! The summary of a boot for people, and the report for machines.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use emulator::{Outcome, Report};

use crate::progress;

/// Writes the report as JSON to `file`, and the timeline next to it as SVG.
///
/// # Errors
/// If a file cannot be written.
pub fn write(report: &Report, file: &Path) -> Result<()> {
    if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    fs::write(file, report.to_json() + "\n").with_context(|| format!("cannot write {}", file.display()))?;
    let picture = file.with_extension("svg");
    fs::write(&picture, emulator::timeline_svg(report))
        .with_context(|| format!("cannot write {}", picture.display()))
}

/// Formats what happened, step by step.
pub fn summary(report: &Report) -> String {
    let mut lines = Vec::new();
    for entry in &report.timeline {
        let took = Duration::from_micros(entry.end_us.saturating_sub(entry.start_us));
        let took = format!("{:.1} ms", took.as_secs_f64() * 1e3);
        lines.push(format!("  {:<18} {:<34} {took:>10}", entry.stage, entry.step));
    }
    for image in &report.images {
        let (stored, plain) = (progress::bytes(image.stored_bytes), progress::bytes(image.plain_bytes));
        let digest = image.digest.get(..16).unwrap_or(&image.digest);
        lines.push(format!(
            "  {:<18} {:<34} {stored:>10} stored, {plain} plain, digest {digest}…",
            image.kind, image.version
        ));
    }
    for (slot, code) in [("boot", &report.fallback_code), ("OS", &report.os_fallback_code)] {
        if let Some(code) = code {
            lines.push(format!(
                "  the other {slot} slot was passed over with {code}: `cargo xtask explain {code}`"
            ));
        }
    }
    lines.push(format!("  {}", outcome(report)));
    lines.join("\n")
}

/// Says in one line how a boot ended.
pub fn outcome(report: &Report) -> String {
    let detail = report.detail.as_deref().unwrap_or_default();
    match report.result {
        Outcome::LinuxUserspace | Outcome::Payload => {
            let what = match &report.kernel_version {
                Some(version) => format!("Linux {version} in user space"),
                None => "the payload runs".into(),
            };
            let cpus = report.cpus_online.map_or_else(String::new, |cpus| format!(", {cpus} cores"));
            let guest = report
                .reset_to_kernel_us
                .map_or_else(String::new, |us| format!(", {:.0} ms from reset to kernel", us as f64 / 1e3));
            format!("{what}{cpus}{guest}")
        }
        Outcome::Refused => {
            let code = report.code.as_deref().unwrap_or("an unknown code");
            let name = report.code_name.as_deref().unwrap_or("unknown to this release");
            let stage = report.stage.as_deref().unwrap_or("a stage");
            format!("{stage} refused with {code} ({name}). Cause and cure: `cargo xtask explain {code}`")
        }
        Outcome::Timeout => format!("nothing was reached: {detail}"),
    }
}
