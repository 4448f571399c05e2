//! What a device would make of a slot: the device's own code, run on the host.

use crate::{Error, ImageInfo, inspect_slot};
use boot_crypto::{Digest, Key};
use lifecycle::ROLES;
use sealed_image::{
    Bundle, Es256AndPs256, Header, Kind, PAYLOAD_ALIGN, Package, Policy, Root, Tally, UntrustedImage,
};

/// An image that a device would run or load.
#[derive(Clone, Debug)]
pub struct OpenedImage {
    /// What it says about itself, now verified.
    pub info: ImageInfo,
    /// Its payload in the clear.
    pub plain: Vec<u8>,
}

/// What a device judges images by.
pub(crate) struct Judge<'a> {
    pub(crate) board: &'a str,
    pub(crate) root: Digest,
    /// Rollback floor of each role, at the index of its number less 1.
    pub(crate) floors: [u8; ROLES as usize],
    pub(crate) refuse_test_keys: bool,
}

impl<'a> Judge<'a> {
    /// A die of this root at rollback floor 0, with test keys admitted.
    fn lenient(board: &'a str, root: Digest) -> Self {
        Self { board, root, floors: [0; ROLES as usize], refuse_test_keys: false }
    }

    /// Judges something by what an image of this kind must be.
    fn policy<T>(&self, kind: Kind, judge: impl FnOnce(&Policy<'_>) -> T) -> T {
        let floor = kind.role().map(|role| self.floors[usize::from(role.number()) - 1]);
        judge(&Policy {
            board: self.board,
            kind,
            roots: &[Root { digest: self.root, revoked: false }],
            rollback_floor: u32::from(floor.unwrap_or_default()),
            refuse_test_keys: self.refuse_test_keys,
        })
    }
}

/// Verifies and decrypts a boot slot as stage0 of a die with this root would, at rollback floor 0 and with
/// test keys admitted.
///
/// # Errors
/// Why the device would refuse it.
pub fn open_boot_slot(slot: &[u8], board: &str, root: Digest, key: &Key) -> Result<OpenedImage, Error> {
    open_first(slot, Kind::Stage2, &Judge::lenient(board, root), key)
}

/// Verifies and decrypts an OS slot as stage2 of a die with this root would: the bundle first, then every
/// object that it names. The first image returned is the bundle.
///
/// # Errors
/// Why the device would refuse it.
pub fn open_os_slot(slot: &[u8], board: &str, root: Digest, key: &Key) -> Result<Vec<OpenedImage>, Error> {
    let judge = Judge::lenient(board, root);
    let mut images = Images::of(slot)?;
    let bundle = images.open(Kind::Bundle, &judge, key)?;
    let named = Bundle::parse(&bundle.plain).map_err(|error| Error::Image { offset: 0, error })?;
    let mut objects = Vec::new();
    for object in named.objects() {
        let kind = object.kind;
        let opened = images.open(kind, &judge, key)?;
        if opened.info.digest != *object.manifest_digest {
            return Err(Error::NotInBundle { offset: opened.info.offset, kind });
        }
        objects.push(opened);
    }
    objects.insert(0, bundle);
    Ok(objects)
}

/// Verifies and decrypts the first image of a slot.
pub(crate) fn open_first(
    slot: &[u8],
    kind: Kind,
    judge: &Judge<'_>,
    key: &Key,
) -> Result<OpenedImage, Error> {
    Images::of(slot)?.open(kind, judge, key)
}

/// Verifies and decrypts a package as stage1 does: the index first, then every object that it names, and whether
/// the bundle names the same ones. The first image returned is the index.
pub(crate) fn open_package(
    package: &[u8],
    judge: &Judge<'_>,
    content_key: &Key,
) -> Result<Vec<OpenedImage>, Error> {
    let mut images = Images::of(package)?;
    let index = images.open(Kind::Package, judge, content_key)?;
    let at_start = |error| Error::Image { offset: 0, error };
    let named = Package::parse(&index.plain).map_err(at_start)?;
    let mut objects = Vec::new();
    for object in named.objects() {
        let opened = images.open(object.kind, judge, content_key)?;
        let offset = opened.info.offset;
        if opened.info.digest != *object.manifest_digest {
            return Err(Error::NotInPackage { offset, kind: object.kind });
        }
        if object.kind == Kind::Bundle {
            let at = |error| Error::Image { offset, error };
            named.check_bundle(&Bundle::parse(&opened.plain).map_err(at)?).map_err(at)?;
        }
        objects.push(opened);
    }
    objects.insert(0, index);
    Ok(objects)
}

/// Verifies who signed each image of a slot, as a device does before it has a key: the chain from the root, the role,
/// the board and the rollback floor. The first image must be of the kind `first`; what the others are, they say
/// themselves, signed. Nothing is decrypted.
pub(crate) fn verify_signatures(
    slot: &[u8],
    first: Kind,
    judge: &Judge<'_>,
) -> Result<Vec<ImageInfo>, Error> {
    let infos = inspect_slot(slot)?;
    for (place, info) in infos.iter().enumerate() {
        let kind = if place == 0 { first } else { info.kind };
        let image = slot.get(info.offset as usize..).ok_or(Error::SlotTruncated { offset: info.offset })?;
        judge
            .policy(kind, |policy| {
                let header = Header::parse(image)?;
                let metadata = image.get(..header.metadata_len() as usize);
                let truncated = sealed_image::Error::Truncated {
                    found: image.len() as u32,
                    expected: header.metadata_len(),
                };
                UntrustedImage::parse(metadata.ok_or(truncated)?)?.verify::<Es256AndPs256>(policy).map(|_| ())
            })
            .map_err(|error| Error::Image { offset: info.offset, error })?;
    }
    Ok(infos)
}

/// The images of a slot, one after the other.
struct Images<'a> {
    slot: &'a [u8],
    infos: std::vec::IntoIter<ImageInfo>,
    /// Where the next image starts, in bytes.
    next: u64,
}

impl<'a> Images<'a> {
    fn of(slot: &'a [u8]) -> Result<Self, Error> {
        Ok(Self { slot, infos: inspect_slot(slot)?.into_iter(), next: 0 })
    }

    /// Opens the next image, which must be of this kind.
    fn open(&mut self, kind: Kind, judge: &Judge<'_>, key: &Key) -> Result<OpenedImage, Error> {
        let info = self.infos.next().ok_or(Error::SlotTruncated { offset: self.next })?;
        let offset = info.offset;
        self.next = (offset + info.stored_bytes).next_multiple_of(u64::from(PAYLOAD_ALIGN));
        let bytes = self.slot.get(offset as usize..).ok_or(Error::SlotTruncated { offset })?;
        let plain = judge
            .policy(kind, |policy| decrypt(bytes, policy, key))
            .map_err(|error| Error::Image { offset, error })?;
        Ok(OpenedImage { info, plain })
    }
}

fn decrypt(image: &[u8], policy: &Policy<'_>, key: &Key) -> Result<Vec<u8>, sealed_image::Error> {
    let header = Header::parse(image)?;
    let metadata_len = header.metadata_len() as usize;
    let truncated =
        sealed_image::Error::Truncated { found: image.len() as u32, expected: metadata_len as u32 };
    let (metadata, payload) = image.split_at_checked(metadata_len).ok_or(truncated)?;
    let verified = UntrustedImage::parse(metadata)?.verify::<Es256AndPs256>(policy)?;
    let opener = verified.unwrap_key(key)?;
    let mut plain = Vec::new();
    let mut tally = Tally::default();
    for chunk in opener.chunks() {
        let start = chunk.stored_offset as usize;
        let end = start + chunk.stored_len as usize;
        let mut stored = payload.get(start..end).ok_or(truncated)?.to_vec();
        let mut opened = vec![0; chunk.plain_len as usize];
        tally.add(&opener.open_chunk_into(chunk.index, &mut stored, &mut opened)?);
        plain.extend(opened);
    }
    let _complete = opener.finish(&tally)?;
    Ok(plain)
}
