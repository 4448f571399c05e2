//! The payload of a package's index: what a device is provisioned with.

use crate::cbor::{self, Decode, Reader};
use crate::{Bundle, Error, Kind, Part};
use boot_crypto::{Digest, equal};

/// Most objects of a package.
pub const MAX_PACKAGE_OBJECTS: usize = 64;
/// Longest name of a release, in bytes.
pub const MAX_RELEASE: usize = 64;

/// An object that the index of a package, or of an update, names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackageObject<'a> {
    /// Its kind.
    pub kind: Kind,
    /// The SHA-256 of its manifest.
    pub manifest_digest: &'a Digest,
}

/// The objects of a provisioning package, in the order in which they lie behind the index: the production stage,
/// the bundle, the bundle's objects, secret objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Package<'a> {
    objects: [Option<PackageObject<'a>>; MAX_PACKAGE_OBJECTS],
    /// What people call the release: up to 64 printable ASCII characters, possibly none.
    pub release: &'a str,
}

impl<'a> Package<'a> {
    /// Parses the payload of a package's index, already decrypted and known to be signed.
    ///
    /// # Errors
    /// Anything but the one encoding of at most 64 different objects in their order.
    pub fn parse(payload: &'a [u8]) -> Result<Self, Error> {
        let package: Self =
            cbor::parse_exact(payload).map_err(|offset| Error::Malformed { part: Part::Package, offset })?;
        package.check()?;
        Ok(package)
    }

    /// Lists the objects in their order.
    pub fn objects(&self) -> impl Iterator<Item = &PackageObject<'a>> {
        self.objects.iter().flatten()
    }

    /// Lists the objects of the bundle in their order.
    pub fn os_objects(&self) -> impl Iterator<Item = &PackageObject<'a>> {
        self.objects().skip(2).take_while(|object| object.kind != Kind::Secret)
    }

    /// Lists the secret objects in their order.
    pub fn secrets(&self) -> impl Iterator<Item = &PackageObject<'a>> {
        self.objects().skip(2).skip_while(|object| object.kind != Kind::Secret)
    }

    /// Checks that the package holds exactly the objects that its bundle names, in the bundle's order.
    ///
    /// # Errors
    /// [`Error::PackageBundle`] with the place where they differ.
    pub fn check_bundle(&self, bundle: &Bundle<'_>) -> Result<(), Error> {
        let (mut ours, mut theirs) = (self.os_objects(), bundle.objects());
        for place in 2.. {
            let same = match (ours.next(), theirs.next()) {
                (None, None) => return Ok(()),
                (Some(a), Some(b)) => {
                    a.kind == b.kind && equal(a.manifest_digest, b.manifest_digest).accepts()
                }
                _ => false,
            };
            if !same {
                return Err(Error::PackageBundle { place });
            }
        }
        Ok(())
    }

    /// Makes a package.
    ///
    /// # Errors
    /// Whatever a device would refuse.
    #[cfg(feature = "host")]
    pub fn new(objects: &[PackageObject<'a>], release: &'a str) -> Result<Self, Error> {
        if objects.len() > MAX_PACKAGE_OBJECTS || !printable(release) {
            return Err(Error::Malformed { part: Part::Package, offset: 0 });
        }
        let mut places = [None; MAX_PACKAGE_OBJECTS];
        places.iter_mut().zip(objects).for_each(|(place, object)| *place = Some(*object));
        let package = Self { objects: places, release };
        package.check()?;
        Ok(package)
    }

    /// Encodes the payload.
    #[cfg(feature = "host")]
    pub fn encode(&self) -> std::vec::Vec<u8> {
        cbor::encode(|e| {
            e.map(2)?.u8(1)?.array(self.objects().count() as u64)?;
            for object in self.objects() {
                e.array(2)?.u8(object.kind.number())?.bytes(object.manifest_digest)?;
            }
            e.u8(2)?.str(self.release)?.ok()
        })
    }

    fn check(&self) -> Result<(), Error> {
        let mut kinds = self.objects().map(|object| object.kind);
        for kind in [Kind::Stage2, Kind::Bundle] {
            match kinds.next() {
                Some(found) if found == kind => {}
                Some(found) => {
                    return Err(Error::PackageOrder { place: u32::from(kind == Kind::Bundle), kind: found });
                }
                None => return Err(Error::PackageMissing { kind }),
            }
        }
        let mut secrets = false;
        for (place, kind) in (2..).zip(kinds) {
            match kind {
                Kind::Kernel | Kind::DeviceTree | Kind::Initramfs if !secrets => {}
                Kind::Secret => secrets = true,
                Kind::Tee => return Err(Error::KindReserved { kind }),
                _ => return Err(Error::PackageOrder { place, kind }),
            }
        }
        for kind in [Kind::Kernel, Kind::DeviceTree] {
            if !self.os_objects().any(|object| object.kind == kind) {
                return Err(Error::PackageMissing { kind });
            }
        }
        for (place, object) in self.objects().enumerate() {
            let twice = |before: &PackageObject<'_>| before.manifest_digest == object.manifest_digest;
            if self.objects().take(place).any(twice) {
                return Err(Error::PackageTwice { place: place as u32 });
            }
        }
        Ok(())
    }
}

fn printable(text: &str) -> bool {
    text.len() <= MAX_RELEASE && text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

impl<'b> Decode<'b> for Package<'b> {
    fn decode(r: &mut Reader<'b>) -> Option<Self> {
        r.map(2)?;
        r.key(1)?;
        let mut objects = [None; MAX_PACKAGE_OBJECTS];
        let count = r.array_up_to(objects.len())?;
        for object in objects.iter_mut().take(count) {
            r.array(2)?;
            let kind = Kind::from_number(r.uint()?)?;
            *object = Some(PackageObject { kind, manifest_digest: r.fixed()? });
        }
        r.key(2)?;
        Some(Self { objects, release: r.text().filter(|text| printable(text))? })
    }
}
