//! The provisioning package on the disk, and its way to the places that the device boots from.
//!
//! # Threats
//! *Whoever writes the disk writes the package*, at any time, also between two looks at it. Its index is the one whose
//! digest the ticket is for, or nothing is taken from it; every object is the one that the index names.

use alloc::vec;
use alloc::vec::Vec;

use boot_crypto::{Digest, Key};
use hal::Storage;
use memory_map::qemu_virt::{BOOT_SLOT_A, BOOT_STAGING, OS_SLOT_A, OS_SLOT_B, PACKAGE, SECRETS};
use sealed_image::{Bundle, Kind, MAX_METADATA, Package};
use store::Cursor;
use zeroize::Zeroizing;

use crate::Error;
use crate::born::DeviceKeys;
use crate::hardware::{Board, Hardware};
use crate::payload::{self, Destination, Medium};
use crate::random::Random;
use crate::trust::{Found, Trust};

/// Most bytes of an index's payload.
const MAX_INDEX: u64 = 16 * 1024;
/// Most bytes of a bundle's payload.
pub(crate) const MAX_BUNDLE: u64 = 16 * 1024;

/// What was ordered to be on this device, once the content key is there.
#[derive(Clone, Copy)]
pub(crate) struct Order<'a> {
    /// The package: the digest of its index's manifest.
    pub(crate) package_id: &'a Digest,
    /// The key that opens it.
    pub(crate) content_key: &'a Key,
}

/// What was ordered to be where: the manifest digests that the package's index names.
pub(crate) struct Contents {
    /// The production stage.
    pub(crate) stage2: Digest,
    /// The bundle, which names the objects of the operating system.
    pub(crate) bundle: Digest,
    /// The secret objects, in their order.
    pub(crate) secrets: Vec<Digest>,
}

/// Returns the id of the package on the disk, whose index is the owner's. Nothing is decrypted.
pub(crate) fn identify(disk: &mut impl Storage, trust: &Trust) -> Result<Digest, Error> {
    let mut buffer = vec![0; MAX_METADATA as usize];
    let mut cursor = Cursor::new(PACKAGE);
    let found = next(disk, &mut cursor, trust, Kind::Package, None, &mut buffer)?;
    Ok(*found.image.manifest_digest())
}

/// Reads what the package names.
pub(crate) fn contents(disk: &mut impl Storage, trust: &Trust, order: &Order<'_>) -> Result<Contents, Error> {
    let index = read_index(disk, &mut Cursor::new(PACKAGE), trust, order)?;
    let package = parse_index(&index)?;
    let named = |kind| {
        let object = package.objects().find(|object| object.kind == kind);
        object.map(|object| *object.manifest_digest).ok_or(Error::PackageIncomplete { kind })
    };
    Ok(Contents {
        stage2: named(Kind::Stage2)?,
        bundle: named(Kind::Bundle)?,
        secrets: package.secrets().map(|object| *object.manifest_digest).collect(),
    })
}

/// Makes every copy that the device needs, but for the one in the primary boot slot. Returns the bytes written.
pub(crate) fn re_key<H: Hardware>(
    board: &mut Board<'_, H>,
    trust: &Trust,
    order: &Order<'_>,
    keys: &DeviceKeys,
    random: &mut Random,
) -> Result<u64, Error> {
    let mut staging = [Destination::new(Medium::Flash, BOOT_STAGING, &keys.boot)];
    let mut os = [OS_SLOT_A, OS_SLOT_B].map(|slot| Destination::new(Medium::Disk, slot, &keys.os));
    let mut secrets = [Destination::new(Medium::Flash, SECRETS, &keys.secret)];
    for destination in staging.iter().chain(&os).chain(&secrets) {
        destination.erase(board)?;
    }
    let mut written = 0_u64;
    walk(board, trust, order, |board, found| {
        let destinations = match found.image.manifest().kind {
            Kind::Stage2 => staging.as_mut_slice(),
            Kind::Secret => &mut secrets,
            _ => &mut os,
        };
        let bytes = payload::reseal(board, found, order.content_key, destinations, random)?;
        written = written.saturating_add(bytes);
        Ok(true)
    })?;
    payload::flush(board)?;
    Ok(written)
}

/// Writes the production stage over this one in the primary boot slot. Returns the bytes written.
pub(crate) fn replace_stage<H: Hardware>(
    board: &mut Board<'_, H>,
    trust: &Trust,
    order: &Order<'_>,
    keys: &DeviceKeys,
    random: &mut Random,
) -> Result<u64, Error> {
    let mut primary = [Destination::new(Medium::Flash, BOOT_SLOT_A, &keys.boot)];
    let mut written = 0;
    walk(board, trust, order, |board, found| {
        primary.iter().try_for_each(|destination| destination.erase(board))?;
        written = payload::reseal(board, found, order.content_key, &mut primary, random)?;
        // The production stage is the first object.
        Ok(false)
    })?;
    payload::flush(board)?;
    Ok(written)
}

/// Walks the objects of the package in their order, each verified and the one that the index names, and hands them to
/// `take` until that returns false.
fn walk<H: Hardware>(
    board: &mut Board<'_, H>,
    trust: &Trust,
    order: &Order<'_>,
    mut take: impl FnMut(&mut Board<'_, H>, &Found<'_>) -> Result<bool, Error>,
) -> Result<(), Error> {
    let mut cursor = Cursor::new(PACKAGE);
    let index = read_index(board.disk()?, &mut cursor, trust, order)?;
    let package = parse_index(&index)?;
    let mut buffer = vec![0; MAX_METADATA as usize];
    for object in package.objects() {
        let digest = Some(object.manifest_digest);
        let found = next(board.disk()?, &mut cursor, trust, object.kind, digest, &mut buffer)?;
        if object.kind == Kind::Bundle {
            let payload = payload::read(board.disk()?, &found, order.content_key, MAX_BUNDLE)?;
            let bundle = parse_bundle(&payload, &found)?;
            package.check_bundle(&bundle).map_err(malformed)?;
        }
        if !take(board, &found)? {
            break;
        }
    }
    Ok(())
}

/// Reads the index of the package that was ordered; the cursor stands behind it then.
fn read_index(
    disk: &mut impl Storage,
    cursor: &mut Cursor,
    trust: &Trust,
    order: &Order<'_>,
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let mut buffer = vec![0; MAX_METADATA as usize];
    let found = next(disk, cursor, trust, Kind::Package, Some(order.package_id), &mut buffer)?;
    payload::read(disk, &found, order.content_key, MAX_INDEX)
}

fn parse_index(index: &Zeroizing<Vec<u8>>) -> Result<Package<'_>, Error> {
    Package::parse(index).map_err(malformed)
}

const fn malformed(error: sealed_image::Error) -> Error {
    Error::Image { kind: Kind::Package, error }
}

/// Parses the payload of a bundle, whose rollback index must be the one of its manifest.
pub(crate) fn parse_bundle<'p>(
    payload: &'p Zeroizing<Vec<u8>>,
    found: &Found<'_>,
) -> Result<Bundle<'p>, Error> {
    let bundle = Bundle::parse(payload).map_err(|error| Error::Image { kind: Kind::Bundle, error })?;
    if bundle.rollback_index != found.image.manifest().rollback_index {
        return Err(Error::BundleIndex);
    }
    Ok(bundle)
}

/// Reads the next image of the package, and says of what is not there that the package lacks it.
fn next<'b>(
    disk: &mut impl Storage,
    cursor: &mut Cursor,
    trust: &Trust,
    kind: Kind,
    named: Option<&Digest>,
    buffer: &'b mut [u8],
) -> Result<Found<'b>, Error> {
    trust.read_next(disk, cursor, kind, named, buffer).map_err(|error| match error {
        Error::Store(store::Error::Empty { .. }) => Error::PackageMissing,
        Error::Store(store::Error::NoFurtherImage { .. }) => Error::PackageIncomplete { kind },
        other => other,
    })
}
