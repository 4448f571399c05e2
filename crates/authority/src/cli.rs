//! The command line of an authority, for its own binary and for whichever other has it as a part.

mod lots;
mod setup;

use std::future::Future;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{AnchorFile, Authority, Config, Error, KeyEncryption, Ledger, LocalKey, SealError};

/// Counts and authorises installs: lots, tickets, device certificates.
#[derive(Args, Debug)]
pub struct Command {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    place: Place,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

/// The command line of the binary `kiln-authority`.
#[derive(Parser, Debug)]
#[command(name = "kiln-authority", version, max_term_width = 100, arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    command: Command,
}

impl Cli {
    /// Runs the command and returns the exit status: 0, or 1 for a failure.
    pub fn run(&self) -> ExitCode {
        self.command.run()
    }
}

/// Where the authority is, and what opens its secrets.
#[derive(Args, Debug)]
struct Place {
    /// The authority's directory
    #[arg(long, global = true, value_name = "DIR", env = "KILN_AUTHORITY", default_value = "authority")]
    data: PathBuf,
    /// The key-encryption key: a file of 64 hexadecimal digits [default: DIR/kek]
    #[arg(long, global = true, value_name = "FILE")]
    kek_file: Option<PathBuf>,
    /// Take the key-encryption key from this environment variable instead
    #[arg(long, global = true, value_name = "NAME", conflicts_with = "kek_file")]
    kek_env: Option<String>,
    /// The anchor: a file outside of DIR that tells when the database was set back to an older copy
    #[arg(long, global = true, value_name = "FILE", env = "KILN_AUTHORITY_ANCHOR")]
    anchor: Option<PathBuf>,
    /// Make the anchor, and take the database as it is now for the newest; `init` does so by itself
    #[arg(long, global = true, requires = "anchor")]
    anchor_new: bool,
}

impl Place {
    fn kek_path(&self) -> PathBuf {
        self.kek_file.clone().unwrap_or_else(|| self.data.join("kek"))
    }

    fn kek(&self) -> Result<Arc<dyn KeyEncryption>, SealError> {
        Ok(Arc::new(match &self.kek_env {
            Some(name) => LocalKey::from_variable(name)?,
            None => LocalKey::from_file(&self.kek_path())?,
        }))
    }

    fn anchor(&self) -> Option<AnchorFile> {
        self.anchor.clone().map(|path| AnchorFile { path, new: self.anchor_new })
    }

    fn config(&self) -> Result<Config, SealError> {
        Ok(Config { data: self.data.clone(), kek: self.kek()?, anchor: self.anchor() })
    }

    async fn authority(&self) -> Result<Authority, Error> {
        if !self.data.join(crate::ledger::DATABASE).exists() {
            return Err(Error::NotInitialised(self.data.clone()));
        }
        Authority::open(self.config()?).await
    }

    async fn ledger(&self) -> Result<Ledger, Error> {
        Ledger::open(&self.data, self.anchor().as_ref()).await
    }
}

#[derive(Subcommand, Debug)]
enum Action {
    Init(setup::Init),
    Serve(setup::Serve),
    Status(lots::Status),
    #[command(subcommand)]
    Key(setup::Key),
    #[command(subcommand)]
    Delegation(setup::DelegationCommand),
    #[command(subcommand)]
    Station(setup::StationCommand),
    #[command(subcommand)]
    Lot(lots::Lot),
    #[command(subcommand)]
    Install(lots::Install),
    Audit(lots::Audit),
    #[command(subcommand)]
    Bench(setup::Bench),
}

impl Command {
    /// Runs the command, prints its result or its failure, and returns the exit status.
    pub fn run(&self) -> ExitCode {
        match self.result() {
            Ok(shown) => {
                shown.print(self.json);
                ExitCode::SUCCESS
            }
            Err(error) => {
                print_failure(&error, self.json);
                ExitCode::FAILURE
            }
        }
    }

    /// Tells whether results are to be JSON.
    pub fn json(&self) -> bool {
        self.json
    }

    fn result(&self) -> Result<Shown, Error> {
        let place = &self.place;
        match &self.action {
            Action::Init(command) => wait(command.run(place)),
            Action::Serve(command) => wait(command.run(place)),
            Action::Status(command) => wait(command.run(place)),
            Action::Key(command) => wait(command.run(place)),
            Action::Delegation(command) => wait(command.run(place)),
            Action::Station(command) => wait(command.run(place)),
            Action::Lot(command) => wait(command.run(place)),
            Action::Install(command) => wait(command.run(place)),
            Action::Audit(command) => wait(command.run(place)),
            Action::Bench(command) => wait(command.run()),
        }
    }
}

/// Runs what waits, on as many threads as there are cores.
fn wait<T>(what: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Error::Runtime)?;
    runtime.block_on(what)
}

/// What a command that succeeded prints.
enum Shown {
    /// Nothing: it has printed by itself.
    Nothing,
    /// Facts.
    Facts { title: &'static str, facts: Vec<(&'static str, Value)> },
    /// A table; in JSON the whole rows.
    Rows { json: Value, head: Vec<&'static str>, rows: Vec<Vec<String>> },
}

impl Shown {
    fn facts(title: &'static str, facts: impl Into<Vec<(&'static str, Value)>>) -> Self {
        Self::Facts { title, facts: facts.into() }
    }

    /// Makes a table; `name` is that of the list in JSON. `row` has as many cells as `head`.
    fn rows<T: Serialize>(
        name: &str,
        list: &[T],
        head: &[&'static str],
        row: impl Fn(&T) -> Vec<String>,
    ) -> Self {
        let json = json!({ "result": "ok", name: list });
        Self::Rows { json, head: head.to_vec(), rows: list.iter().map(row).collect() }
    }

    fn print(&self, as_json: bool) {
        match self {
            Self::Nothing => {}
            Self::Facts { facts, .. } if as_json => {
                let mut object = Map::from_iter([("result".to_owned(), Value::from("ok"))]);
                object.extend(facts.iter().map(|(label, value)| (label.replace(' ', "_"), value.clone())));
                println!("{:#}", Value::from(object));
            }
            Self::Facts { title, facts } => {
                println!("{title}");
                let width = facts.iter().map(|(label, _)| label.len()).max().unwrap_or_default();
                for (label, value) in facts {
                    println!("  {label:<width$}  {}", plain(value));
                }
            }
            Self::Rows { json, .. } if as_json => println!("{json:#}"),
            Self::Rows { rows, .. } if rows.is_empty() => println!("none"),
            Self::Rows { head, rows, .. } => print_table(head, rows),
        }
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(list) => list.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Null => "-".into(),
        other => other.to_string(),
    }
}

fn print_table(head: &[&str], rows: &[Vec<String>]) {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([head[column].len()]).max().unwrap_or_default()
    };
    let widths: Vec<_> = (0..head.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        println!("{}", padded.collect::<Vec<_>>().join("  ").trim_end());
    };
    line(head.to_vec());
    rows.iter().for_each(|row| line(row.iter().map(String::as_str).collect()));
}

fn print_failure(error: &Error, as_json: bool) {
    if as_json {
        let object = json!({ "result": "failed", "cause": error.to_string(), "cure": error.cure() });
        println!("{object:#}");
    } else {
        eprintln!("error: {error}\n  cure  {}", error.cure());
    }
}

/// Formats a time in milliseconds since 1970 as RFC 3339 has it, in UTC.
fn rfc3339(at: i64) -> String {
    let since = std::time::Duration::from_millis(u64::try_from(at).unwrap_or_default());
    // Later than the year 9999 there is no such text.
    x509_cert::der::DateTime::from_unix_duration(since)
        .map_or_else(|_| format!("{at} ms"), |time| time.to_string())
}

/// Shows a time in milliseconds since 1970 as seconds ago.
fn ago(at: i64) -> String {
    let seconds = (crate::policy::now() - at).max(0) / 1000;
    match seconds {
        0..120 => format!("{seconds} s ago"),
        120..7200 => format!("{} min ago", seconds / 60),
        7200..172_800 => format!("{} h ago", seconds / 3600),
        _ => format!("{} d ago", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn check(command: &clap::Command, looked_at: &mut usize) {
        for command in command.get_subcommands().filter(|command| command.get_name() != "help") {
            assert!(command.get_about().is_some(), "{} has no help", command.get_name());
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{} {}", command.get_name(), argument.get_id());
                *looked_at += 1;
            }
            check(command, looked_at);
        }
    }

    #[test]
    fn times_are_told_as_others_tell_them() {
        assert_eq!(rfc3339(1_795_634_215_329), "2026-11-25T19:16:55Z");
        assert_eq!(rfc3339(i64::MAX), format!("{} ms", i64::MAX));
    }

    #[test]
    fn the_command_line_is_sound_and_explains_itself() {
        let mut cli = Cli::command();
        cli.build();
        let mut looked_at = 0;
        check(&cli, &mut looked_at);
        assert!(looked_at >= 40, "only {looked_at} arguments were looked at");
        cli.debug_assert();
    }
}
