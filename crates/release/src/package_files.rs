//! A package as files.

use crate::files::{self, Readers, Together};
use crate::{ContentKey, Error, PackageFacts, PackageRelease, hex, unhex};
use boot_crypto::Key;
use lifecycle::{FusePolicy, ROLES};
use memory_map::qemu_virt::{self, BOOT_SLOT_A};
use sealed_image::Version;
use serde::{Deserialize, Serialize};
use std::path::Path;
use zeroize::Zeroizing;

const FACTS: &str = "release.json";
const STAGE1: &str = "stage1.img";
const PACKAGE: &str = "package.img";
const PROVISIONING_KEY: &str = "provisioning.key";
/// The files that are no secret.
pub(crate) const PUBLIC: [&str; 3] = [FACTS, STAGE1, PACKAGE];
/// All files.
pub(crate) const ALL: [&str; 4] = [FACTS, STAGE1, PACKAGE, PROVISIONING_KEY];
/// Longest `release.json` that is read, in bytes.
const LONGEST_FACTS: u64 = 1 << 16;

/// The form of `release.json` that this release writes and reads.
const FORMAT: u32 = 1;

/// What `release.json` holds; digests in lower-case hex.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct FactsFile {
    format: u32,
    board: String,
    version: String,
    release: String,
    package_id: String,
    package_sha256: String,
    stage1_measurement: String,
    stage2_measurement: String,
    fuses: PolicyFile,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct PolicyFile {
    root_digest: String,
    provisioning_key_tag: String,
    secured_floors: [u8; ROLES as usize],
    production_floors: [u8; ROLES as usize],
    closing_measurement: String,
}

impl PackageFacts {
    /// Writes the facts as JSON, the content of `release.json`.
    pub fn to_json(&self) -> String {
        let policy = &self.policy;
        let file = FactsFile {
            format: FORMAT,
            board: self.board.clone(),
            version: self.version.to_string(),
            release: self.release.clone(),
            package_id: hex(&self.package_id),
            package_sha256: hex(&self.package_digest),
            stage1_measurement: hex(&self.stage1_measurement),
            stage2_measurement: hex(&self.stage2_measurement),
            fuses: PolicyFile {
                root_digest: hex(&policy.root_digest),
                provisioning_key_tag: hex(&policy.provisioning_key_tag),
                secured_floors: policy.secured_floors,
                production_floors: policy.production_floors,
                closing_measurement: hex(&policy.closing_measurement),
            },
        };
        serde_json::to_string_pretty(&file).expect("text and numbers have a JSON form") + "\n"
    }

    /// Reads facts from JSON.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn from_json(json: &str) -> Result<Self, String> {
        let file: FactsFile = serde_json::from_str(json).map_err(|error| error.to_string())?;
        if file.format != FORMAT {
            return Err(format!("its format is {}, this release reads {FORMAT}", file.format));
        }
        let digest = |name: &str, text: &str| unhex(text).ok_or(format!("`{name}` is no digest"));
        Ok(Self {
            board: file.board,
            version: file.version.parse::<Version>().map_err(|error| error.to_string())?,
            release: file.release,
            package_id: digest("package_id", &file.package_id)?,
            package_digest: digest("package_sha256", &file.package_sha256)?,
            stage1_measurement: digest("stage1_measurement", &file.stage1_measurement)?,
            stage2_measurement: digest("stage2_measurement", &file.stage2_measurement)?,
            policy: FusePolicy {
                root_digest: digest("root_digest", &file.fuses.root_digest)?,
                provisioning_key_tag: digest("provisioning_key_tag", &file.fuses.provisioning_key_tag)?,
                secured_floors: file.fuses.secured_floors,
                production_floors: file.fuses.production_floors,
                closing_measurement: digest("closing_measurement", &file.fuses.closing_measurement)?,
            },
        })
    }

    /// Reads the facts of the package in a folder.
    ///
    /// # Errors
    /// A file that is not there or not what it should be.
    pub fn read(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(FACTS);
        let text = files::read_at_most(&path, LONGEST_FACTS)?;
        let text = str::from_utf8(&text).map_err(|_| "it is no text in UTF-8".to_owned());
        text.and_then(Self::from_json).map_err(|reason| Error::ReleaseFile { path, reason })
    }
}

impl PackageRelease {
    /// Writes the package into a folder in which there is none; what cannot be written whole leaves nothing:
    ///
    /// | file | holds | for |
    /// |---|---|---|
    /// | `release.json` | ids, measurements, fuse policy | authority, station |
    /// | `stage1.img` | stage1, encrypted | boot slots |
    /// | `package.img` | index and objects, encrypted | disk |
    /// | `provisioning.key` | the provisioning key, mode 0600 | pre-provisioning |
    ///
    /// The content key is in none of them.
    ///
    /// # Errors
    /// Files that cannot be written, or are there already.
    pub fn write(&self, folder: &Path) -> Result<(), Error> {
        let mut together = Together::in_folder(folder)?;
        let key = key_text(&self.provisioning_key);
        let facts = self.facts.to_json();
        let put = [
            (PROVISIONING_KEY, key.as_bytes(), Readers::Owner),
            (STAGE1, &self.stage1, Readers::Anyone),
            (PACKAGE, &self.package, Readers::Anyone),
            // Last, so that a folder with it is whole.
            (FACTS, facts.as_bytes(), Readers::Anyone),
        ];
        let put = put
            .into_iter()
            .try_for_each(|(name, bytes, readers)| together.put(folder.join(name), bytes, readers));
        if put.is_err() {
            together.undo();
        }
        put
    }

    /// Reads a package from its folder. [`check`](Self::check) tells whether its files belong together.
    ///
    /// # Errors
    /// Files that are not there or not what they should be.
    pub fn read(folder: &Path) -> Result<Self, Error> {
        Ok(Self {
            facts: PackageFacts::read(folder)?,
            stage1: files::read_at_most(&folder.join(STAGE1), BOOT_SLOT_A.size)?,
            package: files::read_at_most(&folder.join(PACKAGE), qemu_virt::PACKAGE.size)?,
            provisioning_key: read_secret(&folder.join(PROVISIONING_KEY))?,
        })
    }
}

impl ContentKey {
    /// Writes the key to a file of its own, mode 0600, as 64 hex digits. It belongs to the authority, and never next
    /// to the package.
    ///
    /// # Errors
    /// A file that cannot be written, or is there already.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        write_key(path, &self.0)
    }

    /// Reads the key from its file.
    ///
    /// # Errors
    /// A file that cannot be read, or holds no key.
    pub fn read(path: &Path) -> Result<Self, Error> {
        read_secret(path).map(Self)
    }
}

fn write_key(path: &Path, key: &Key) -> Result<(), Error> {
    files::write_new(path, key_text(key).as_bytes(), Readers::Owner)
}

fn key_text(key: &Key) -> Zeroizing<String> {
    Zeroizing::new(hex(key.expose()) + "\n")
}

/// Reads a provisioning key or a content key from its file: 64 hex digits.
///
/// # Errors
/// A file that cannot be read, or holds no key.
pub fn read_secret(path: &Path) -> Result<Key, Error> {
    read_key_text(&files::read_text(path)?, path)
}

/// Reads a key from the text of its file, which `path` names in errors.
pub(crate) fn read_key_text(text: &str, path: &Path) -> Result<Key, Error> {
    let key = unhex(text.trim_end()).map(Key::new);
    key.ok_or_else(|| Error::SecretFile { path: path.into() })
}
