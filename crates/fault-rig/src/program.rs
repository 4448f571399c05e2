//! A stage's program, as its ELF file describes it.

use std::collections::BTreeMap;
use std::ops::Range;

use object::{Object as _, ObjectSection as _, ObjectSymbol as _, SectionKind, SymbolKind};

/// A linked stage: its bytes where they lie, and the names of its functions.
#[derive(Clone, Debug)]
pub struct Program {
    /// Address of the first instruction that runs.
    pub entry: u64,
    /// Where instructions lie: first to last section of code.
    pub text: Range<u64>,
    /// What is loaded, by its load address.
    pub loaded: Vec<(u64, Vec<u8>)>,
    functions: BTreeMap<u64, String>,
}

impl Program {
    /// Reads an ELF file.
    ///
    /// # Panics
    /// If it is none, or has no code: it comes out of Kiln's own build.
    pub fn read(elf: &[u8]) -> Self {
        let file = object::File::parse(elf).expect("the build makes ELF files");
        let code = || file.sections().filter(|section| section.kind() == SectionKind::Text);
        let start = code().map(|section| section.address()).min().expect("a stage has code");
        let end = code().map(|section| section.address() + section.size()).max().expect("a stage has code");
        let named = file.symbols().filter(|symbol| {
            symbol.kind() == SymbolKind::Text || symbol.name().is_ok_and(|name| name.starts_with("kiln_"))
        });
        let functions = named
            .filter(|symbol| (start..end).contains(&symbol.address()))
            .filter_map(|symbol| Some((symbol.address(), demangled(symbol.name().ok()?))))
            .collect();
        let loaded = file
            .sections()
            .filter(|section| matches!(section.kind(), SectionKind::Text | SectionKind::ReadOnlyData))
            .map(|section| (section.address(), section.data().expect("sections can be read").to_vec()))
            .collect();
        Self { entry: file.entry(), text: start..end, loaded, functions }
    }

    /// Returns the name of the function that an address lies in.
    pub fn function(&self, address: u64) -> &str {
        self.functions.range(..=address).next_back().map_or("?", |(_, name)| name)
    }

    /// Returns where the function at an address begins and ends.
    fn range(&self, address: u64) -> Range<u64> {
        let start = self.functions.range(..=address).next_back().map_or(self.text.start, |(at, _)| *at);
        let end = self.functions.range(address + 1..).next().map_or(self.text.end, |(at, _)| *at);
        start..end
    }

    /// Returns the functions whose names are wanted, neighbours as one.
    pub fn functions(&self, wanted: impl Fn(&str) -> bool) -> Vec<Range<u64>> {
        let mut found: Vec<Range<u64>> = Vec::new();
        for (address, name) in &self.functions {
            let range = self.range(*address);
            match found.last_mut() {
                _ if !wanted(name) => {}
                Some(last) if last.end == range.start => last.end = range.end,
                _ => found.push(range),
            }
        }
        found
    }

    /// Returns how many instructions there are from an address on to the end of the basic block.
    pub fn block(&self, address: u64) -> u64 {
        let mut at = address;
        while self.instruction(at).is_some_and(|instruction| !ends_block(instruction)) {
            at += 4;
        }
        (at - address) / 4 + 1
    }

    /// Returns the instruction at an address, where there is one.
    pub(crate) fn instruction(&self, address: u64) -> Option<u32> {
        self.loaded.iter().find_map(|(base, bytes)| {
            let offset = usize::try_from(address.checked_sub(*base)?).ok()?;
            Some(u32::from_le_bytes(bytes.get(offset..offset + 4)?.try_into().ok()?))
        })
    }

    /// Returns the addresses behind the instructions that wait for an interrupt.
    pub fn waits(&self) -> Vec<u64> {
        let words = self.text.clone().step_by(4);
        words.filter(|at| self.instruction(*at) == Some(WFI)).map(|at| at + 4).collect()
    }

    /// Returns the address of the function whose name ends with `name`.
    ///
    /// # Panics
    /// If there is none, or more than one: then the rig would watch the wrong place.
    pub fn find(&self, name: &str) -> u64 {
        let found: Vec<u64> =
            self.functions.iter().filter(|(_, it)| it.ends_with(name)).map(|(at, _)| *at).collect();
        assert_eq!(found.len(), 1, "functions named {name}: {found:x?}");
        found[0]
    }
}

/// `wfi`, Arm ARM C6.2.
const WFI: u32 = 0xD503_207F;

fn demangled(name: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(name))
}

/// Tells whether an instruction ends a basic block: the group of branches, exceptions and system instructions, but for the reads
/// of system registers, hints and data barriers.
pub(crate) fn ends_block(instruction: u32) -> bool {
    let reads = instruction & 0xFFF0_0000 == 0xD530_0000;
    let hint = instruction & 0xFFFF_F01F == 0xD503_201F;
    let barrier = instruction & 0xFFFF_F0DF == 0xD503_309F;
    instruction & 0x1C00_0000 == 0x1400_0000 && !reads && !hint && !barrier
}
