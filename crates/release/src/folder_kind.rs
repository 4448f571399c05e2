//! Which of the folders that Kiln makes a folder is.
//!
//! # Threats
//! Whoever can put a file into a folder could have it taken for another one, so that its other files are not looked at. So a
//! folder is known by all its files: one that has files of two is refused.

use crate::folder::{MANIFEST, SUMS};
use crate::update::{FACTS_FILE, UPDATE_FILE};
use crate::{DeviceFiles, Error, files, package_files};
use std::path::{Path, PathBuf};

/// A folder that Kiln makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FolderKind {
    /// A release, with its package and whatever else belongs to it.
    Release,
    /// A provisioning package.
    Package,
    /// An update image and what is known of it.
    Update,
    /// The flash banks and the disk of a device.
    Device,
}

impl FolderKind {
    const ALL: [Self; 4] = [Self::Release, Self::Package, Self::Update, Self::Device];

    /// Tells what a folder is by the names in it; `None` if it has none of those that Kiln writes.
    ///
    /// # Errors
    /// [`Error::ReleaseFile`] for files of two kinds.
    pub fn of(folder: &Path) -> Result<Option<Self>, Error> {
        let mut found =
            Self::ALL.into_iter().filter(|kind| kind.files(folder).iter().any(|file| files::is_there(file)));
        match (found.next(), found.next()) {
            (Some(first), Some(second)) => Err(Error::ReleaseFile {
                path: folder.into(),
                reason: format!(
                    "it has files of {} and of {}: give a folder that has those of one",
                    first.name(),
                    second.name()
                ),
            }),
            // Others write sums too, beside whatever it is.
            (None, _) if files::is_there(&folder.join(SUMS)) => Ok(Some(Self::Release)),
            (kind, _) => Ok(kind),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Release => "a release",
            Self::Package => "a package",
            Self::Update => "an update",
            Self::Device => "a device",
        }
    }

    fn files(self, folder: &Path) -> Vec<PathBuf> {
        let names: &[&str] = match self {
            Self::Release => &[MANIFEST],
            Self::Package => &package_files::ALL,
            Self::Update => &[UPDATE_FILE, FACTS_FILE],
            Self::Device => {
                let device = DeviceFiles::new(folder);
                return vec![device.flash0(), device.flash1(), device.disk()];
            }
        };
        names.iter().map(|name| folder.join(name)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_one_thing_whatever_lies_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        assert_eq!(FolderKind::of(folder).unwrap(), None);
        std::fs::write(folder.join("SHA256SUMS"), "").unwrap();
        assert_eq!(FolderKind::of(folder).unwrap(), Some(FolderKind::Release));
        for (one, other) in [
            ("update.img", "release.json"),
            ("update.img", "disk.img"),
            ("update.json", "package.img"),
            ("stage1.img", "flash0.img"),
            ("provisioning.key", "update.json"),
            ("package.img", "release.cose"),
            ("flash1.img", "release.cose"),
        ] {
            std::fs::write(folder.join(one), "").unwrap();
            assert!(matches!(FolderKind::of(folder), Ok(Some(kind)) if kind != FolderKind::Release), "{one}");
            // Not even a link that leads nowhere is passed over.
            std::os::unix::fs::symlink("nowhere", folder.join(other)).unwrap();
            let error = FolderKind::of(folder).unwrap_err().to_string();
            assert!(error.contains(" and of "), "{error}");
            [one, other].iter().for_each(|name| std::fs::remove_file(folder.join(name)).unwrap());
        }
    }
}
