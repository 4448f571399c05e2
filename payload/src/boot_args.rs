//! What the payload is asked to do, in the way Linux is: words on the command line.

/// The task of a boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Start every core, print the token, power off.
    Greet,
    /// As [`Task::Greet`], but stay when that is done.
    Stay,
    /// Run the PSCI test, then power off.
    Psci,
    /// Run the PSCI test, then reset.
    PsciReset,
}

/// The words of the command line that are the payload's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootArgs<'a> {
    /// `kiln.payload=`
    pub task: Task,
    /// `kiln.token=`: what the host compares; empty without.
    pub token: &'a str,
}

impl<'a> BootArgs<'a> {
    /// Reads a command line. Of a word that is given twice the last one counts, as for Linux.
    pub fn parse(command_line: &'a str) -> Self {
        let mut args = Self { task: Task::Greet, token: "" };
        for word in command_line.split_ascii_whitespace() {
            match word.split_once('=') {
                Some(("kiln.payload", "stay")) => args.task = Task::Stay,
                Some(("kiln.payload", "psci")) => args.task = Task::Psci,
                Some(("kiln.payload", "psci-reset")) => args.task = Task::PsciReset,
                Some(("kiln.token", token)) => args.token = token,
                _ => {}
            }
        }
        args
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_among_those_for_linux() {
        let args = BootArgs::parse("console=ttyAMA0 kiln.token=5eed kiln.payload=psci quiet");
        assert_eq!(args, BootArgs { task: Task::Psci, token: "5eed" });
        assert_eq!(BootArgs::parse("kiln.payload=stay").task, Task::Stay);
        assert_eq!(BootArgs::parse("kiln.payload=psci kiln.payload=psci-reset").task, Task::PsciReset);
    }

    #[test]
    fn without_words_of_its_own_it_greets() {
        for line in ["", "quiet", "kiln.payload", "kiln.payload=other", "xkiln.payload=psci", "kiln.token="] {
            assert_eq!(BootArgs::parse(line), BootArgs { task: Task::Greet, token: "" }, "{line}");
        }
    }
}
