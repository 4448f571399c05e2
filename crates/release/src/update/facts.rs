//! What is known of an update without a key: `update.json`.

use crate::{Error, files, hex, unhex};
use boot_crypto::Digest;
use sealed_image::{Role, RoleIndices, Version};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// The file, which lies beside the image.
pub(crate) const FACTS_FILE: &str = "update.json";
/// Longest file that is read, in bytes.
const LONGEST: u64 = 1 << 16;
/// The form of `update.json` that this release writes and reads.
const FORMAT: u32 = 1;

/// What is known of an update without a key: by this a server offers it to the devices that take it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateFacts {
    /// The product.
    pub product: String,
    /// The board.
    pub board: String,
    /// The version that a device has afterwards.
    pub version: Version,
    /// The lowest version that it can be installed over.
    pub minimum_version: Version,
    /// The rollback index of each role that signs something in it.
    pub indices: RoleIndices,
    /// The digest of the index's manifest, which names the update.
    pub update_id: Digest,
    /// SHA-256 of the whole image as it is encrypted.
    pub update_digest: Digest,
}

/// What `update.json` holds; digests in lower-case hex.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct FactsFile {
    format: u32,
    product: String,
    board: String,
    version: String,
    minimum_version: String,
    rollback_indices: BTreeMap<String, u32>,
    update_id: String,
    update_sha256: String,
}

impl UpdateFacts {
    /// Writes the facts as JSON, the content of `update.json`.
    pub fn to_json(&self) -> String {
        let file = FactsFile {
            format: FORMAT,
            product: self.product.clone(),
            board: self.board.clone(),
            version: self.version.to_string(),
            minimum_version: self.minimum_version.to_string(),
            rollback_indices: self.indices.iter().map(|(role, index)| (role.name().into(), index)).collect(),
            update_id: hex(&self.update_id),
            update_sha256: hex(&self.update_digest),
        };
        serde_json::to_string_pretty(&file).expect("text and numbers have a JSON form") + "\n"
    }

    /// Reads the file.
    ///
    /// # Errors
    /// [`Error::ReleaseFile`]; a file that cannot be read.
    pub fn read(path: &Path) -> Result<Self, Error> {
        Self::of_file(path, &files::read_at_most(path, LONGEST)?)
    }

    /// Reads what the file at `path` holds.
    pub(crate) fn of_file(path: &Path, bytes: &[u8]) -> Result<Self, Error> {
        let unreadable = |reason: String| Error::ReleaseFile { path: path.into(), reason };
        let text = std::str::from_utf8(bytes).map_err(|_| unreadable("it is no text in UTF-8".into()))?;
        Self::from_json(text).map_err(unreadable)
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
        let version = |text: &str| text.parse::<Version>().map_err(|error| error.to_string());
        let mut indices = RoleIndices::default();
        for (name, index) in file.rollback_indices {
            let role = Role::ALL.into_iter().find(|role| role.name() == name);
            indices.set(role.ok_or(format!("there is no role `{name}`"))?, index);
        }
        Ok(Self {
            product: file.product,
            board: file.board,
            version: version(&file.version)?,
            minimum_version: version(&file.minimum_version)?,
            indices,
            update_id: digest("update_id", &file.update_id)?,
            update_digest: digest("update_sha256", &file.update_sha256)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_survive_their_file_and_whatever_is_not_exactly_right_is_refused_with_the_reason() {
        let mut indices = RoleIndices::default();
        indices.set(Role::Os, 5);
        indices.set(Role::Boot, 4);
        let facts = UpdateFacts {
            product: "demo".into(),
            board: "qemu-virt".into(),
            version: Version::new(1, 2, 3),
            minimum_version: Version::new(1, 0, 0),
            indices,
            update_id: [1; 32],
            update_digest: [2; 32],
        };
        let json = facts.to_json();
        assert_eq!(UpdateFacts::from_json(&json), Ok(facts));
        for (from, to, reason) in [
            ("\"format\": 1", "\"format\": 2", "its format is 2"),
            ("\"product\"", "\"produkt\"", "produkt"),
            ("\"version\": \"1.2.3\"", "\"version\": \"1.2\"", "MAJOR.MINOR.PATCH"),
            ("\"minimum_version\": \"1.0.0\"", "\"minimum_version\": \"\"", "MAJOR.MINOR.PATCH"),
            ("\"boot\": 4", "\"bot\": 4", "there is no role `bot`"),
            ("\"boot\": 4", "\"boot\": -4", "invalid value"),
            ("\"update_id\": \"", "\"update_id\": \"0", "`update_id` is no digest"),
            ("\"update_sha256\": \"", "\"update_sha256\": \"0", "`update_sha256` is no digest"),
            ("\n}\n", "\n", "EOF"),
        ] {
            assert!(json.contains(from), "{from}");
            let error = UpdateFacts::from_json(&json.replacen(from, to, 1)).unwrap_err();
            assert!(error.contains(reason), "{from}: {error}");
        }
    }
}
