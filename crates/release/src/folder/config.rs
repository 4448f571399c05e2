//! `kiln.toml`: what a release is made of.
//!
//! # Threats
//! Whoever writes the file chooses which files are read: it is reviewed as code is. Its paths are where the files are
//! read, and nothing else: no name in it becomes a name in the release folder. A key that nobody knows is refused, so
//! that a slip of the pen in `rollback-index` does not silently release without one.

use super::UpdateConfig;
use crate::{Error, FitFacts, FitSource, OsPlaces, ReleaseProfile, RoleKeys, RollbackIndices, files};
use memory_map::qemu_virt::BOARD;
use sealed_image::{Kind, MAX_CMDLINE, Version};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::path::{Path, PathBuf};

/// A release, as `kiln.toml` describes it. Paths are relative to the folder of the file.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ReleaseConfig {
    /// The product: 1 to 32 of `a-z`, `0-9`, `-`.
    pub product: String,
    /// The board that it is for.
    pub board: String,
    /// The version, `MAJOR.MINOR.PATCH`.
    #[serde(deserialize_with = "version", serialize_with = "write_version")]
    pub version: Version,
    /// Counts up when older releases must not boot any more; fuses count to 64, for each role.
    pub rollback_index: RollbackIndices,
    /// What it is for, which decides where its keys may lie.
    #[serde(default)]
    pub profile: ReleaseProfile,
    /// Whose release it is.
    pub owner: OwnerConfig,
    /// Kiln's own stages.
    pub stages: StagesConfig,
    /// What is said about the operating system as a whole.
    #[serde(default)]
    pub bundle: BundleConfig,
    /// The key of dies that are pre-provisioned already; a new one if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provisioning_key: Option<PathBuf>,
    /// The public sealing key of the authority that gets the content key; without one the key goes to a file in the clear.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority_key: Option<PathBuf>,
    /// The update image, if there is to be one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<UpdateConfig>,
    /// The notes for people, in Markdown; a stub takes their place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notes: Option<PathBuf>,
    /// The parts of the operating system, and secrets.
    #[serde(rename = "payload", default)]
    pub payloads: Vec<PayloadConfig>,
}

/// Whose release it is.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct OwnerConfig {
    /// The folder with the owner's keys, as `kiln keys create` makes it.
    pub keys: PathBuf,
    /// Which keys sign, where the folder does not say it.
    #[serde(default, skip_serializing_if = "RoleKeys::is_empty")]
    pub roles: RoleKeys,
}

/// Kiln's own stages, as ELF files.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct StagesConfig {
    /// The provisioning stage.
    pub stage1: PathBuf,
    /// The production stage.
    pub stage2: PathBuf,
    /// A JSON list of the crates that they are built from, for the SBOM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crates: Option<PathBuf>,
    /// Where their source is: a URI, for the provenance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The commit that they are built from, in hex, for the provenance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
}

/// What is said about the operating system as a whole.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct BundleConfig {
    /// The kernel command line, which is signed with the rest.
    pub cmdline: String,
    /// Whether kernel and initramfs are compressed with LZ4.
    pub compress: bool,
}

/// A payload.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PayloadConfig {
    /// What it is.
    pub kind: PayloadKind,
    /// The file.
    pub file: PathBuf,
    /// Where it is loaded: a physical address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_address: Option<u64>,
    /// What it is called in the SBOM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its version, for the SBOM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Its licence as an SPDX expression, for the SBOM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// What was verified elsewhere, and is taken in place of the file.
    #[serde(skip)]
    pub(crate) verified: Option<Vec<u8>>,
}

impl PayloadConfig {
    /// Says nothing of a payload but its kind.
    pub(crate) fn new(kind: PayloadKind) -> Self {
        let file = PathBuf::new();
        Self { kind, file, load_address: None, name: None, version: None, license: None, verified: None }
    }
}

/// The kinds of payload.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum PayloadKind {
    /// An uncompressed arm64 Image.
    Kernel,
    /// A device tree blob.
    DeviceTree,
    /// An initramfs.
    Initramfs,
    /// A key or certificate that every device gets.
    Secret,
}

impl PayloadKind {
    /// Returns the kind of the image that it becomes.
    pub const fn kind(self) -> Kind {
        match self {
            Self::Kernel => Kind::Kernel,
            Self::DeviceTree => Kind::DeviceTree,
            Self::Initramfs => Kind::Initramfs,
            Self::Secret => Kind::Secret,
        }
    }
}

impl ReleaseConfig {
    /// Reads the file and makes its paths those of this process.
    ///
    /// # Errors
    /// A file that cannot be read; [`Error::Config`] with the line.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let mut config = Self::parse(&files::read_text(path)?, path)?;
        config.resolve(path.parent().unwrap_or(Path::new("")));
        Ok(config)
    }

    /// Reads the file, and takes what a FIT has in place of the files that it names.
    ///
    /// # Errors
    /// As [`read`](Self::read); a FIT that does not hold.
    pub fn read_with_fit(path: &Path, fit: &FitSource) -> Result<(Self, FitFacts), Error> {
        let text = files::read_text(path)?;
        let mut config = Self::parse_form(&text, path)?;
        config.resolve(path.parent().unwrap_or(Path::new("")));
        let facts = fit.replace(&mut config)?;
        Ok((config.checked(&text, path)?, facts))
    }

    /// Parses the text of a file, which `path` names in errors.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, Error> {
        Self::parse_form(text, path)?.checked(text, path)
    }

    fn parse_form(text: &str, path: &Path) -> Result<Self, Error> {
        toml::from_str(text).map_err(|error| Error::Config {
            path: path.into(),
            line: error.span().map(|span| line_of(text, span.start)),
            reason: with_suggestion(error.message()),
        })
    }

    fn checked(self, text: &str, path: &Path) -> Result<Self, Error> {
        self.check().map_err(|(key, reason)| Error::Config {
            path: path.into(),
            line: text.lines().position(|line| line.trim_start().starts_with(key)).map(|index| index + 1),
            reason,
        })?;
        Ok(self)
    }

    /// Writes the file.
    ///
    /// # Errors
    /// A path that is no text.
    pub fn to_toml(&self) -> Result<String, Error> {
        toml::to_string(self).map_err(|error| Error::Config {
            path: "kiln.toml".into(),
            line: None,
            reason: error.to_string(),
        })
    }

    /// Says which commit the stages are built from.
    ///
    /// # Errors
    /// Text that is no commit id.
    pub fn with_commit(mut self, commit: &str) -> Result<Self, Error> {
        if !is_commit(commit) {
            let reason = format!("`{commit}` is no commit id in hex");
            return Err(Error::Config { path: "--commit".into(), line: None, reason });
        }
        self.stages.commit = Some(commit.into());
        Ok(self)
    }

    /// What the release is called: product and version.
    pub(crate) fn title(&self) -> String {
        format!("{} {}", self.product, self.version)
    }

    /// Returns the payloads of one kind.
    pub(crate) fn of(&self, kind: PayloadKind) -> impl Iterator<Item = &PayloadConfig> {
        self.payloads.iter().filter(move |payload| payload.kind == kind)
    }

    /// Returns where the objects are loaded.
    pub(crate) fn places(&self) -> OsPlaces {
        let default = OsPlaces::default();
        let place =
            |kind, otherwise| self.of(kind).find_map(|payload| payload.load_address).unwrap_or(otherwise);
        OsPlaces {
            kernel: place(PayloadKind::Kernel, default.kernel),
            device_tree: place(PayloadKind::DeviceTree, default.device_tree),
            initramfs: place(PayloadKind::Initramfs, default.initramfs),
        }
    }

    pub(super) fn resolve(&mut self, folder: &Path) {
        let stages = &mut self.stages;
        let mut paths = vec![&mut self.owner.keys, &mut stages.stage1, &mut stages.stage2];
        paths.extend(&mut stages.crates);
        paths.extend(&mut self.provisioning_key);
        paths.extend(&mut self.authority_key);
        paths.extend(self.update.as_mut().map(|update| &mut update.key));
        paths.extend(&mut self.notes);
        paths.extend(self.payloads.iter_mut().map(|payload| &mut payload.file));
        for path in paths {
            *path = folder.join(&path);
        }
    }

    /// Checks what the form does not say; names the key that is wrong.
    fn check(&self) -> Result<(), (&'static str, String)> {
        let plain = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
        if !(1..=32).contains(&self.product.len()) || !self.product.bytes().all(plain) {
            return Err(("product", "`product` is 1 to 32 of a-z, 0-9 and -".into()));
        }
        if self.board != BOARD {
            let reason = format!("there is no board `{}`: Kiln runs on `{BOARD}`", self.board);
            return Err(("board", reason));
        }
        self.update.as_ref().map_or(Ok(()), |update| update.check(self.version))?;
        let printable = self.bundle.cmdline.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        if self.bundle.cmdline.len() > MAX_CMDLINE || !printable {
            return Err(("cmdline", format!("`cmdline` is up to {MAX_CMDLINE} printable ASCII characters")));
        }
        if self.stages.commit.as_deref().is_some_and(|commit| !is_commit(commit)) {
            return Err(("commit", "`commit` is a commit id in hex".into()));
        }
        self.owner.roles.check().map_err(|reason| ("[owner.roles]", reason))?;
        for (kind, name, needed) in [
            (PayloadKind::Kernel, "kernel", true),
            (PayloadKind::DeviceTree, "device-tree", true),
            (PayloadKind::Initramfs, "initramfs", false),
        ] {
            let count = self.of(kind).count();
            if count > 1 || needed && count == 0 {
                let reason = format!("a release has one payload of the kind `{name}`, this one has {count}");
                return Err(("[[payload]]", reason));
            }
        }
        if self.of(PayloadKind::Secret).any(|payload| payload.load_address.is_some()) {
            return Err(("load-address", "a secret is loaded nowhere: it has no `load-address`".into()));
        }
        Ok(())
    }
}

fn is_commit(text: &str) -> bool {
    text.len() >= 7 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

pub(super) fn version<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Version, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(serde::de::Error::custom)
}

pub(super) fn write_version<S: Serializer>(version: &Version, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(version)
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

/// Adds the near match to what serde says of an unknown field or variant, whose names it puts between backticks.
fn with_suggestion(message: &str) -> String {
    let message = message.trim_end();
    let mut names = message.split('`').skip(1).step_by(2);
    let Some(found) = names.next().filter(|_| message.starts_with("unknown ")) else {
        return message.to_owned();
    };
    let near = names.map(|name| (strsim::damerau_levenshtein(name, found), name)).min();
    match near {
        Some((distance, name)) if distance <= found.len().div_ceil(3) => {
            format!("{message}; did you mean `{name}`?")
        }
        _ => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"product = "demo"
board = "qemu-virt"
version = "1.4.0"
rollback-index = 1

[owner]
keys = "owner"

[stages]
stage1 = "stage1.elf"
stage2 = "/abs/stage2.elf"

[bundle]
cmdline = "quiet"

[[payload]]
kind = "kernel"
file = "Image"
load-address = 0x4040_0000

[[payload]]
kind = "device-tree"
file = "../board.dtb"
"#;

    fn refused(from: &str, to: &str) -> (Option<usize>, String) {
        assert!(GOOD.contains(from), "{from}");
        match ReleaseConfig::parse(&GOOD.replacen(from, to, 1), Path::new("kiln.toml")) {
            Err(Error::Config { line, reason, .. }) => (line, reason),
            other => panic!("{to}: {other:?}"),
        }
    }

    #[test]
    fn a_file_says_what_it_says_and_survives_being_written() {
        let mut config = ReleaseConfig::parse(GOOD, Path::new("kiln.toml")).unwrap();
        assert_eq!((config.title().as_str(), config.rollback_index), ("demo 1.4.0", 1.into()));
        assert_eq!(config.places(), OsPlaces { kernel: 0x4040_0000, ..OsPlaces::default() });
        let text = config.to_toml().unwrap();
        assert_eq!(ReleaseConfig::parse(&text, Path::new("kiln.toml")).unwrap(), config, "{text}");
        config.resolve(Path::new("here"));
        assert_eq!(config.stages.stage1, Path::new("here/stage1.elf"));
        assert_eq!(config.stages.stage2, Path::new("/abs/stage2.elf"));
        assert_eq!(config.payloads[1].file, Path::new("here/../board.dtb"));
        assert_eq!(config.owner.keys, Path::new("here/owner"));
        assert_eq!(config.update, None);
    }

    #[test]
    fn an_unknown_name_is_refused_with_its_line_and_what_was_meant() {
        for (from, to, at, meant) in [
            ("cmdline", "cmdlin", 14, "did you mean `cmdline`?"),
            ("rollback-index", "rollback_index", 4, "did you mean `rollback-index`?"),
            ("[stages]", "[stage]", 9, "did you mean `stages`?"),
            ("kind = \"kernel\"", "kind = \"kernal\"", 17, "did you mean `kernel`?"),
            ("load-address", "address", 19, "unknown field `address`"),
            ("[stages]", "[owner.roles]\nbot = \"\"\n[stages]", 10, "did you mean `boot`?"),
            ("[stages]", "[owner.roles]\nos = \"a file\"\n[stages]", 9, "`os`: "),
        ] {
            let (line, reason) = refused(from, to);
            assert_eq!(line, Some(at), "{to}: {reason}");
            assert!(reason.contains(meant), "{to}: {reason}");
        }
        let (_, reason) = refused("load-address", "zzzzzzz");
        assert!(!reason.contains("did you mean"), "{reason}");
    }

    #[test]
    fn what_cannot_be_released_is_refused_with_its_line() {
        for (from, to, at, words) in [
            ("\"demo\"", "\"../demo\"", Some(1), "a-z, 0-9 and -"),
            ("\"demo\"", "\"\"", Some(1), "1 to 32"),
            ("qemu-virt", "zcu102", Some(2), "there is no board `zcu102`"),
            ("1.4.0", "1.4", Some(3), "MAJOR.MINOR.PATCH"),
            ("rollback-index = 1", "rollback-index = -1", Some(4), "-1"),
            ("rollback-index = 1\n", "", None, "missing field `rollback-index`"),
            ("\"kernel\"", "\"initramfs\"", Some(16), "one payload of the kind `kernel`, this one has 0"),
            ("\"kernel\"", "\"device-tree\"", Some(16), "this one has 0"),
            ("cmdline = \"quiet\"", "cmdline = quiet", Some(14), ""),
            ("[owner]", "commit", Some(6), ""),
        ] {
            let (line, reason) = refused(from, to);
            assert!(reason.contains(words), "{to}: {reason}");
            if at.is_some() {
                assert_eq!(line, at, "{to}: {reason}");
            }
        }
        let (_, reason) = refused("[bundle]", "commit = \"main\"\n[bundle]");
        assert!(reason.contains("in hex"), "{reason}");
        let config = || ReleaseConfig::parse(GOOD, Path::new("kiln.toml")).unwrap();
        assert_eq!(config().with_commit("0123456").unwrap().stages.commit.as_deref(), Some("0123456"));
        for text in ["", "012345", "main", "HEAD~1234"] {
            assert!(config().with_commit(text).is_err(), "{text}");
        }
    }
}
