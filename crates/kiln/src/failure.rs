//! Why a command failed, and what to do about it.

use fail_code::FailCode;
use serde_json::{Value, json};
use std::fmt;
use std::io::ErrorKind;

/// A failure: the cause, the stable code where there is one, and the cure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    cause: String,
    code: Option<FailCode>,
    cure: Option<String>,
    held: Option<Value>,
}

impl Failure {
    /// Makes a failure that has no code.
    pub fn new(cause: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { cause: cause.into(), code: None, cure: Some(cure.into()), held: None }
    }

    /// Adds what was found to hold before, for machines: people were told already.
    pub(crate) fn after(self, checks: Value) -> Self {
        Self { held: Some(checks), ..self }
    }

    /// Prints the failure: as text on stderr, or as JSON on stdout.
    pub fn print(&self, json: bool) {
        if json {
            let code = self.code.map(|code| format!("K{:04}", code.number()));
            let name = self.code.map(FailCode::name);
            let mut object = json!({
                "result": "failed", "cause": self.cause, "code": code, "name": name, "cure": self.cure,
            });
            if let Some(checks) = &self.held {
                object["checks"] = checks.clone();
            }
            println!("{object:#}");
            return;
        }
        eprintln!("error: {self}");
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause)?;
        if let Some(code) = self.code {
            write!(f, "\n  code  K{:04} {}", code.number(), code.name())?;
        }
        if let Some(cure) = &self.cure {
            write!(f, "\n  cure  {cure}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

impl From<release::Error> for Failure {
    fn from(error: release::Error) -> Self {
        let code = error.code();
        let cure = cure(&error).map(String::from).or_else(|| code.map(|code| code.cure().into()));
        Self { cause: error.to_string(), code, cure, held: None }
    }
}

impl From<station::Error> for Failure {
    fn from(error: station::Error) -> Self {
        use station::Error as E;
        let cure = match &error {
            E::Read { .. } => "Look at the path, and make the file readable.",
            E::Write { .. } => "Make the folder writable, or choose another place.",
            E::Credential { .. } => "Take the files as the authority wrote them for this station.",
            E::Url { .. } => "Give an address such as https://authority.example:8443.",
            E::LotName { .. } => "Give the name of the lot as the authority lists it.",
            E::Link { .. } => "Look at the cable, at who may open the port, and at the way it is given.",
            E::Twice { .. } => "Give each device a name and a link of its own.",
        };
        Self::new(error.to_string(), cure)
    }
}

/// Returns what to do about an error, where that says more than the code's own cure.
fn cure(error: &release::Error) -> Option<&'static str> {
    use release::Error as E;
    Some(match error {
        E::Write { error, .. } if error.kind() == ErrorKind::AlreadyExists => {
            "Nothing is ever written over: choose another place, or remove what is there."
        }
        E::Write { .. } => "Make the folder writable, or choose another place.",
        E::Read { error, .. } if error.kind() == ErrorKind::NotFound => {
            "Look at the path, and whether the step that makes the file was run."
        }
        E::Read { .. } => "Make the file readable, or write it again if it is too short.",
        E::Config { .. } => "Correct the line: docs/release.md lists what a kiln.toml holds.",
        E::Payload { .. } => "Give the file as whatever builds it wrote it, whole.",
        E::Fit { error, .. } => error.cure(),
        E::FitKey { error, .. } => error.cure(),
        E::Kernel { .. } => "Give an uncompressed arm64 Image, and a load address 2 MiB aligned for it.",
        E::Place { .. } | E::Overlap(..) => {
            "Choose other values for `load-address`, or make the payload smaller: docs/architecture.md has the memory."
        }
        E::OutputThere { .. } => {
            "Nothing is ever written over: choose another place, or remove what is there."
        }
        E::ReleaseForm { .. } => {
            "Take the release of Kiln that made it; for --previous, or to publish it, make the release anew."
        }
        E::SourceUnsaid { .. } => {
            "Name crates.json, which `cargo xtask build` writes, as `crates`; and the commit as `commit`, or with --commit."
        }
        E::ContentKeyNowhere => {
            "Name the authority's sealing key (`kiln authority key export` writes it), as `authority-key` in kiln.toml or with --authority-key of `kiln package`; or a file with --content-key."
        }
        E::ContentKeyOpen { .. } => "Leave --content-key out, or the authority's key.",
        E::ContentKeyInProduction { .. } => {
            "Leave --content-key out, and name the authority's sealing key (`kiln authority key export` writes it): as `authority-key` in kiln.toml, or with --authority-key of `kiln package`."
        }
        E::SealedKey { fault, .. } => fault.cure(),
        E::OptionUnused { .. } => {
            "Leave it out: `kiln verify --help` and docs/release.md say what each option is for."
        }
        E::DiskMissing { .. } => {
            "Put the device's disk there, or give `kiln verify` its flash0.img alone, which says what it does not look at."
        }
        E::DelegationMissing { .. } => {
            "Give the image with --delegation, or another of the same signers, such as package/package.img of its release."
        }
        E::Unprovable { .. } => {
            "`kiln inspect` shows it; the authority verifies it, with the vendor's root of the lot."
        }
        E::UpdateKey { fault, .. } => fault.cure(),
        E::UpdateKeyToken { error, .. } => match &**error {
            E::Token { fault: release::TokenFault::Key(0), .. } => {
                "Take the token that `kiln update-key` made the wrapping key on."
            }
            E::Token { fault: release::TokenFault::Extractable, .. } => {
                "Have the token make a key: `kiln update-key NEW --product NAME --pkcs11 URI --from FILE`, with a file that opens."
            }
            other => return cure(other),
        },
        E::MinimumVersion { .. } => "Choose a `minimum-version` below `version`, in [update] of kiln.toml.",
        E::AuthorityKeyFile { .. } => "Give the file that `kiln authority key export` wrote, unaltered.",
        E::ContentKeyInside { .. } => "Choose a file for --content-key outside of that folder.",
        E::Token { fault, .. } => token_cure(fault),
        E::KeysLeft { .. } => "Remove these keys with the tools of the token's vendor, and try again.",
        E::OtherRoot { .. } => "Take the token and the folder of one owner: another token has the same name.",
        E::OtherProduct { .. } => "Give --previous the release of this product that came before.",
        E::NoSigner { .. } | E::RoleMissing { .. } => {
            "Take keys that hold all roles: `kiln keys create` makes them."
        }
        E::NotDelegated { .. } => {
            "Have the root delegate that too (`kiln keys delegate`), or release what it covers."
        }
        E::Delegation { fault, .. } => delegation_cure(fault),
        E::SignedByRevoked { .. } => "Ask the owner for a release that is signed with another key.",
        E::Revocations { .. } => "Take the list of revoked keys, and the root's public key, from the owner.",
        E::KeyFile { error: boot_crypto::host::SigningKeyError::Passphrase, .. } => {
            "Give the passphrase that the file was made with: KILN_PASSPHRASE, or on the terminal."
        }
        E::Passphrase { fault, .. } => fault.cure(),
        E::KeyInFile { .. } => {
            "Make the owner's keys on a token (`kiln keys create FOLDER --pkcs11 URI`), take the file away (the root is not needed where releases are signed), or leave `profile` out of kiln.toml for what is no product."
        }
        E::KeyFile { .. } | E::SecretFile { .. } => "Give the file that Kiln wrote, unaltered.",
        E::CertificateFile { .. } => "Give one certificate in PEM (`-----BEGIN CERTIFICATE-----`).",
        E::ReleaseFile { .. } => {
            "Take the folder as `kiln package` wrote it, with a matching release of Kiln."
        }
        E::ReleaseMixed { .. } => {
            "Take the whole folder as `kiln package` wrote it: its files belong together."
        }
        E::RollbackIndexTooHigh { .. } => {
            "Choose a rollback index of at most 64; it counts up once for each fix."
        }
        E::DieUnlocked { .. } => "Reject the die: its vendor rows could still be burned.",
        E::Elf { .. } => "Give the stage as the ELF file that the linker wrote.",
        E::TooLarge { .. } => "Make it smaller: the memory map in docs/ says what has room where.",
        _ => return None,
    })
}

fn delegation_cure(fault: &release::DelegationFault) -> &'static str {
    use release::DelegationFault as F;
    match fault {
        F::Limits(_) => "Choose other limits, or another key: docs/release.md says what each role signs.",
        F::Missing => {
            "Have the root delegate, where it is: kiln keys delegate FOLDER --role ROLE --key owner-ROLE.pub.pem --out owner-ROLE.delegation; put what it writes next to the key."
        }
        F::Untrusted(_) => {
            "Take owner-root.pub.pem and the delegation from the same owner, as `kiln keys delegate` wrote it."
        }
        F::Role { .. } => "Put each delegation next to the key of its role.",
        F::Key { .. } => {
            "Have the root delegate to the key that is there, or take the key, and the token, that it means."
        }
        F::Shared { .. } => {
            "Make a key for each role (`kiln keys create --role ROLE`), and have the root delegate to that."
        }
        F::Revoked(_) => {
            "Make another key (`kiln keys create --role ROLE`), and have the root delegate to that."
        }
    }
}

fn token_cure(fault: &release::TokenFault) -> &'static str {
    use release::TokenFault as F;
    match fault {
        F::Uri(_) => "Give pkcs11:token=LABEL?module-path=/path/of/the/module.so, and no PIN in it.",
        F::Module(_) => {
            "Look at the path of the module, and whether the package of the token's vendor is installed."
        }
        F::Missing(0) => {
            "Plug the token in, and look at its label: `pkcs11-tool --list-token-slots` shows it."
        }
        F::Missing(_) => {
            "Name its serial number too (`;serial=`, as `pkcs11-tool --list-token-slots` shows it), or leave one plugged in."
        }
        F::PinMissing => "Set KILN_PIN, which is not set or empty, or run this on a terminal.",
        F::PinWrong => "Give the user's PIN of this token; a few wrong ones lock it.",
        F::PinLocked => "Have the token's security officer set a new PIN.",
        F::Key(0) => "Take the token that `kiln keys create` made the keys on.",
        F::Key(_) => "Remove the keys of the same name that are not the owner's.",
        F::KeyThere => {
            "Take another token, which holds one owner and an update key of each product; or, for an update key, another name (`;object=NAME`). Keys are never written over."
        }
        F::Kind => "Make the keys with `kiln keys create`.",
        F::Extractable => {
            "Have the token make a key: `kiln keys create`; or import yours as sensitive and not extractable."
        }
        F::WrappingKind => "Take the token that `kiln update-key` made the key on.",
        F::Signature | F::Wrapped | F::Other(_) => "Try the token with its vendor's tools.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn a_failure_with_a_code_takes_its_cure_from_the_code() {
        let error = release::Error::FlashNotClear { path: "flash0.img".into(), offset: 0x20_0000 };
        let failure = Failure::from(error);
        assert_eq!(failure.code, Some(FailCode::FlashNotClear));
        assert_eq!(failure.cure.as_deref(), Some(FailCode::FlashNotClear.cure()));
        assert!(failure.cause.contains("flash0.img") && failure.cause.contains("0x200000"));
    }

    #[test]
    fn failures_of_files_say_what_to_do() {
        for kind in [ErrorKind::AlreadyExists, ErrorKind::NotFound, ErrorKind::PermissionDenied] {
            for make in [
                |path, error| release::Error::Read { path, error },
                |path, error| release::Error::Write { path, error },
            ] {
                let failure = Failure::from(make("x".into(), io::Error::from(kind)));
                assert!(failure.cure.is_some_and(|cure| cure.ends_with('.')), "{kind}");
            }
        }
    }
}
