//! The passphrase of key files, which lie encrypted: PKCS#8 with PBES2.
//!
//! # Threats
//! *Whoever copies the disk* or a backup has to guess the passphrase, each time through scrypt: the files resist as long as it
//! does. So they are for development, and a release in production takes keys on tokens only.
//!
//! *Whoever reads process lists, logs or the shell's history* gets none: it comes from the environment (`KILN_PASSPHRASE`) or is
//! asked for on the terminal, never from the command line, is not printed, and is wiped after use.

use crate::Error;
use std::fmt;
use std::io::IsTerminal as _;
use std::path::Path;
use zeroize::Zeroizing;

/// The variable of the environment that holds the passphrase of key files.
pub const PASSPHRASE_VARIABLE: &str = "KILN_PASSPHRASE";

/// The passphrase of key files; wiped when dropped, not printed.
pub struct Passphrase(Zeroizing<String>);

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passphrase").finish_non_exhaustive()
    }
}

/// Why there is no passphrase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PassphraseFault {
    /// None was given, and there is no terminal to ask on.
    #[error("no passphrase was given, and there is no terminal to ask for it on")]
    Missing,
    /// An empty one was given for new files.
    #[error("the passphrase is empty")]
    Empty,
    /// It was typed twice, and not the same.
    #[error("the two passphrases are not the same")]
    Differs,
}

impl PassphraseFault {
    /// Returns what a person does next.
    pub fn cure(self) -> &'static str {
        match self {
            Self::Missing => "Set KILN_PASSPHRASE, which is not set or empty, or run this on a terminal.",
            Self::Empty => {
                "Choose a passphrase that nobody guesses: whoever has the files can try as many as they like."
            }
            Self::Differs => "Type the same passphrase twice.",
        }
    }
}

impl Passphrase {
    /// Takes a passphrase over for new files.
    ///
    /// # Errors
    /// [`Error::Passphrase`]: an empty one. `place` is named in it.
    pub fn new(text: Zeroizing<String>, place: &Path) -> Result<Self, Error> {
        if text.is_empty() {
            return Err(fault(place, PassphraseFault::Empty));
        }
        Ok(Self(text))
    }

    /// Returns the passphrase for the new files of `place`: from the environment, or from whoever sits at the terminal.
    ///
    /// # Errors
    /// [`Error::Passphrase`].
    pub fn for_new(place: &Path) -> Result<Self, Error> {
        if let Some(given) = given() {
            return Self::new(given, place);
        }
        let first = ask(place, &format!("Passphrase for the keys in {}: ", place.display()))?;
        let first = Self::new(first, place)?;
        if ask(place, "The same again: ")? != first.0 {
            return Err(fault(place, PassphraseFault::Differs));
        }
        Ok(first)
    }

    /// Returns the passphrase of a file, in the same way.
    pub(crate) fn of(file: &Path) -> Result<Self, Error> {
        match given() {
            Some(given) => Ok(Self(given)),
            None => ask(file, &format!("Passphrase of {}: ", file.display())).map(Self),
        }
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

/// Returns what the environment has. An empty one counts as none: build servers make that of a secret which they do not have.
fn given() -> Option<Zeroizing<String>> {
    let given = std::env::var(PASSPHRASE_VARIABLE).ok().map(Zeroizing::new);
    given.filter(|given| !given.is_empty())
}

fn ask(place: &Path, question: &str) -> Result<Zeroizing<String>, Error> {
    let missing = || fault(place, PassphraseFault::Missing);
    if !std::io::stdin().is_terminal() {
        return Err(missing());
    }
    rpassword::prompt_password(question).map(Zeroizing::new).map_err(|_| missing())
}

fn fault(place: &Path, fault: PassphraseFault) -> Error {
    Error::Passphrase { path: place.into(), fault }
}
