//! `kiln package`: signs and encrypts what a lot of devices is provisioned with.

use crate::{Failure, output};
use boot_crypto::Key;
use boot_crypto::host::random;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use memory_map::qemu_virt::BOARD;
use release::{
    Compression, ContentKeyPlace, Identity, OsParts, OwnerKeys, PackageParts, PackageRelease, ReleaseProfile,
    hex, inside, read_secret, read_stage, refuse_existing,
};
use sealed_image::Version;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Signs and encrypts a provisioning package.
///
/// The folder goes to the factory: all that it holds is encrypted, or no secret. The content key, which opens the package, goes to
/// the authority and nowhere else: sealed to it with --authority-key, or in the clear with --content-key, for tests. `kiln release`
/// makes a package with all that others need to check it.
#[derive(Args, Debug)]
pub(crate) struct Package {
    /// The folder for the package; it must not be there
    package: PathBuf,
    /// The file for the content key, in the clear; it must not be there, nor lie in the package's folder
    #[arg(long, value_name = "FILE")]
    content_key: Option<PathBuf>,
    /// The sealing key of the authority that gets the content key, as `kiln authority key export` writes it
    #[arg(long, value_name = "FILE", requires = "sealed_content_key")]
    authority_key: Option<PathBuf>,
    /// The file for the content key as it is sealed to the authority; it must not be there, nor lie in the package's folder
    #[arg(long, value_name = "FILE", requires = "authority_key")]
    sealed_content_key: Option<PathBuf>,
    /// Whether it is for a product: production takes the owner's keys from a token only, and seals the content key
    #[arg(long, value_name = "PROFILE", value_parser = profile(), default_value = "development")]
    profile: ReleaseProfile,
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
        refuse_existing(&self.package)?;
        let (authority, file) = (self.authority_key.as_deref(), self.content_key.as_deref());
        let key_to = ContentKeyPlace::choose(self.profile, authority, file, &self.package)?;
        if let Some(sealed) = &self.sealed_content_key {
            refuse_existing(sealed)?;
            if inside(sealed, &self.package) {
                return Err(release::Error::ContentKeyInside { path: sealed.clone() }.into());
            }
        }
        let owner = OwnerKeys::read(&self.owner, self.profile)?.owner()?;
        let identity = Identity {
            board: BOARD.into(),
            version: self.release_version,
            rollback_index: self.rollback_index.into(),
        };
        let (release, content_key) = PackageRelease::make(&owner, &identity, self.parts()?)?;
        // The key first: a package whose key was lost is of no use.
        let file = match &key_to {
            ContentKeyPlace::Sealed(authority) => {
                let file = self.sealed_content_key.as_deref().expect("clap asks for both");
                content_key.seal(authority, &release.facts)?.write(file)?;
                file
            }
            ContentKeyPlace::Open(file) => {
                content_key.write(file)?;
                *file
            }
        };
        if let Err(error) = release.write(&self.package) {
            // Nothing opens with it: what it belongs to is not there.
            let _ = std::fs::remove_file(file);
            return Err(error.into());
        }
        let mut facts = vec![
            ("package", json!(self.package)),
            ("package id", json!(hex(&release.facts.package_id))),
            ("stage1", json!(hex(&release.facts.stage1_measurement))),
            ("stage2", json!(hex(&release.facts.stage2_measurement))),
            ("bytes", json!(release.package.len())),
        ];
        match &key_to {
            ContentKeyPlace::Sealed(authority) => facts.extend([
                ("sealed content key", json!(file)),
                ("content key sealed to", json!(hex(&authority.thumbprint()))),
            ]),
            ContentKeyPlace::Open(_) => facts.push(("content key", json!(file))),
        }
        output::print(self.json, "A package:", &facts);
        if let (ContentKeyPlace::Open(file), false) = (&key_to, self.json) {
            eprintln!("Give {} to the authority, and to nobody else.", file.display());
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

fn profile() -> impl TypedValueParser<Value = ReleaseProfile> {
    PossibleValuesParser::new(["development", "production"]).map(|text| match text.as_str() {
        "production" => ReleaseProfile::Production,
        _ => ReleaseProfile::Development,
    })
}
