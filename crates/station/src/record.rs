//! What is known of a device at its end: one record.

use fail_code::FailCode;
use serde::{Deserialize, Serialize};

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The device is closed and has its certificate.
    Pass,
    /// Somebody refused to go on; [`Record::code`] says why.
    Refused,
}

/// A step that the device reported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Its name.
    pub name: String,
    /// When it began, in milliseconds since the station began with the device.
    pub start_ms: u64,
    /// When it ended; `null` if it did not.
    pub end_ms: Option<u64>,
    /// How long it took by the device's own counter, in microseconds.
    pub device_us: Option<u64>,
    /// Bytes that it converted; of the self-test, bytes of memory that it went through.
    pub bytes: u64,
}

/// The one record of a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// What the station calls the device.
    pub device: String,
    /// The die's id in hex, once a message named it.
    pub chip_id: Option<String>,
    /// How it ended.
    pub result: Outcome,
    /// The refusal code as printed, for instance `K1121`.
    pub code: Option<String>,
    /// What the code means, and what whoever refused added.
    pub cause: Option<String>,
    /// What the device did, in its order.
    pub steps: Vec<Step>,
}

impl Record {
    /// Returns the refusal code, if this release knows it.
    pub fn fail_code(&self) -> Option<FailCode> {
        self.code.as_deref().and_then(FailCode::parse)
    }
}

/// Names of the steps by the numbers that devices report.
const STEPS: [&str; 9] = [
    "self-test",
    "prove-place",
    "ask",
    "be-born",
    "re-key",
    "identity",
    "replace",
    "check-and-fuse",
    "prove-closed",
];

/// Returns the name of a step.
pub fn step_name(number: u8) -> String {
    STEPS.get(usize::from(number)).map_or_else(|| format!("step {number}"), |name| (*name).to_owned())
}

/// A refusal as records and people have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The number of the code.
    pub code: u16,
    /// What was added to it.
    pub text: String,
}

impl Refused {
    /// Makes a refusal of the station's own.
    pub fn new(code: FailCode, text: impl Into<String>) -> Self {
        Self { code: code.number(), text: text.into() }
    }

    /// Returns the code as printed.
    pub fn code_text(&self) -> String {
        format!("K{:04}", self.code)
    }

    /// Says in one line what the code means, and what was added.
    pub fn cause(&self) -> String {
        let known = FailCode::from_number(self.code)
            .map_or("a code that this release does not know", FailCode::cause);
        if self.text.is_empty() { known.to_owned() } else { format!("{known} ({})", self.text) }
    }
}
