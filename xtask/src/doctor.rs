//! `cargo xtask doctor`: what is there, what is missing, and why it is needed.

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use crate::tools::{self, Tool};

/// Shows which tools are there, which are missing, why each is needed, and how to get it.
///
/// Ends with exit status 0 if everything is there and 1 if something is missing. Nothing is changed unless
/// `--install` is given; the other commands install what they need by themselves.
#[derive(Args, Debug)]
pub struct Doctor {
    /// Install what is missing (as root, or where sudo asks for no password)
    #[arg(long)]
    install: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Finding {
    tool: &'static str,
    present: bool,
    version: Option<String>,
    remark: Option<String>,
    why: &'static str,
    needed_by: &'static [&'static str],
    install: String,
}

impl Doctor {
    /// Runs the command; `Ok(false)` if something is missing.
    ///
    /// # Errors
    /// If something could not be installed that was to be.
    pub fn run(&self) -> Result<bool> {
        if self.install {
            tools::prepare(Tool::ALL)?;
        }
        let findings: Vec<Finding> = Tool::ALL.iter().map(|tool| find(*tool)).collect();
        let missing = findings.iter().filter(|finding| !finding.present).count();
        if self.json {
            println!("{}", serde_json::to_string_pretty(&findings)?);
        } else {
            findings.iter().for_each(print);
            match missing {
                0 => println!("\nEverything is there. Next: `cargo xtask flash`"),
                n => println!("\n{n} missing. To install them all: `cargo xtask doctor --install`"),
            }
        }
        Ok(missing == 0)
    }
}

fn find(tool: Tool) -> Finding {
    let version = tool.version();
    let remark = match (tool, &version) {
        (Tool::Qemu, Some(line)) => tools::qemu_warning(line),
        _ => None,
    };
    Finding {
        tool: tool.name(),
        present: version.is_some(),
        version,
        remark,
        why: tool.why(),
        needed_by: tool.needed_by(),
        install: tool.install_line(),
    }
}

fn print(finding: &Finding) {
    let mark = if finding.present { "ok     " } else { "MISSING" };
    println!("{mark} {:<22} {}", finding.tool, finding.version.as_deref().unwrap_or("-"));
    if let Some(remark) = &finding.remark {
        println!("        {remark}");
    }
    if !finding.present {
        println!("        {} {}", finding.tool, finding.why);
        println!("        needed by: cargo xtask {}", finding.needed_by.join(", "));
        println!("        install:   {}", finding.install);
    }
}
