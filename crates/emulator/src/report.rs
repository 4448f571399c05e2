//! What a boot did, as people and machines read it.

use boot_info::record::BootRecord;
use boot_info::{Stage, Step};
use fail_code::FailCode;
use lifecycle::Lifecycle;
use sealed_image::Kind;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// How a boot ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Linux is in user space, and proved it with the token from its encrypted initramfs.
    LinuxUserspace,
    /// The bare-metal payload runs, and proved it with its token.
    Payload,
    /// A stage refused to go on; [`Report::code`] says why.
    Refused,
    /// Neither came about; [`Report::detail`] says what was heard instead.
    Timeout,
}

impl Outcome {
    /// Returns the name used in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LinuxUserspace => "linux-userspace",
            Self::Payload => "payload",
            Self::Refused => "refused",
            Self::Timeout => "timeout",
        }
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// One step of a stage, in microseconds of guest time since reset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimelineEntry {
    /// Name of the stage.
    pub stage: String,
    /// What it did.
    pub step: String,
    /// When it began to.
    pub start_us: u64,
    /// When it was done.
    pub end_us: u64,
}

/// One image that was verified and opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageEntry {
    /// The kind of image.
    pub kind: String,
    /// Its version, `major.minor.patch`.
    pub version: String,
    /// Bytes in storage, metadata included.
    pub stored_bytes: u64,
    /// Bytes of the payload once opened.
    pub plain_bytes: u64,
    /// The signed digest of the payload, in hex.
    pub digest: String,
}

/// One measurement, in the order in which they were made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeasurementEntry {
    /// The kind of image measured.
    pub kind: String,
    /// SHA-256 of its signed manifest, in hex.
    pub digest: String,
}

/// What a boot did. Results, codes, times, images and measurements come from the boot record, which the normal
/// world cannot forge; whether user space was reached comes from a secret token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// How it ended.
    pub result: Outcome,
    /// The refusal code as printed, for instance `K0302`.
    pub code: Option<String>,
    /// Its name, for instance `signature-invalid`.
    pub code_name: Option<String>,
    /// The stage that refused, or that entered the kernel.
    pub stage: Option<String>,
    /// What else is to be said, in one line.
    pub detail: Option<String>,
    /// The board's name.
    pub board: Option<String>,
    /// The lifecycle, as fused.
    pub lifecycle: Option<String>,
    /// Cores that the kernel or the payload has brought up.
    pub cpus_online: Option<u32>,
    /// The kernel's own version.
    pub kernel_version: Option<String>,
    /// Whether a token was seen and is the expected one; null if none was seen or expected.
    pub token_matched: Option<bool>,
    /// Guest counter at kernel entry, in microseconds since reset.
    pub reset_to_kernel_us: Option<u64>,
    /// Host time from the start of the emulator's process, or from the reset, to the kernel's first line.
    pub host_reset_to_kernel_ms: Option<f64>,
    /// Host time from the same moment to the line that proves user space or payload.
    pub host_reset_to_userspace_ms: Option<f64>,
    /// Boot slot the stage came from: `A` or `B`.
    pub slot: Option<String>,
    /// Code for which the other boot slot was passed over.
    pub fallback_code: Option<String>,
    /// OS slot: `A` or `B`.
    pub os_slot: Option<String>,
    /// Code for which the other OS slot was passed over.
    pub os_fallback_code: Option<String>,
    /// Cores that took part in the boot itself.
    pub boot_cores: Option<u32>,
    /// What took how long.
    pub timeline: Vec<TimelineEntry>,
    /// Images verified and opened.
    pub images: Vec<ImageEntry>,
    /// What was measured.
    pub measurements: Vec<MeasurementEntry>,
    /// The emulator's version.
    pub qemu_version: Option<String>,
    /// Where the whole console output was written.
    pub console_log: Option<PathBuf>,
    /// Console output of this boot.
    #[serde(skip)]
    pub console: String,
}

impl Report {
    /// Makes a report that knows nothing yet.
    pub(crate) fn empty() -> Self {
        Self {
            result: Outcome::Timeout,
            code: None,
            code_name: None,
            stage: None,
            detail: None,
            board: None,
            lifecycle: None,
            cpus_online: None,
            kernel_version: None,
            token_matched: None,
            reset_to_kernel_us: None,
            host_reset_to_kernel_ms: None,
            host_reset_to_userspace_ms: None,
            slot: None,
            fallback_code: None,
            os_slot: None,
            os_fallback_code: None,
            boot_cores: None,
            timeline: Vec::new(),
            images: Vec::new(),
            measurements: Vec::new(),
            qemu_version: None,
            console_log: None,
            console: String::new(),
        }
    }

    /// Returns the refusal code, if the boot was refused and the code is known to this release.
    pub fn fail_code(&self) -> Option<FailCode> {
        self.code.as_deref().and_then(FailCode::parse)
    }

    /// Returns the report as JSON.
    pub fn to_json(&self) -> String {
        // Strings, numbers and lists only: nothing that JSON cannot hold.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// Fills in what the boot record says. Times are counted from `reset_ticks` of the guest's counter, which a
    /// reset does not set back.
    pub(crate) fn take_record(&mut self, record: &BootRecord, reset_ticks: u64) {
        let micros = |ticks: u64| micros(ticks.saturating_sub(reset_ticks), record.counter_hz);
        let refused = record.code != 0;
        self.code = refused.then(|| code_text(record.code));
        self.code_name =
            FailCode::from_number(record.code).filter(|_| refused).map(|code| code.name().to_owned());
        self.stage = Some(stage_name(record.stage));
        self.board = Some(padded_text(&record.board));
        self.lifecycle = lifecycle_name(record.lifecycle);
        self.slot = Some(slot_name(record.slot));
        self.fallback_code = Some(record.fallback_code).filter(|code| *code != 0).map(code_text);
        self.boot_cores = Some(u32::from(record.cores)).filter(|cores| *cores != 0);
        if !refused {
            self.os_slot = Some(slot_name(record.os_slot));
            self.reset_to_kernel_us = Some(micros(record.end));
        }
        self.os_fallback_code = Some(record.os_fallback_code).filter(|code| *code != 0).map(code_text);
        self.timeline = record
            .timestamps
            .as_slice()
            .iter()
            .map(|stamp| TimelineEntry {
                stage: stage_name(stamp.stage),
                step: step_name(stamp.step),
                start_us: micros(stamp.start),
                end_us: micros(stamp.end),
            })
            .collect();
        for image in record.images.as_slice() {
            let kind = kind_name(image.kind);
            self.measurements.push(MeasurementEntry { kind: kind.clone(), digest: hex(&image.measurement) });
            self.images.push(ImageEntry {
                kind,
                version: version_text(image.version),
                stored_bytes: image.stored_bytes,
                plain_bytes: image.plain_bytes,
                digest: hex(&image.plain_digest),
            });
        }
    }
}

/// Converts counter ticks to whole microseconds; 0 if the frequency is not known.
fn micros(ticks: u64, hz: u64) -> u64 {
    let micros = u128::from(ticks) * 1_000_000;
    micros.checked_div(u128::from(hz)).and_then(|it| u64::try_from(it).ok()).unwrap_or(0)
}

fn code_text(number: u16) -> String {
    format!("K{number:04}")
}

fn stage_name(number: u8) -> String {
    Stage::from_number(number).map_or_else(|| format!("stage {number}"), |stage| stage.name().to_owned())
}

fn step_name(number: u8) -> String {
    Step::from_number(number).map_or_else(|| format!("step {number}"), |step| step.name().to_owned())
}

fn slot_name(number: u8) -> String {
    match number {
        0 => "A".into(),
        1 => "B".into(),
        other => format!("slot {other}"),
    }
}

fn kind_name(number: u8) -> String {
    Kind::from_number(number).map_or_else(|| format!("kind {number}"), |kind| kind.name().to_owned())
}

/// In a record, 0 stands for fuses that could not be read.
fn lifecycle_name(word: u32) -> Option<String> {
    let known = Lifecycle::from_word(word).map(|lifecycle| lifecycle.name().to_owned());
    (word != 0).then(|| known.unwrap_or_else(|| format!("unknown {word:#010x}")))
}

fn padded_text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned()
}

fn version_text(version: u64) -> String {
    format!("{}.{}.{}", version >> 48, (version >> 32) & 0xFFFF, version & 0xFFFF_FFFF)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use boot_info::{ImageRecord, Timestamp};

    /// A record of a boot that entered the kernel after 130 ms.
    pub(crate) fn sample_record() -> BootRecord {
        let mut record = BootRecord {
            code: 0,
            stage: Stage::Stage2 as u8,
            board: *b"qemu-virt\0\0\0\0\0\0\0",
            lifecycle: Lifecycle::Development.codeword(),
            slot: 1,
            fallback_code: 302,
            cores: 2,
            counter_hz: 62_500_000,
            end: 8_125_000,
            ..BootRecord::default()
        };
        let steps = [
            (Stage::Stage0, Step::Entry, 0, 300),
            (Stage::Stage0, Step::Fuses, 300, 900),
            (Stage::Stage0, Step::VerifyStage, 900, 9_100),
            (Stage::Stage0, Step::OpenStage, 9_100, 11_000),
            (Stage::Stage2, Step::Handoff, 11_000, 11_400),
            (Stage::Stage2, Step::Setup, 11_400, 13_000),
            (Stage::Stage2, Step::VerifyObjects, 13_000, 34_000),
            (Stage::Stage2, Step::ReadObjects, 34_000, 51_000),
            (Stage::Stage2, Step::OpenObjects, 36_000, 128_500),
            (Stage::Stage2, Step::DeviceTree, 128_500, 129_600),
            (Stage::Stage2, Step::SecurityState, 129_600, 130_000),
        ];
        for (stage, step, start, end) in steps {
            let ticks = |micros: u64| micros * 125 / 2;
            let stamp =
                Timestamp { stage: stage as u8, step: step as u8, start: ticks(start), end: ticks(end) };
            assert!(record.timestamps.push(stamp));
        }
        let image = ImageRecord {
            kind: 2,
            version: (1 << 48) | (2 << 32) | 3,
            stored_bytes: 100_000,
            plain_bytes: 96_000,
            plain_digest: [0xAB; 32],
            measurement: [0xCD; 32],
        };
        assert!(record.images.push(image));
        record
    }

    #[test]
    fn a_record_becomes_a_report() {
        let mut report = Report::empty();
        report.take_record(&sample_record(), 0);
        assert_eq!((report.code.as_deref(), report.stage.as_deref()), (None, Some("stage2-production")));
        assert_eq!((report.slot.as_deref(), report.fallback_code.as_deref()), (Some("B"), Some("K0302")));
        assert_eq!(report.board.as_deref(), Some("qemu-virt"));
        assert_eq!(report.lifecycle.as_deref(), Some("development"));
        assert_eq!(report.reset_to_kernel_us, Some(130_000));
        assert_eq!(report.timeline.len(), 11);
        assert_eq!((report.timeline[2].start_us, report.timeline[2].end_us), (900, 9_100));
        assert_eq!((report.images.len(), report.measurements.len()), (1, 1));
        assert_eq!((report.images[0].kind.as_str(), report.images[0].version.as_str()), ("stage2", "1.2.3"));
        assert_eq!(report.images[0].digest, "ab".repeat(32));
        assert_eq!(report.measurements[0].digest, "cd".repeat(32));
    }

    #[test]
    fn a_refusal_names_its_code_and_never_a_kernel_time() {
        let mut report = Report::empty();
        report.take_record(&BootRecord { code: 100, stage: 0, ..sample_record() }, 0);
        assert_eq!(report.code.as_deref(), Some("K0100"));
        assert_eq!(report.code_name.as_deref(), Some("no-bootable-slot"));
        assert_eq!(report.fail_code(), Some(FailCode::NoBootableSlot));
        assert_eq!((report.stage.as_deref(), report.reset_to_kernel_us), (Some("stage0"), None));
    }

    #[test]
    fn the_json_has_the_names_that_were_promised() {
        let mut report = Report::empty();
        report.take_record(&sample_record(), 0);
        report.result = Outcome::LinuxUserspace;
        let json: serde_json::Value = serde_json::from_str(&report.to_json()).unwrap();
        assert_eq!(json["result"], "linux-userspace");
        assert!(json["code"].is_null());
        for name in [
            "board",
            "lifecycle",
            "cpus_online",
            "reset_to_kernel_us",
            "host_reset_to_kernel_ms",
            "timeline",
            "images",
            "measurements",
        ] {
            assert!(json.get(name).is_some(), "{name}");
        }
        for name in ["stage", "step", "start_us", "end_us"] {
            assert!(json["timeline"][0].get(name).is_some(), "{name}");
        }
        for name in ["kind", "version", "stored_bytes", "plain_bytes", "digest"] {
            assert!(json["images"][0].get(name).is_some(), "{name}");
        }
        let again: Report = serde_json::from_str(&report.to_json()).unwrap();
        assert_eq!(again, report);
    }

    #[test]
    fn nonsense_in_a_record_does_no_harm() {
        let mut report = Report::empty();
        let record =
            BootRecord { code: 9999, stage: 77, slot: 9, lifecycle: 1, counter_hz: 0, ..sample_record() };
        report.take_record(&record, u64::MAX);
        assert_eq!((report.code.as_deref(), report.code_name), (Some("K9999"), None));
        assert_eq!((report.stage.as_deref(), report.slot.as_deref()), (Some("stage 77"), Some("slot 9")));
        assert_eq!(report.lifecycle.as_deref(), Some("unknown 0x00000001"));
        assert!(report.timeline.iter().all(|entry| entry.end_us == 0));
    }
}
