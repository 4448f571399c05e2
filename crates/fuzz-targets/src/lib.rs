//! One function for each parser that reads what others write: it takes any bytes, and panics if a promise is broken.
//!
//! libFuzzer calls these functions (`fuzz/`, `cargo xtask fuzz`), and so do plain tests, over the corpora in
//! `fuzz/corpus` and over mutations of them. What they hold, beside that nothing panics:
//!
//! - what is signed is taken only if it is what was signed, to the last byte;
//! - what is taken encodes to the bytes that it was read from;
//! - where there is a second implementation, it reads the same;
//! - what a parser promises of its result (lies inside, is bounded, is wiped) is so.
//!
//! # Threat
//! A checksum or a signature stops a fuzzer at the door. So where bytes are signed, a target also signs what it is given
//! with the sound key, and where they have a checksum, it computes it: what lies behind is then reached by every input.
#![forbid(unsafe_code)]

mod calls;
mod cbor;
mod factory;
mod files;
mod flash;
mod fuses;
mod handed_over;
mod image_trees;
mod images;
mod line;
mod machine;
pub mod sample;
mod trees;
mod updates;

pub use files::{VENDOR_NOW, vendor_certificates, vendors};

/// What became of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The parser took it, or a good part of it.
    Taken,
    /// The parser refused it.
    Refused,
}

impl Verdict {
    const fn of(taken: bool) -> Self {
        if taken { Self::Taken } else { Self::Refused }
    }
}

/// A parser under test.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name: that of its corpus, and of its program in `fuzz/fuzz_targets`.
    pub name: &'static str,
    /// Runs it.
    pub run: fn(&[u8]) -> Verdict,
    /// Makes inputs that it takes, with the project's own makers.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// How many mutations of its corpus a plain test tries.
    pub mutations: u32,
}

/// Every target, by name.
pub const TARGETS: &[Target] = &[
    Target { name: "answers", run: factory::answers, seeds: factory::answer_seeds, mutations: 500 },
    Target { name: "boot_record", run: line::boot_record, seeds: line::boot_record_seeds, mutations: 10_000 },
    Target { name: "bundle", run: images::bundle, seeds: images::bundle_seeds, mutations: 100_000 },
    Target { name: "cbor", run: cbor::cbor, seeds: cbor::cbor_seeds, mutations: 100_000 },
    Target {
        name: "closing_proof",
        run: factory::closing_proof,
        seeds: factory::closing_proof_seeds,
        mutations: 2_000,
    },
    Target {
        name: "closing_state",
        run: flash::closing_state,
        seeds: flash::closing_state_seeds,
        mutations: 100_000,
    },
    Target { name: "csr", run: factory::csr, seeds: factory::csr_seeds, mutations: 600 },
    Target { name: "elf", run: files::elf, seeds: files::elf_seeds, mutations: 100_000 },
    Target { name: "facts", run: fuses::facts, seeds: fuses::fact_seeds, mutations: 20_000 },
    Target { name: "fit", run: image_trees::fit, seeds: image_trees::seeds, mutations: 20_000 },
    Target { name: "fuses", run: fuses::fuses, seeds: fuses::fuse_seeds, mutations: 20_000 },
    Target {
        name: "handoff",
        run: handed_over::handoff,
        seeds: handed_over::handoff_seeds,
        mutations: 20_000,
    },
    Target { name: "hardware_tree", run: trees::hardware, seeds: trees::hardware_seeds, mutations: 100_000 },
    Target { name: "image", run: images::image, seeds: images::image_seeds, mutations: 400 },
    Target { name: "journal", run: flash::journal, seeds: flash::journal_seeds, mutations: 20_000 },
    Target { name: "kernel", run: trees::kernel, seeds: trees::kernel_seeds, mutations: 100_000 },
    Target { name: "link", run: line::link, seeds: line::link_seeds, mutations: 10_000 },
    Target { name: "manifest", run: images::manifest, seeds: images::manifest_seeds, mutations: 400 },
    Target {
        name: "owner_files",
        run: files::owner_files,
        seeds: files::owner_file_seeds,
        mutations: 50_000,
    },
    Target { name: "package", run: images::package, seeds: images::package_seeds, mutations: 100_000 },
    Target {
        name: "provisioning_journal",
        run: flash::provisioning_journal,
        seeds: flash::provisioning_journal_seeds,
        mutations: 10_000,
    },
    Target { name: "reports", run: factory::reports, seeds: factory::report_seeds, mutations: 100_000 },
    Target { name: "request", run: factory::request, seeds: factory::request_seeds, mutations: 400 },
    Target {
        name: "secret_entry",
        run: flash::secret_entry,
        seeds: flash::secret_entry_seeds,
        mutations: 50_000,
    },
    Target {
        name: "secret_page",
        run: handed_over::secret_page,
        seeds: handed_over::secret_page_seeds,
        mutations: 100_000,
    },
    Target { name: "signed_tree", run: trees::signed, seeds: trees::signed_seeds, mutations: 20_000 },
    Target { name: "slot", run: flash::slot, seeds: flash::slot_seeds, mutations: 5_000 },
    Target { name: "smc", run: calls::smc, seeds: calls::smc_seeds, mutations: 100_000 },
    Target {
        name: "statement",
        run: handed_over::statement,
        seeds: handed_over::statement_seeds,
        mutations: 1_000,
    },
    Target { name: "step", run: machine::step, seeds: machine::step_seeds, mutations: 100_000 },
    Target { name: "texts", run: files::texts, seeds: files::text_seeds, mutations: 1_000 },
    Target { name: "update", run: updates::update, seeds: updates::update_seeds, mutations: 100_000 },
    Target {
        name: "update_key",
        run: updates::update_key,
        seeds: updates::update_key_seeds,
        mutations: 50_000,
    },
    Target {
        name: "vendor_chain",
        run: files::vendor_chain,
        seeds: files::vendor_chain_seeds,
        mutations: 5_000,
    },
];

/// Finds a target by name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// Runs the target of this name, for libFuzzer's programs.
///
/// # Panics
/// If there is no such target, or a promise is broken.
pub fn call(name: &str, data: &[u8]) {
    let target = target(name).unwrap_or_else(|| panic!("there is no target {name}"));
    let _verdict = (target.run)(data);
}
