//! The ordinary apt client with package lists of its own: nothing of the system's configuration changes.
//!
//! The sources in `/etc/apt` are copied into a private folder. On Debian 12 a line for the backports suite is
//! added there, on the mirror that the machine already uses, because QEMU 10 is only there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::exec;

/// Age at which downloaded package lists are fetched again.
const LISTS_STALE_AFTER: Duration = Duration::from_secs(24 * 3600);

/// An apt client with its own sources and lists.
pub struct Apt {
    options: Vec<String>,
    lists: PathBuf,
    /// The backports suite in the private sources, where there is one.
    pub backports: Option<String>,
}

/// Which packages a client is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// Packages of this machine, which can be installed.
    Host,
    /// arm64 packages, which are only downloaded.
    Arm64,
}

impl Apt {
    /// Prepares a client in `folder`.
    ///
    /// # Errors
    /// If there is no `apt-get`, or the folder cannot be written.
    pub fn prepare(folder: &Path, architecture: Architecture) -> Result<Self> {
        if exec::first_line(Command::new("apt-get").arg("--version")).is_none() {
            bail!("this machine has no apt-get: Kiln's tools install packages on Debian and Ubuntu only");
        }
        let sources = folder.join("sources.list.d");
        let lists = folder.join("lists");
        let archives = folder.join("cache/archives");
        if sources.exists() {
            fs::remove_dir_all(&sources)?;
        }
        for dir in [&sources, &lists.join("partial"), &archives.join("partial")] {
            fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        }
        let list = folder.join("sources.list");
        let mut texts = vec![fs::read_to_string("/etc/apt/sources.list").unwrap_or_default()];
        fs::write(&list, texts.concat())?;
        for entry in fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten() {
            let name = entry.file_name();
            let known = Path::new(&name).extension().is_some_and(|e| e == "list" || e == "sources");
            if let (true, Ok(text)) = (known, fs::read_to_string(entry.path())) {
                fs::write(sources.join(&name), &text)?;
                texts.push(text);
            }
        }
        let os_release = fs::read_to_string("/etc/os-release").unwrap_or_default();
        let mut backports = None;
        if codename(&os_release) == Some("bookworm")
            && let Some(stanza) = texts.iter().find_map(|text| backports_stanza(text, "bookworm"))
        {
            fs::write(sources.join("kiln-backports.sources"), stanza)?;
            backports = Some("bookworm-backports".to_owned());
        }
        let mut options: Vec<String> = [
            ("Dir::Etc::SourceList", list.display().to_string()),
            ("Dir::Etc::SourceParts", sources.display().to_string()),
            ("Dir::State::Lists", lists.display().to_string()),
            ("Dir::Cache", folder.join("cache").display().to_string()),
            ("Dir::Cache::archives", archives.display().to_string()),
            ("APT::Sandbox::User", "root".into()),
            ("Acquire::Retries", "3".into()),
            ("Acquire::Languages", "none".into()),
            ("Acquire::IndexTargets::deb::DEP-11::DefaultEnabled", "false".into()),
            ("DPkg::Lock::Timeout", "120".into()),
        ]
        .into_iter()
        .map(|(name, value)| format!("-o{name}={value}"))
        .collect();
        if architecture == Architecture::Arm64 {
            let status = folder.join("status");
            fs::write(&status, "")?;
            options.push("-oAPT::Architecture=arm64".into());
            options.push("-oAPT::Architectures=arm64".into());
            options.push(format!("-oDir::State::status={}", status.display()));
        }
        Ok(Self { options, lists, backports })
    }

    /// Makes a command of this client, `program` being `apt-get` or `apt-cache`.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C.UTF-8").args(&self.options);
        command
    }

    /// Fetches the package lists unless they are fresh.
    ///
    /// # Errors
    /// If no list at all can be fetched. One broken source among several is left for the install to judge.
    pub fn update(&self) -> Result<()> {
        let stamp = self.lists.join(".fetched");
        let age = fs::metadata(&stamp).and_then(|meta| meta.modified()).ok().and_then(|at| at.elapsed().ok());
        if age.is_some_and(|age| age < LISTS_STALE_AFTER) {
            return Ok(());
        }
        let result = exec::capture(self.command("apt-get").arg("update"));
        let some = fs::read_dir(&self.lists)?
            .flatten()
            .any(|entry| entry.file_name().to_string_lossy().contains("_Packages"));
        match result {
            Ok(_) if some => fs::write(&stamp, "").context("cannot note the time of the update"),
            Err(_) if some => Ok(()),
            Ok(_) => bail!("`apt-get update` fetched no package lists: is a mirror configured in /etc/apt?"),
            Err(error) => Err(error.context("cannot fetch package lists: is the network up?")),
        }
    }

    /// Returns the version that would be installed, or `None` if the package is unknown.
    pub fn candidate(&self, package: &str) -> Option<String> {
        let text = exec::capture(self.command("apt-cache").args(["policy", package])).ok()?;
        let text = String::from_utf8_lossy(&text).into_owned();
        let line = text.lines().find_map(|line| line.trim().strip_prefix("Candidate:"))?;
        Some(line.trim().to_owned()).filter(|version| version != "(none)")
    }

    /// Makes the install command, without rights.
    pub fn install(&self, packages: &[&str], suite: Option<&str>) -> Command {
        let mut command = self.command("apt-get");
        command.args(["install", "--yes", "--no-install-recommends"]);
        if let Some(suite) = suite {
            command.args(["-t", suite]);
        }
        command.args(packages);
        command
    }
}

/// Finds the release's codename in the text of `/etc/os-release`.
pub fn codename(os_release: &str) -> Option<&str> {
    os_release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .map(|name| name.trim_matches('"'))
}

/// Derives a source of the suite's backports from the first source of `suite` itself, in either of apt's two
/// formats.
fn backports_stanza(sources: &str, suite: &str) -> Option<String> {
    sources.split("\n\n").find_map(|text| deb822_backports(text, suite)).or_else(|| {
        sources.lines().find_map(|line| {
            let rest = line.trim().strip_prefix("deb ")?.trim();
            let (options, rest) = match rest.strip_prefix('[') {
                Some(rest) => rest.split_once(']')?,
                None => ("", rest),
            };
            let mut words = rest.split_whitespace();
            let uri = words.next()?;
            (words.next()? == suite && words.any(|word| word == "main")).then_some(())?;
            let key = options.split_whitespace().find_map(|option| option.strip_prefix("signed-by="));
            Some(stanza(uri, suite, key.map(|key| format!("Signed-By: {key}\n")).as_deref()))
        })
    })
}

fn deb822_backports(text: &str, suite: &str) -> Option<String> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let field = |name: &str| {
        let at = lines
            .iter()
            .position(|line| line.split_once(':').is_some_and(|(key, _)| key.eq_ignore_ascii_case(name)))?;
        let more = lines[at + 1..].iter().take_while(|line| line.starts_with([' ', '\t']));
        Some(std::iter::once(&lines[at]).chain(more).copied().collect::<Vec<_>>().join("\n"))
    };
    let words = |name: &str| -> Option<Vec<String>> {
        Some(field(name)?.split_once(':')?.1.split_whitespace().map(str::to_owned).collect())
    };
    if field("Enabled").is_some_and(|line| line.ends_with("no")) {
        return None;
    }
    let has = |name: &str, word: &str| words(name).is_some_and(|words| words.iter().any(|w| w == word));
    (has("Types", "deb") && has("Suites", suite) && has("Components", "main")).then_some(())?;
    let signed_by = field("Signed-By").map(|field| field + "\n");
    Some(stanza(words("URIs")?.first()?, suite, signed_by.as_deref()))
}

fn stanza(uri: &str, suite: &str, signed_by: Option<&str>) -> String {
    let signed_by = signed_by.unwrap_or_default();
    format!("Types: deb\nURIs: {uri}\nSuites: {suite}-backports\nComponents: main\n{signed_by}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backports_come_from_the_mirror_that_is_configured() {
        let text = "Types: deb\n# http://snapshot\nURIs: http://mirror.example/debian\n\
                    Suites: bookworm bookworm-updates\nComponents: main\nSigned-By: /usr/share/k.gpg\n\n\
                    Types: deb\nURIs: http://mirror.example/security\nSuites: bookworm-security\nComponents: main\n";
        assert_eq!(
            backports_stanza(text, "bookworm").unwrap(),
            "Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm-backports\nComponents: main\n\
             Signed-By: /usr/share/k.gpg\n"
        );
    }

    #[test]
    fn a_key_inside_the_source_is_kept() {
        let text = "Types: deb\nURIs: http://m/debian\nSuites: bookworm\nComponents: main\nSigned-By:\n -----BEGIN\n abc\n";
        assert!(backports_stanza(text, "bookworm").unwrap().ends_with("Signed-By:\n -----BEGIN\n abc\n"));
    }

    #[test]
    fn one_line_sources_work_too() {
        let text = "# c\ndeb-src http://m/debian bookworm main\n\
                    deb [arch=amd64 signed-by=/k.gpg] https://m/debian bookworm main contrib\n";
        assert_eq!(
            backports_stanza(text, "bookworm").unwrap(),
            "Types: deb\nURIs: https://m/debian\nSuites: bookworm-backports\nComponents: main\nSigned-By: /k.gpg\n"
        );
    }

    #[test]
    fn other_releases_and_disabled_sources_give_none() {
        assert_eq!(backports_stanza("deb http://m/ubuntu noble main\n", "bookworm"), None);
        let off = "Enabled: no\nTypes: deb\nURIs: http://m\nSuites: bookworm\nComponents: main\n";
        assert_eq!(backports_stanza(off, "bookworm"), None);
        assert_eq!(codename("ID=debian\nVERSION_CODENAME=bookworm\n"), Some("bookworm"));
        assert_eq!(codename("ID=arch\n"), None);
    }
}
