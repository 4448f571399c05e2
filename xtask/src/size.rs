//! `cargo xtask size`: how large the stages are, and whether they keep their limits.

use std::fs;

use anyhow::Result;
use clap::Args;
use memory_map::qemu_virt as board;
use serde::Serialize;

use crate::elf::{self, Sections, Symbol};
use crate::firmware::{self, Program};

/// Most bytes that stage0 and stage2 may have together: 243 KB.
const CHAIN_LIMIT: u64 = 243_000;

/// Builds the firmware and shows the size of each stage against its limit.
///
/// Ends with exit status 1 if a limit is passed.
#[derive(Args, Debug)]
pub struct Size {
    /// Also list the largest N functions and objects of each stage
    #[arg(long, value_name = "N", default_value_t = 0)]
    symbols: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The sizes of one stage.
#[derive(Debug, Serialize)]
pub struct Stage {
    name: &'static str,
    flat_bytes: u64,
    #[serde(flatten)]
    sections: Sections,
    limit_bytes: Option<u64>,
    fits: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    symbols: Vec<Symbol>,
}

/// The sizes of all stages.
#[derive(Debug, Serialize)]
pub struct Sizes {
    stages: Vec<Stage>,
    chain_bytes: u64,
    chain_limit_bytes: u64,
    chain_fits: bool,
}

impl Sizes {
    /// Measures stage0, stage1, stage2 and the payload; `symbols` is how many of the largest symbols to list for each stage.
    ///
    /// # Errors
    /// If a built file cannot be read.
    pub fn measure([stage0, stage1, stage2, payload]: [&Program; 4], symbols: usize) -> Result<Self> {
        let stages = vec![
            stage(stage0, Some(board::STAGE0_ROM.size), symbols)?,
            stage(stage1, Some(board::STAGE_CODE.size), symbols)?,
            stage(stage2, Some(board::STAGE_CODE.size), symbols)?,
            stage(payload, None, symbols)?,
        ];
        let chain = [stage0.name, stage2.name];
        let chain_bytes =
            stages.iter().filter(|stage| chain.contains(&stage.name)).map(|stage| stage.flat_bytes).sum();
        Ok(Self {
            stages,
            chain_bytes,
            chain_limit_bytes: CHAIN_LIMIT,
            chain_fits: chain_bytes <= CHAIN_LIMIT,
        })
    }

    /// Tells whether every limit is kept.
    pub fn fit(&self) -> bool {
        self.chain_fits && self.stages.iter().all(|stage| stage.fits)
    }

    fn print(&self) {
        println!(
            "{:<20} {:>9} {:>9} {:>9} {:>8} {:>9} {:>9}",
            "", "flat", "text", "rodata", "data", "bss", "limit"
        );
        for stage in &self.stages {
            let Sections { text, rodata, data, bss } = stage.sections;
            let limit = stage.limit_bytes.map_or_else(String::new, |limit| limit.to_string());
            let mark = if stage.fits { "" } else { "  TOO LARGE" };
            let flat = stage.flat_bytes;
            println!(
                "{:<20} {flat:>9} {text:>9} {rodata:>9} {data:>8} {bss:>9} {limit:>9}{mark}",
                stage.name
            );
        }
        let mark = if self.chain_fits { "ok" } else { "TOO LARGE" };
        println!("{:<20} {:>9} {:>48}  {mark}", "stage0 + stage2", self.chain_bytes, self.chain_limit_bytes);
        for stage in self.stages.iter().filter(|stage| !stage.symbols.is_empty()) {
            println!("\n{}", stage.name);
            for symbol in &stage.symbols {
                println!("  {:>8} {:<7} {}", symbol.size, symbol.section, symbol.name);
            }
        }
    }
}

impl Size {
    /// Runs the command; `Ok(false)` if a limit is passed.
    ///
    /// # Errors
    /// If the firmware cannot be built.
    pub fn run(&self) -> Result<bool> {
        let sizes = Sizes::measure(firmware::build_to_measure()?.each_ref(), self.symbols)?;
        if self.json {
            println!("{}", serde_json::to_string_pretty(&sizes)?);
        } else {
            sizes.print();
        }
        Ok(sizes.fit())
    }
}

fn stage(program: &Program, limit: Option<u64>, symbols: usize) -> Result<Stage> {
    let file = fs::read(&program.elf)?;
    let elf = elf::parse(&file)?;
    let flat_bytes = program.flat.bytes.len() as u64;
    Ok(Stage {
        name: program.name,
        flat_bytes,
        sections: elf::sections(&elf),
        limit_bytes: limit,
        fits: limit.is_none_or(|limit| flat_bytes <= limit),
        symbols: elf::largest_symbols(&elf, symbols),
    })
}
