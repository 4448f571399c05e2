//! An update, whatever is wrong with it, and a device that reads it.

use crate::common::*;
use boot_crypto::Key;
use fail_code::FailCode;
use sealed_image::host::{Facts, SignedPayload, Signer};
use sealed_image::{
    Bundle, BundleObject, Compression, Error, Es256AndPs256, Grant, Header, Installed, Kind, PackageObject,
    Policy, Role, RoleIndices, UntrustedImage, Update, UpdateError, UpdateKey, VerifiedImage, Version,
};

pub(crate) const PRODUCT: &str = "demo";
pub(crate) const VERSION: Version = Version::new(1, 2, 3);
pub(crate) const MINIMUM: Version = Version::new(1, 1, 0);
pub(crate) const OS_KINDS: [Kind; 5] =
    [Kind::Kernel, Kind::DeviceTree, Kind::Initramfs, Kind::Bundle, Kind::Update];

pub(crate) fn update_key() -> Key {
    Key::new([0x7E; 32])
}

pub(crate) fn sealing_key() -> Key {
    UpdateKey::new(PRODUCT, &update_key()).unwrap().sealing_key()
}

/// What an update is made of, and how it differs from a sound one.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) version: Version,
    pub(crate) minimum: Version,
    pub(crate) product: &'static str,
    pub(crate) stage2: Option<(Version, u32)>,
    pub(crate) os_index: u32,
    /// What the index says of the roles `boot` and `os`.
    pub(crate) named: (Option<u32>, u32),
    /// Rollback index that the bundle's payload names.
    pub(crate) in_bundle: u32,
    pub(crate) kernel: u8,
}

impl Parts {
    pub(crate) fn sound() -> Self {
        Self {
            version: VERSION,
            minimum: MINIMUM,
            product: PRODUCT,
            stage2: Some((VERSION, 4)),
            os_index: 5,
            named: (Some(4), 5),
            in_bundle: 5,
            kernel: 3,
        }
    }

    pub(crate) fn os_only() -> Self {
        Self { stage2: None, named: (None, 5), ..Self::sound() }
    }

    /// The signed index, and the signed objects in their order.
    pub(crate) fn sign(&self) -> (SignedPayload, Vec<SignedPayload>) {
        let os = |kind, plain: Vec<u8>| sign_os(kind, self.version, self.os_index, plain);
        let mut objects = Vec::new();
        if let Some((version, index)) = self.stage2 {
            let facts = Facts { version, rollback_index: index, ..facts() };
            objects.push((Kind::Stage2, signed_by(&facts, &[boot_grant(&boot())], &[&boot()])));
        }
        let parts = [
            (Kind::Kernel, os(Kind::Kernel, vec![self.kernel; 5000])),
            (Kind::DeviceTree, os(Kind::DeviceTree, vec![4; 100])),
            (Kind::Initramfs, os(Kind::Initramfs, vec![5; 100])),
        ];
        let named: Vec<_> = parts
            .iter()
            .map(|(kind, object)| BundleObject { kind: *kind, manifest_digest: &object.manifest_digest })
            .collect();
        let bundle = Bundle::new(&named, "quiet", self.in_bundle).unwrap().encode();
        objects.push((Kind::Bundle, os(Kind::Bundle, bundle)));
        objects.extend(parts);

        let mut indices = RoleIndices::default();
        self.named.0.into_iter().for_each(|index| indices.set(Role::Boot, index));
        indices.set(Role::Os, self.named.1);
        let named: Vec<_> = objects
            .iter()
            .map(|(kind, object)| PackageObject { kind: *kind, manifest_digest: &object.manifest_digest })
            .collect();
        let index = Update::new(self.product, self.minimum, indices, &named).unwrap().encode();
        (os(Kind::Update, index), objects.into_iter().map(|(_, object)| object).collect())
    }

    /// The images in their order, the index first.
    pub(crate) fn images(&self) -> Vec<Vec<u8>> {
        let (index, objects) = self.sign();
        std::iter::once(&index).chain(&objects).map(|one| seal(one, &sealing_key())).collect()
    }
}

pub(crate) fn os_grant(key: &dyn Signer) -> Grant<'_> {
    grant(Role::Os, &OS_KINDS, key.public_key())
}

pub(crate) fn sign_os(kind: Kind, version: Version, rollback_index: u32, plain: Vec<u8>) -> SignedPayload {
    let (load_address, entry) = if kind == Kind::Kernel { (LOAD, LOAD) } else { (0, 0) };
    let facts = Facts { kind, version, rollback_index, load_address, entry, ..facts() };
    let key = key(3);
    SignedPayload::sign(&facts, plain, &delegate(&[os_grant(&key)]), &[&key]).unwrap()
}

pub(crate) fn seal(signed: &SignedPayload, kek: &Key) -> Vec<u8> {
    signed.seal(kek, Compression::None).unwrap()
}

pub(crate) fn installed() -> Installed<'static> {
    Installed { product: PRODUCT, version: MINIMUM, stage2: MINIMUM, floors: [4, 9, 5, 0, 0, 0] }
}

#[derive(Debug, PartialEq)]
pub(crate) enum Refused {
    Image(Error),
    Update(UpdateError),
}

impl Refused {
    pub(crate) fn code(&self) -> FailCode {
        match self {
            Self::Image(error) => error.code(),
            Self::Update(error) => error.code(),
        }
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Image(error)
    }
}

impl From<UpdateError> for Refused {
    fn from(error: UpdateError) -> Self {
        Self::Update(error)
    }
}

/// A device, and how far it came.
pub(crate) struct Device<'a> {
    pub(crate) installed: Installed<'a>,
    pub(crate) board: &'a str,
    pub(crate) key: Key,
    /// Images whose payload was opened.
    pub(crate) opened: usize,
}

impl<'a> Device<'a> {
    pub(crate) fn new(installed: Installed<'a>) -> Self {
        Self { installed, board: BOARD, key: sealing_key(), opened: 0 }
    }

    /// Reads an update as a device does.
    pub(crate) fn read(&mut self, images: &[Vec<u8>]) -> Result<RoleIndices, Refused> {
        let mut images = images.iter().map(Vec::as_slice);
        let index = images.next().unwrap_or_default();
        let (verified, plain) = (self.verify(index, Kind::Update)?, self.open(index, Kind::Update)?);
        let update = Update::parse(&plain)?;
        let mut admission = update.admit(&verified, &self.installed)?;
        while let Some(kind) = admission.next_kind() {
            let image = images.next().unwrap_or_default();
            admission.take(&self.verify(image, kind)?)?;
            let plain = self.open(image, kind)?;
            if kind == Kind::Bundle {
                admission.take_bundle(&Bundle::parse(&plain)?)?;
            }
        }
        Ok(admission.finish()?)
    }

    fn policy<T>(&self, kind: Kind, then: impl FnOnce(&Policy<'_>) -> T) -> T {
        let floor = self.installed.floors[usize::from(kind.role().unwrap().number()) - 1];
        then(&Policy { board: self.board, kind, rollback_floor: floor, ..policy(&roots()) })
    }

    pub(crate) fn verify<'i>(&self, image: &'i [u8], kind: Kind) -> Result<VerifiedImage<'i>, Error> {
        let header = Header::parse(image)?;
        let short = Error::Truncated { found: image.len() as u32, expected: header.metadata_len() };
        let metadata = image.get(..header.metadata_len() as usize).ok_or(short)?;
        let untrusted = UntrustedImage::parse(metadata)?;
        self.policy(kind, |policy| untrusted.verify::<Es256AndPs256>(policy))
    }

    pub(crate) fn open(&mut self, image: &[u8], kind: Kind) -> Result<Vec<u8>, Error> {
        let verified = self.verify(image, kind)?;
        let payload = &image[verified.header().metadata_len() as usize..];
        let plain = open_payload(&verified.unwrap_key(&self.key)?, payload)?;
        self.opened += 1;
        Ok(plain)
    }
}
