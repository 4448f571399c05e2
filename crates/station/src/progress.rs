//! What a person sees: a line for each device on a terminal, plain lines elsewhere.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::Event;

/// Shows how far each device has come, on standard error.
pub struct Display {
    bars: Option<(MultiProgress, Mutex<BTreeMap<String, ProgressBar>>)>,
    quiet: bool,
}

impl Display {
    /// Makes a display that draws over itself where standard error is a terminal and this is not CI.
    pub fn new() -> Self {
        let drawn = std::io::stderr().is_terminal() && std::env::var_os("CI").is_none();
        Self { bars: drawn.then(|| (MultiProgress::new(), Mutex::default())), quiet: false }
    }

    /// Makes a display that shows nothing.
    pub fn quiet() -> Self {
        Self { bars: None, quiet: true }
    }

    /// Shows an event.
    pub fn show(&self, device: &str, event: &Event) {
        if self.quiet {
            return;
        }
        let text = match event {
            Event::ChipId(id) => format!("die {id}"),
            Event::Began(step) => step.clone(),
            Event::Ended(step, 0) => format!("{step}: done"),
            Event::Ended(step, bytes) => format!("{step}: done, {}", size(*bytes)),
            Event::Asked(question) => format!("{} goes to the authority", question.name()),
            Event::Answered(question) => format!("{} is answered", question.name()),
            Event::Refused(refused) => format!("refused: {} {}", refused.code_text(), refused.cause()),
            Event::Done(_) => return self.end(device),
        };
        match &self.bars {
            None => eprintln!("  {device}: {text}"),
            Some((all, bars)) => {
                let mut bars = bars.lock().unwrap_or_else(PoisonError::into_inner);
                let bar = bars.entry(device.to_owned()).or_insert_with(|| bar(all, device));
                bar.set_message(text);
            }
        }
    }

    fn end(&self, device: &str) {
        if let Some((_, bars)) = &self.bars {
            let bar = bars.lock().unwrap_or_else(PoisonError::into_inner).remove(device);
            if let Some(bar) = bar {
                bar.finish_and_clear();
            }
        }
    }
}

impl Default for Display {
    fn default() -> Self {
        Self::new()
    }
}

fn bar(all: &MultiProgress, device: &str) -> ProgressBar {
    let bar = all.add(ProgressBar::new_spinner().with_prefix(device.to_owned()));
    if let Ok(style) = ProgressStyle::with_template("  {spinner} {prefix}: {msg} {elapsed:.dim}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

/// Formats a size in bytes for people.
fn size(bytes: u64) -> String {
    match bytes {
        0..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}
