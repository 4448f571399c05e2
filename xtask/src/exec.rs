//! Running other programs: quiet when they succeed, the command and its last words when they do not.

use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, bail};

/// How many lines of a failed program's output an error shows.
const LAST_WORDS: usize = 60;

/// Makes a cargo command in the workspace, with the cargo that runs this one. Flags from the environment are
/// taken out: they would replace those of `.cargo/config.toml`, without which the firmware is not itself.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(crate::workspace::root());
    for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET", "CARGO_BUILD_RUSTFLAGS"] {
        command.env_remove(name);
    }
    command
}

/// Runs `command` and returns what it wrote to standard output.
///
/// # Errors
/// If it cannot be started, or ends with anything but success; the error holds the command and the end of its
/// output.
pub fn capture(command: &mut Command) -> Result<Vec<u8>> {
    let shown = show(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start `{shown}`"))?;
    if !output.status.success() {
        bail!("`{shown}` failed ({})\n{}", output.status, last_words(&output));
    }
    Ok(output.stdout)
}

/// Runs `command` with its output passed through.
///
/// # Errors
/// If it cannot be started, or ends with anything but success.
pub fn pass_through(command: &mut Command) -> Result<()> {
    let shown = show(command);
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("cannot start `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed ({status})");
    }
    Ok(())
}

/// Runs `command` and returns the first line it wrote to standard output, or to standard error when that is
/// empty; `None` if it cannot be started or fails.
pub fn first_line(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).output().ok().filter(|output| output.status.success())?;
    let bytes = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    Some(String::from_utf8_lossy(&bytes).lines().next()?.trim().to_owned())
}

/// Shows a command as it would be typed.
pub fn show(command: &Command) -> String {
    let quote = |word: &std::ffi::OsStr| {
        let word = word.to_string_lossy();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+./:,@%".contains(c);
        if !word.is_empty() && word.chars().all(plain) { word.into_owned() } else { format!("'{word}'") }
    };
    std::iter::once(command.get_program()).chain(command.get_args()).map(quote).collect::<Vec<_>>().join(" ")
}

fn last_words(output: &Output) -> String {
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(LAST_WORDS)..).unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_shows_the_command_and_its_last_words() {
        let error = capture(Command::new("sh").args(["-c", "echo first; echo why >&2; exit 3"])).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("sh -c 'echo first; echo why >&2; exit 3'"), "{text}");
        assert!(text.contains("exit status: 3") && text.ends_with("why"), "{text}");
    }

    #[test]
    fn a_missing_program_is_no_panic() {
        assert_eq!(first_line(&mut Command::new("kiln-no-such-program")), None);
        assert!(capture(&mut Command::new("kiln-no-such-program")).is_err());
    }
}
