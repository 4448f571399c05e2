//! What a linked stage looks like: its sections and its symbols.

use anyhow::{Context as _, Result};
use object::read::elf::ElfFile64;
use object::{Endianness, Object as _, ObjectSection as _, ObjectSymbol as _, SectionFlags, SymbolKind};

/// A parsed ELF file.
pub type Elf<'a> = ElfFile64<'a, Endianness>;

/// Bytes of each sort in a stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Sections {
    /// Code.
    pub text: u64,
    /// Constants.
    pub rodata: u64,
    /// Variables with an initial value.
    pub data: u64,
    /// Variables that start as zero, stacks included.
    pub bss: u64,
}

/// A function or object with its size.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Symbol {
    /// Demangled name.
    pub name: String,
    /// Size in bytes.
    pub size: u64,
    /// `text`, `rodata`, `data` or `bss`.
    pub section: &'static str,
}

/// Parses a 64-bit ELF file.
///
/// # Errors
/// If it is not one.
pub fn parse(file: &[u8]) -> Result<Elf<'_>> {
    Elf::parse(file).context("this is not a 64-bit ELF file")
}

/// Adds up the sections that take memory on the device.
pub fn sections(elf: &Elf<'_>) -> Sections {
    let mut sum = Sections::default();
    for section in elf.sections() {
        match sort_of(&section) {
            Some("text") => sum.text += section.size(),
            Some("rodata") => sum.rodata += section.size(),
            Some("data") => sum.data += section.size(),
            Some(_) => sum.bss += section.size(),
            None => {}
        }
    }
    sum
}

/// Returns the largest `count` symbols, the largest first.
pub fn largest_symbols(elf: &Elf<'_>, count: usize) -> Vec<Symbol> {
    let mut symbols: Vec<Symbol> = elf
        .symbols()
        .filter(|symbol| matches!(symbol.kind(), SymbolKind::Text | SymbolKind::Data) && symbol.size() > 0)
        .filter_map(|symbol| {
            let section = sort_of(&elf.section_by_index(symbol.section_index()?).ok()?)?;
            Some(Symbol { name: demangled(symbol.name().ok()?), size: symbol.size(), section })
        })
        .collect();
    symbols.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.name.cmp(&b.name)));
    symbols.truncate(count);
    symbols
}

/// Returns the Rust name of a symbol, without its hash.
pub fn demangled(name: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(name))
}

fn sort_of<'a>(section: &impl object::ObjectSection<'a>) -> Option<&'static str> {
    let SectionFlags::Elf { sh_flags, .. } = section.flags() else { return None };
    let has = |flag: object::elf::SectionFlags| sh_flags & flag != object::elf::SectionFlags(0);
    match section.kind() {
        _ if !has(object::elf::SHF_ALLOC) => None,
        object::SectionKind::UninitializedData => Some("bss"),
        _ if has(object::elf::SHF_EXECINSTR) => Some("text"),
        _ if has(object::elf::SHF_WRITE) => Some("data"),
        _ => Some("rodata"),
    }
}
