//! `cargo xtask bench authority`: durable tickets per second over HTTPS, next to the rate at which the disk syncs.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde::Serialize;
use serde_json::Value;

use super::stats::median;
use crate::progress::Step;
use crate::{exec, workspace};

/// The package of the service, and its program.
const PACKAGE: &str = "authority";
const PROGRAM: &str = "kiln-authority";

/// What is aimed at.
const AIM_PER_SECOND: f64 = 1000.0;

/// Measures how many durable tickets an authority issues a second, against the rate at which its disk syncs.
///
/// Builds the service as a release and runs its own measurement several times: an authority with a database of its own
/// on loopback, clients that each keep one HTTPS connection with a client certificate, a die of its own for each request.
/// Clients and service share this machine's cores. Whatever was answered is counted in the books afterwards.
#[derive(Args, Debug)]
pub(super) struct Tickets {
    /// How many clients ask at a time
    #[arg(long, value_name = "N", default_value_t = 200)]
    clients: u32,
    /// How many tickets are asked for in each run
    #[arg(long, value_name = "N", default_value_t = 5000)]
    tickets: u32,
    /// How many runs to measure
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Put the database below FOLDER, whose disk is measured [default: target/kiln]
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Write the figures to FILE as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// What was measured.
#[derive(Serialize)]
struct Figures {
    clients: u32,
    tickets: u32,
    aim_per_second: f64,
    median: Run,
    runs: Vec<Run>,
}

/// One run, or the median of each figure over all.
#[derive(Clone, Debug, Serialize)]
struct Run {
    tickets_per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    syncs_per_second: f64,
    tickets_per_sync: f64,
}

impl Run {
    /// Takes the figures of the service's own measurement.
    fn parse(printed: &[u8]) -> Result<Self> {
        let printed: Value = serde_json::from_slice(printed).context("the measurement printed no JSON")?;
        let field = |name: &str| printed[name].as_f64().with_context(|| format!("there is no `{name}`"));
        let (tickets_per_second, syncs_per_second) =
            (field("tickets_per_second")?, field("syncs_per_second")?);
        Ok(Self {
            tickets_per_second,
            p50_ms: field("p50_ms")?,
            p99_ms: field("p99_ms")?,
            syncs_per_second,
            tickets_per_sync: tickets_per_second / syncs_per_second,
        })
    }

    fn median(runs: &[Self]) -> Self {
        let of = |figure: fn(&Self) -> f64| median(&runs.iter().map(figure).collect::<Vec<_>>());
        Self {
            tickets_per_second: of(|run| run.tickets_per_second),
            p50_ms: of(|run| run.p50_ms),
            p99_ms: of(|run| run.p99_ms),
            syncs_per_second: of(|run| run.syncs_per_second),
            tickets_per_sync: of(|run| run.tickets_per_sync),
        }
    }

    fn show(&self, name: &str) {
        println!(
            "  {name:<8} {:>8.0} {:>8.1} {:>8.1} {:>8.0} {:>8.2}",
            self.tickets_per_second, self.p50_ms, self.p99_ms, self.syncs_per_second, self.tickets_per_sync
        );
    }
}

impl Tickets {
    pub(super) fn run(&self) -> Result<()> {
        let program = build()?;
        let folder = self.folder.clone().unwrap_or_else(workspace::kiln_dir);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let step = Step::start(format!("asking for {} tickets {} times", self.tickets, self.runs));
        let mut runs = Vec::new();
        for run in 1..=self.runs {
            step.at(&format!("run {run}"));
            let mut command = std::process::Command::new(&program);
            command.args(["bench", "tickets", "--json"]);
            command.args(["--clients", &self.clients.to_string(), "--tickets", &self.tickets.to_string()]);
            runs.push(Run::parse(&exec::capture(command.arg("--folder").arg(&folder))?)?);
        }
        step.done("");
        let median = Run::median(&runs);
        println!(
            "{} clients over HTTPS, {} tickets a run, each durable before it is answered",
            self.clients, self.tickets
        );
        println!(
            "  {:<8} {:>8} {:>8} {:>8} {:>8} {:>8}",
            "", "/s", "p50 ms", "p99 ms", "fsync/s", "per sync"
        );
        runs.iter().zip(1..).for_each(|(run, number): (_, u32)| run.show(&format!("run {number}")));
        median.show("median");
        println!("  aim: {AIM_PER_SECOND:.0}/s");
        let Some(file) = &self.report else { return Ok(()) };
        let figures = Figures {
            clients: self.clients,
            tickets: self.tickets,
            aim_per_second: AIM_PER_SECOND,
            median,
            runs,
        };
        super::write(file, &figures)
    }
}

/// Builds the service as it is shipped, and returns its program.
fn build() -> Result<PathBuf> {
    let step = Step::start("building the authority");
    let mut command = exec::cargo();
    command.args(["build", "--release", "--package", PACKAGE, "--bin", PROGRAM]);
    exec::capture(command.arg("--message-format=json-render-diagnostics")).and_then(|messages| {
        let built = crate::firmware::executable(&String::from_utf8_lossy(&messages), PROGRAM);
        let Some(built) = built else { bail!("cargo built no {PROGRAM}") };
        step.done("");
        Ok(built)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_those_that_the_service_prints() {
        let printed = br#"{"clients":200,"tickets_per_second":1500.0,"p50_ms":1.5,"p99_ms":9.0,"syncs_per_second":500.0}"#;
        let run = Run::parse(printed).unwrap();
        assert_eq!(
            (run.tickets_per_second, run.p50_ms, run.p99_ms, run.tickets_per_sync),
            (1500.0, 1.5, 9.0, 3.0)
        );
        assert!(Run::parse(b"{}").unwrap_err().to_string().contains("tickets_per_second"));
    }
}
