#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod capture;
mod config;
mod error;
mod machine;
mod observe;
mod process;
mod qmp;
mod report;
mod terminal;
mod timeline;

pub use capture::{Capture, Match};
pub use config::{Entropy, MachineConfig, Writes};
pub use error::Error;
pub use machine::Machine;
pub use observe::{Expectation, FIRST_KERNEL_LINE, boot_and_observe};
pub use qmp::{Event, Qmp};
pub use report::{ImageEntry, MeasurementEntry, Outcome, Report, TimelineEntry};
pub use terminal::{TerminalEnd, attach_terminal};
pub use timeline::{End, Picture, timeline_svg};
