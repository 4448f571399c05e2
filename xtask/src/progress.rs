//! Progress: a spinner on a terminal, plain lines elsewhere. All of it goes to standard error, so that what a
//! command prints for machines can be piped.

use std::borrow::Cow;
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// One piece of work that may take more than two seconds. Dropped without [`Step::done`] or [`Step::note`], it
/// is shown as failed.
pub struct Step {
    what: Cow<'static, str>,
    started: Instant,
    bar: Option<ProgressBar>,
    ended: bool,
}

/// Tells whether progress may be drawn over itself: standard error is a terminal, and this is not CI.
pub fn interactive() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("CI").is_none()
}

impl Step {
    /// Starts a step; `what` is a short phrase such as `building stage0`.
    pub fn start(what: impl Into<Cow<'static, str>>) -> Self {
        let what = what.into();
        let bar = interactive().then(|| {
            let bar = ProgressBar::new_spinner().with_message(what.to_string());
            if let Ok(style) = ProgressStyle::with_template("  {spinner} {msg} {elapsed:.dim}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Self { what, started: Instant::now(), bar, ended: false }
    }

    /// Shows where a long step stands, on a terminal.
    pub fn at(&self, detail: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{}: {detail}", self.what));
        }
    }

    /// Ends the step well. `result` is what came out of it, or empty.
    pub fn done(mut self, result: &str) {
        self.end("ok  ", result);
    }

    /// Ends the step with a remark: it did not do what it was meant to, and the work goes on without it.
    pub fn note(mut self, remark: &str) {
        self.end("note", remark);
    }

    fn end(&mut self, mark: &str, result: &str) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.ended = true;
        let took = seconds(self.started.elapsed());
        let colon = if result.is_empty() { "" } else { ": " };
        eprintln!("  {mark} {}{colon}{result} ({took})", self.what);
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if !self.ended {
            self.end("FAIL", "");
        }
    }
}

/// Formats what a person may type next: a table of `cargo xtask` commands and what each does.
pub fn commands(rows: &[(&str, &str)]) -> String {
    let width = rows.iter().map(|(command, _)| command.len()).max().unwrap_or(0);
    let lines: Vec<String> =
        rows.iter().map(|(command, what)| format!("  cargo xtask {command:<width$}  {what}")).collect();
    lines.join("\n")
}

/// Formats a duration for people.
pub fn seconds(duration: Duration) -> String {
    match duration.as_secs() {
        0 => format!("{} ms", duration.as_millis()),
        1..60 => format!("{:.1} s", duration.as_secs_f64()),
        s => format!("{} min {:02} s", s / 60, s % 60),
    }
}

/// Formats a size in bytes for people.
pub fn bytes(size: u64) -> String {
    match size {
        0..1024 => format!("{size} B"),
        1024..1_048_576 => format!("{:.1} KiB", size as f64 / 1024.0),
        _ => format!("{:.1} MiB", size as f64 / 1_048_576.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_stand_in_columns() {
        assert_eq!(
            commands(&[("run", "boots it"), ("flash --new", "makes another")]),
            "  cargo xtask run          boots it\n  cargo xtask flash --new  makes another"
        );
    }

    #[test]
    fn durations_and_sizes_read_well() {
        assert_eq!(seconds(Duration::from_millis(412)), "412 ms");
        assert_eq!(seconds(Duration::from_millis(2_340)), "2.3 s");
        assert_eq!(seconds(Duration::from_secs(125)), "2 min 05 s");
        assert_eq!(bytes(17), "17 B");
        assert_eq!(bytes(64 * 1024), "64.0 KiB");
        assert_eq!(bytes(33 << 20), "33.0 MiB");
    }
}
