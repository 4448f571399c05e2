//! `kiln package`: signs and encrypts what a lot of devices is provisioned with.

use crate::{Failure, output};
use boot_crypto::Key;
use boot_crypto::host::random;
use clap::Args;
use memory_map::qemu_virt::BOARD;
use release::{
    Compression, Identity, OsParts, OwnerKeys, PackageParts, PackageRelease, ReleaseProfile, hex, inside,
    read_secret, read_stage,
};
use sealed_image::Version;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Signs and encrypts a provisioning package.
///
/// The folder goes to the factory: all that it holds is encrypted, or no secret. The content key, which opens the
/// package, goes to the authority and nowhere else.
#[derive(Args, Debug)]
pub(crate) struct Package {
    /// The folder for the package; it must not be there
    package: PathBuf,
    /// The file for the content key; it must not be there, nor lie in the package's folder
    #[arg(long, value_name = "FILE")]
    content_key: PathBuf,
    /// The folder with the owner's keys
    #[arg(long, value_name = "FOLDER")]
    owner: PathBuf,
    /// The provisioning stage (ELF)
    #[arg(long, value_name = "FILE")]
    stage1: PathBuf,
    /// The production stage (ELF)
    #[arg(long, value_name = "FILE")]
    stage2: PathBuf,
    /// The kernel: an uncompressed arm64 Image
    #[arg(long, value_name = "FILE")]
    kernel: PathBuf,
    /// The device tree blob
    #[arg(long, value_name = "FILE")]
    device_tree: PathBuf,
    /// The initramfs
    #[arg(long, value_name = "FILE")]
    initramfs: Option<PathBuf>,
    /// The kernel command line
    #[arg(long, value_name = "TEXT", default_value = "")]
    cmdline: String,
    /// A key or certificate that every device gets; may be given several times
    #[arg(long, value_name = "FILE")]
    secret: Vec<PathBuf>,
    /// The version, MAJOR.MINOR.PATCH
    #[arg(long, value_name = "VERSION")]
    release_version: Version,
    /// What people call the release
    #[arg(long, value_name = "TEXT", default_value = "")]
    name: String,
    /// Counts up when older releases must not boot any more; fuses count to 64
    #[arg(long, value_name = "N", default_value_t = 0)]
    rollback_index: u32,
    /// The provisioning key of dies that are pre-provisioned already [default: a new one]
    #[arg(long, value_name = "FILE")]
    provisioning_key: Option<PathBuf>,
    /// Compress kernel and initramfs with LZ4
    #[arg(long)]
    compress: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

impl Package {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        if inside(&self.content_key, &self.package) {
            return Err(Failure::new(
                "the content key would lie in the package's folder, and go to the factory with it",
                "Choose a file for --content-key outside of that folder.",
            ));
        }
        let owner = OwnerKeys::read(&self.owner, ReleaseProfile::Development)?.owner()?;
        let identity = Identity {
            board: BOARD.into(),
            version: self.release_version,
            rollback_index: self.rollback_index,
        };
        let (release, content_key) = PackageRelease::make(&owner, &identity, self.parts()?)?;
        // The key first: a package whose key was lost is of no use.
        content_key.write(&self.content_key)?;
        release.write(&self.package)?;
        let facts = [
            ("package", json!(self.package)),
            ("package id", json!(hex(&release.facts.package_id))),
            ("stage1", json!(hex(&release.facts.stage1_measurement))),
            ("stage2", json!(hex(&release.facts.stage2_measurement))),
            ("bytes", json!(release.package.len())),
            ("content key", json!(self.content_key)),
        ];
        output::print(self.json, "A package:", &facts);
        if !self.json {
            eprintln!("Give {} to the authority, and to nobody else.", self.content_key.display());
        }
        Ok(())
    }

    fn parts(&self) -> Result<PackageParts, Failure> {
        let provisioning_key = match &self.provisioning_key {
            Some(file) => read_secret(file)?,
            None => Key::new(random()),
        };
        Ok(PackageParts {
            release: self.name.clone(),
            stage1: read_stage(&self.stage1)?,
            stage2: read_stage(&self.stage2)?,
            os: OsParts {
                kernel: read(&self.kernel)?,
                device_tree: read(&self.device_tree)?,
                initramfs: self.initramfs.as_deref().map(read).transpose()?,
                cmdline: self.cmdline.clone(),
                compression: if self.compress { Compression::Lz4 } else { Compression::None },
                places: release::OsPlaces::default(),
            },
            secrets: self.secret.iter().map(|file| read(file)).collect::<Result<_, _>>()?,
            provisioning_key,
        })
    }
}

/// Reads a file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| release::Error::Read { path: path.into(), error }.into())
}
