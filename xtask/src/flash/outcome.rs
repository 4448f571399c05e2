//! What a person reads at the end, and the picture.

use std::fmt::Write as _;
use std::time::Duration;

use emulator::{End, Picture, TimelineEntry};

use super::package::Prepared;
use super::provision::Provisioned;
use super::report::{FlashReport, Protection};
use crate::{boot_report, progress};

/// Says what became of the device.
pub(super) fn summary(report: &FlashReport, provisioned: &Provisioned, package: &Prepared) -> String {
    let mut text = String::from("The device");
    let mut line = |name: &str, value: String| {
        let _ = write!(text, "\n  {name:<16} {value}");
    };
    line("chip id", report.chip_id.clone().unwrap_or_default());
    line("lifecycle", report.lifecycle.clone().unwrap_or_default());
    line("package", package.id());
    if let Some(lot) = &report.authority {
        line("lot", lot.to_string());
    }
    if report.rekeyed_bytes > 0 {
        line(
            "re-keyed",
            format!("{} under keys that only this die has", progress::bytes(report.rekeyed_bytes)),
        );
    }
    line("fuses", format!("{} rows burned since fabrication", report.fuse_rows_burned));
    if let Some(subject) = report.certificate_chain_pem.as_ref().and(report.chip_id.as_ref()) {
        line("certificate", format!("CN=kiln-{subject}, stored on the device and in the report"));
    }
    let modelled = report.protections.iter().filter(|(_, kind)| **kind == Protection::Modelled);
    line("only modelled", modelled.map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", "));
    match (&report.code, &provisioned.record.cause) {
        (Some(code), cause) => {
            line("refused", format!("{code} {}", cause.as_deref().unwrap_or_default()));
            line("", format!("cause and cure: `cargo xtask explain {code}`"));
        }
        (None, _) => line("boots", boot_report::outcome(&provisioned.boot)),
    }
    text
}

/// Says what to do next.
pub(super) fn next(option: &str, done: bool) -> String {
    if !done {
        return progress::commands(&[
            (&format!("flash{option}"), "goes on from where it was, once the cause is mended"),
            (&format!("flash{option} --new"), "takes a new die, where this one is scrap"),
        ]);
    }
    progress::commands(&[
        (&format!("run{option}"), "its console"),
        (&format!("run{option} --headless"), "the same boot, watched"),
        ("flash --device NAME", "another device from the same package, with keys of its own"),
        (&format!("bench{option}"), "how fast it boots, against U-Boot"),
    ])
}

impl Provisioned {
    /// Draws what happened from power-on to the end.
    pub(super) fn picture(&self, device: &str) -> Picture {
        let steps =
            self.record.steps.iter().filter(|step| step.name != PROVE_CLOSED).map(|step| TimelineEntry {
                stage: "stage1-provision".into(),
                step: step.name.clone(),
                start_us: step.start_ms * 1000,
                end_us: step.end_ms.unwrap_or(step.start_ms) * 1000,
            });
        let reset = micros(self.last_reset);
        let boot = self.boot.timeline.iter().map(|entry| TimelineEntry {
            start_us: reset + entry.start_us,
            end_us: reset + entry.end_us,
            ..entry.clone()
        });
        let timeline: Vec<_> = steps.chain(boot).collect();
        let last = timeline.iter().map(|entry| entry.end_us).max().unwrap_or(0);
        let end = match (&self.boot.code, self.boot.reset_to_kernel_us) {
            (Some(code), _) => Some(End { at_us: last, label: format!("refused: {code}"), bad: true }),
            (None, Some(us)) => Some(End { at_us: reset + us, label: "guest entered".into(), bad: false }),
            (None, None) => None,
        };
        let result = match &self.boot.code {
            Some(code) => format!("refused, {code}"),
            None => self.boot.result.to_string(),
        };
        let facts = [
            self.record.chip_id.as_ref().map(|id| format!("die {id}")),
            self.boot.board.clone(),
            self.boot.lifecycle.clone(),
            Some(format!("{} reset(s)", self.resets)),
        ];
        Picture {
            title: format!("Kiln provisioning of {device}: {result}"),
            subtitle: facts.into_iter().flatten().collect::<Vec<_>>().join(" · "),
            timeline,
            end,
        }
    }
}

/// The step that runs in the production stage, whose own record shows it too.
const PROVE_CLOSED: &str = "prove-closed";

/// Draws that nothing was done.
pub(super) fn empty_picture(device: &str, why: &str) -> Picture {
    let title = format!("Kiln provisioning of {device}: refused");
    Picture { title, subtitle: why.into(), timeline: Vec::new(), end: None }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
