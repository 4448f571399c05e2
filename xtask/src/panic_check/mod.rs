//! Proves on the linked stage0 that none of Kiln's code there can panic.
//!
//! From the instructions of every function a call graph is made; `policy` then judges each call that can end
//! in a panic. Functions that were inlined are told apart by the line tables, so that a panic inside a function
//! of `p256`, inlined into `boot-crypto`, is p256's and not Kiln's. Where the graph cannot know, it assumes the
//! worst: a function that calls through a pointer may call everything whose address lies in data.

mod decode;
mod graph;
mod names;
mod policy;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use addr2line::gimli::{Dwarf, EndianSlice, LittleEndian, SectionId};
use anyhow::{Context as _, Result, bail};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, SectionKind, SymbolKind};

use crate::elf::{self, Elf};
use graph::{Code, Function, Graph};
use policy::Broken;

/// What the check found.
#[derive(Debug, Default)]
pub struct Report {
    /// Number of functions that were looked at.
    pub functions: usize,
    /// Names of all functions that can reach a panic.
    pub reaching: BTreeSet<String>,
    /// The allowed functions that panic themselves, and what they call to do so.
    pub allowed: BTreeMap<String, BTreeSet<String>>,
    /// Calls that break a rule, each as a text of one or more lines.
    pub violations: BTreeSet<String>,
}

impl Report {
    /// Returns the functions that may panic and do not: the list is to be no longer than it has to be.
    pub fn needlessly_allowed(&self) -> Vec<&'static str> {
        policy::ALLOWED.iter().copied().filter(|name| !self.allowed.contains_key(*name)).collect()
    }

    /// Formats the whole report for people.
    pub fn text(&self) -> String {
        let mut text = format!("{} functions, {} can reach a panic\n", self.functions, self.reaching.len());
        for (name, panics) in &self.allowed {
            let panics: Vec<&str> = panics.iter().map(String::as_str).collect();
            let _ = writeln!(text, "allowed: {name} -> {}", panics.join(", "));
        }
        for name in &self.reaching {
            let _ = writeln!(text, "reaches: {name}");
        }
        for violation in &self.violations {
            let _ = writeln!(text, "VIOLATION: {violation}");
        }
        text
    }
}

/// Checks a linked stage.
///
/// # Errors
/// If the file holds too little for the check to mean anything: no symbols, no panic handler, no line tables.
/// Calls that break a rule are no error but part of the report.
pub fn check(file: &[u8]) -> Result<Report> {
    let elf = elf::parse(file)?;
    let (functions, code) = functions(&elf)?;
    let lines = Lines::load(&elf)?;
    let graph = Graph::build(functions, &code, &pointers_in_data(&elf));
    let panics = graph.functions.iter().filter(|function| names::is_panic(&function.name)).count();
    if panics == 0 {
        bail!("the ELF file names no panic function, not even a panic handler: the check would see nothing");
    }
    let inlined = |pc: u64| lines.frames(pc);
    Ok(judge(&graph, &inlined))
}

fn judge(graph: &Graph, inlined: &dyn Fn(u64) -> Vec<String>) -> Report {
    let to_panic = graph.paths_to(&|function| names::is_panic(&function.name));
    let mut report = Report { functions: graph.functions.len(), ..Report::default() };
    for (caller, callee, pc) in graph.calls() {
        let (from, to) = (&graph.functions[caller], &graph.functions[callee]);
        if !to_panic.contains_key(&callee) || names::is_panic(&from.name) {
            continue;
        }
        report.reaching.insert(from.name.clone());
        let mut frames = inlined(pc);
        if frames.is_empty() {
            frames.push(names::short(&from.name));
        }
        match policy::judge(&frames, &to.name) {
            Ok(()) if names::is_panic(&to.name) || names::is_toolchain(&to.name) => {
                if let Some(own) = frames.iter().find(|frame| !names::is_toolchain(frame)) {
                    report.allowed.entry(own.clone()).or_default().insert(names::plain(&to.name));
                }
            }
            Ok(()) => {}
            Err(broken) => {
                let rest = graph.path(callee, &to_panic);
                let above = graph.path_from_root(caller);
                report.violations.insert(describe(&broken, &above, &frames, &rest));
            }
        }
    }
    report
}

fn describe(broken: &Broken, above: &[&str], frames: &[String], rest: &[&str]) -> String {
    let why = match broken {
        Broken::NotAllowed(name) => format!("{name} can panic, and is not on the list of functions that may"),
        Broken::PastTheGate(name) => {
            format!("{name} calls something that can panic without going through boot-crypto")
        }
    };
    let inlined = frames.iter().rev().map(String::as_str);
    let above = above.iter().copied().take(above.len().saturating_sub(1));
    let path: Vec<&str> = above.chain(inlined).chain(rest.iter().copied()).collect();
    format!("{why}\n    path: {}", path.join("\n       -> "))
}

/// Collects the functions of all executable sections, and their bytes.
fn functions(elf: &Elf<'_>) -> Result<(Vec<Function>, Code)> {
    let mut code = Code::default();
    let mut found: BTreeMap<u64, (bool, String)> = BTreeMap::new();
    for section in elf.sections().filter(|section| section.kind() == SectionKind::Text) {
        code.add(section.address(), section.data().context("a code section leaves the file")?.to_vec());
    }
    for symbol in elf.symbols() {
        let (Ok(name), at) = (symbol.name(), symbol.address()) else { continue };
        if name.starts_with("$x") || name.starts_with("$d") {
            code.mark(at, name.starts_with("$d"));
            continue;
        }
        let is_function = symbol.kind() == SymbolKind::Text;
        let in_code = symbol.section_index().and_then(|index| elf.section_by_index(index).ok());
        let in_code = in_code.is_some_and(|section| section.kind() == SectionKind::Text);
        if in_code && !name.is_empty() && symbol.kind() != SymbolKind::Section {
            let entry = (is_function, elf::demangled(name));
            match found.get(&at) {
                Some((true, _)) => {}
                _ => drop(found.insert(at, entry)),
            }
        }
    }
    if found.is_empty() {
        bail!("the ELF file has no function symbols: was it stripped?");
    }
    let functions = found.into_iter().map(|(start, (_, name))| Function { start, name }).collect();
    Ok((functions, code))
}

/// Returns every aligned word of the data sections: any of them may be a pointer to a function.
fn pointers_in_data(elf: &Elf<'_>) -> BTreeSet<u64> {
    let data = elf.sections().filter(|section| {
        matches!(section.kind(), SectionKind::Data | SectionKind::ReadOnlyData | SectionKind::ReadOnlyString)
    });
    data.flat_map(|section| {
        let bytes = section.data().unwrap_or_default().to_vec();
        let skip = (8 - section.address() % 8) as usize % 8;
        let words: Vec<u64> = bytes
            .get(skip..)
            .unwrap_or_default()
            .chunks_exact(8)
            .filter_map(|word| Some(u64::from_le_bytes(word.try_into().ok()?)))
            .collect();
        words
    })
    .collect()
}

type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// The line tables, for their inlined functions.
struct Lines<'a> {
    context: addr2line::Context<Slice<'a>>,
}

impl<'a> Lines<'a> {
    fn load(elf: &Elf<'a>) -> Result<Self> {
        let section = |id: SectionId| -> Result<Slice<'a>> {
            let data = elf.section_by_name(id.name()).and_then(|section| section.data().ok());
            Ok(EndianSlice::new(data.unwrap_or_default(), LittleEndian))
        };
        if section(SectionId::DebugInfo)?.is_empty() {
            bail!(
                "the ELF file has no line tables: the firmware profile needs `debug = \"line-tables-only\"`"
            );
        }
        let context =
            addr2line::Context::from_dwarf(Dwarf::load(section)?).context("its line tables are damaged")?;
        Ok(Self { context })
    }

    /// Returns the functions that the instruction at `pc` belongs to, the innermost first. Line tables hold short
    /// names only, so each gets the crate that its source file lies in.
    fn frames(&self, pc: u64) -> Vec<String> {
        let mut found = Vec::new();
        let Ok(mut frames) = self.context.find_frames(pc).skip_all_loads() else { return found };
        while let Ok(Some(frame)) = frames.next() {
            let file = frame.location.as_ref().and_then(|location| location.file);
            let name = frame.function.as_ref().and_then(|function| function.raw_name().ok());
            if let (Some(file), Some(name)) = (file, name) {
                found.push(format!("{}::{}", names::crate_of(file), names::plain(&elf::demangled(&name))));
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(names: &[&str], calls: &[(usize, usize)]) -> Graph {
        let functions = (0..)
            .step_by(0x100)
            .zip(names)
            .map(|(start, name)| Function { start, name: (*name).into() })
            .collect();
        let mut code = Code::default();
        let mut bytes = vec![0; names.len() * 0x100];
        for (n, (from, to)) in calls.iter().enumerate() {
            let at = from * 0x100 + n * 4;
            let offset = (*to as i64 * 0x100 - at as i64) / 4;
            let bl = 0x9400_0000_u32 | (offset as u32 & 0x03FF_FFFF);
            bytes[at..at + 4].copy_from_slice(&bl.to_le_bytes());
        }
        code.add(0, bytes);
        Graph::build(functions, &code, &BTreeSet::new())
    }

    #[test]
    fn an_unwrap_in_kilns_code_is_found_with_its_path() {
        let graph = graph(
            &["_start", "stage0::boot", "core::option::unwrap_failed", "core::panicking::panic_fmt"],
            &[(0, 1), (1, 2), (2, 3)],
        );
        let report = judge(&graph, &|_| Vec::new());
        assert_eq!(report.violations.len(), 1, "{report:?}");
        let text = report.text();
        assert!(text.contains("stage0::boot can panic"), "{text}");
        assert!(
            text.contains("_start\n       -> stage0::boot\n       -> core::option::unwrap_failed"),
            "{text}"
        );
    }

    #[test]
    fn a_clean_stage_passes_and_lists_what_it_allows() {
        let graph = graph(
            &[
                "_start",
                "stage0::boot",
                "boot_crypto::verify",
                "crypto_bigint::shl_vartime",
                "core::panicking::panic",
            ],
            &[(0, 1), (1, 2), (2, 3), (3, 4)],
        );
        let report = judge(&graph, &|_| Vec::new());
        assert!(report.violations.is_empty(), "{}", report.text());
        assert_eq!(report.reaching.len(), 4);
        assert!(report.allowed["crypto_bigint::shl_vartime"].contains("core::panicking::panic"));
    }

    #[test]
    fn inlined_frames_decide_whose_panic_it_is() {
        let graph = graph(&["boot_crypto::verify", "core::panicking::panic"], &[(0, 1)]);
        let inlined = |name: &str| vec![name.to_owned(), "boot_crypto::verify".to_owned()];
        assert!(judge(&graph, &|_| inlined("crypto_bigint::shl_vartime")).violations.is_empty());
        assert_eq!(judge(&graph, &|_| inlined("boot_crypto::helper")).violations.len(), 1);
    }

    #[test]
    fn a_file_that_says_nothing_is_refused() {
        assert!(check(b"").is_err());
        assert!(check(&std::fs::read("/proc/self/exe").unwrap()[..64]).is_err());
    }
}
