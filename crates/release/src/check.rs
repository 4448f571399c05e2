//! What a device would make of a slot: the device's own code, run on the host.

use crate::inspect::{self, ImageInfo};
use crate::slot::Placed;
use crate::{Error, Floors};
use boot_crypto::{Digest, Key};
use hal::Storage as _;
use lifecycle::ROLES;
use memory_map::Region;
use sealed_image::host::Inspected;
use sealed_image::{
    Bundle, Es256AndPs256, Header, Kind, MAX_METADATA, Package, Policy, Root, Tally, UntrustedImage,
    VerifiedImage,
};
use std::fmt;
use store::Cursor;
use zeroize::Zeroizing;

/// An image that a device would run or load. Its payload is wiped once it is dropped.
pub struct OpenedImage {
    /// What it says about itself, now verified.
    pub info: ImageInfo,
    /// Its payload in the clear.
    pub plain: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for OpenedImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenedImage").field("info", &self.info).finish_non_exhaustive()
    }
}

/// Whom the fuses of a device trust, and from which rollback index on: what a release or a package is judged by, and never
/// what it says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trusted {
    /// Thumbprint of the owner root.
    pub root: Digest,
    /// Thumbprints of roots that were revoked since.
    pub revoked: Vec<Digest>,
    /// The floor of every role; what is judged may bring higher ones.
    pub floors: Floors,
}

impl Trusted {
    /// Trusts a root, none of which was revoked, from rollback index 0 on.
    pub fn root(root: Digest) -> Self {
        Self { root, revoked: Vec::new(), floors: Floors::default() }
    }

    /// Returns the roots as fuses hold them.
    pub(crate) fn roots(&self) -> Vec<Root> {
        let revoked = self.revoked.iter().map(|digest| Root { digest: *digest, revoked: true });
        std::iter::once(active(self.root)).chain(revoked).collect()
    }

    /// Judges as a device of production does, with the floors that what is judged brings, or higher ones.
    pub(crate) fn judge<'a>(&self, board: &'a str, brought: [u8; ROLES as usize]) -> Judge<'a> {
        let floors = self.floors.raised_to(brought);
        Judge { board, roots: self.roots(), floors, refuse_test_keys: true }
    }
}

/// What a device judges images by.
pub(crate) struct Judge<'a> {
    pub(crate) board: &'a str,
    pub(crate) roots: Vec<Root>,
    /// Rollback floor of each role, at the index of its number less 1.
    pub(crate) floors: [u8; ROLES as usize],
    pub(crate) refuse_test_keys: bool,
}

impl<'a> Judge<'a> {
    /// A die of this root at rollback floor 0, with test keys admitted.
    fn lenient(board: &'a str, root: Digest) -> Self {
        Self { board, roots: vec![active(root)], floors: [0; ROLES as usize], refuse_test_keys: false }
    }

    /// Judges something by what an image of this kind must be.
    pub(crate) fn policy<T>(&self, kind: Kind, judge: impl FnOnce(&Policy<'_>) -> T) -> T {
        let floor = kind.role().map(|role| self.floors[usize::from(role.number()) - 1]);
        judge(&Policy {
            board: self.board,
            kind,
            roots: &self.roots,
            rollback_floor: u32::from(floor.unwrap_or_default()),
            refuse_test_keys: self.refuse_test_keys,
        })
    }
}

impl Judge<'_> {
    /// Verifies the signatures of an image, which must be of this kind.
    pub(crate) fn verify<'i>(
        &self,
        slot: &'i [u8],
        info: &ImageInfo,
        kind: Kind,
    ) -> Result<VerifiedImage<'i>, Error> {
        let offset = info.offset;
        let image = slot.get(offset as usize..).ok_or(Error::SlotTruncated { offset })?;
        let verified = || {
            let length = Header::parse(image)?.metadata_len();
            let short = sealed_image::Error::Truncated { found: image.len() as u32, expected: length };
            let metadata = image.get(..length as usize).ok_or(short)?;
            let image = UntrustedImage::parse(metadata)?;
            self.policy(kind, |policy| image.verify::<Es256AndPs256>(policy))
        };
        verified().map_err(|error| Error::Image { offset, error })
    }
}

/// Returns a root that fuses hold and that was not revoked.
pub(crate) fn active(digest: Digest) -> Root {
    Root { digest, revoked: false }
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
    open_system(slot, &Judge::lenient(board, root), key)
}

/// Verifies and decrypts an OS slot: the bundle first, then every object that it names.
pub(crate) fn open_system(slot: &[u8], judge: &Judge<'_>, key: &Key) -> Result<Vec<OpenedImage>, Error> {
    let mut images = Images::of(slot, Kind::Bundle);
    let bundle = images.open(Kind::Bundle, judge, key)?;
    let named = Bundle::parse(&bundle.plain).map_err(|error| Error::Image { offset: 0, error })?;
    let mut objects = Vec::new();
    for object in named.objects() {
        objects.push(images.open_named(object.kind, object.manifest_digest, judge, key)?);
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
    Images::of(slot, kind).open(kind, judge, key)
}

/// Verifies and decrypts a package as stage1 does: the index first, then every object that it names, and whether
/// the bundle names the same ones. The first image returned is the index.
pub(crate) fn open_package(
    package: &[u8],
    judge: &Judge<'_>,
    content_key: &Key,
) -> Result<Vec<OpenedImage>, Error> {
    let mut images = Images::of(package, Kind::Package);
    let index = images.open(Kind::Package, judge, content_key)?;
    let at_start = |error| Error::Image { offset: 0, error };
    let named = Package::parse(&index.plain).map_err(at_start)?;
    let mut objects = Vec::new();
    for object in named.objects() {
        let opened = images.open_named(object.kind, object.manifest_digest, judge, content_key)?;
        if object.kind == Kind::Bundle {
            let at = |error| Error::Image { offset: opened.info.offset, error };
            named.check_bundle(&Bundle::parse(&opened.plain).map_err(at)?).map_err(at)?;
        }
        objects.push(opened);
    }
    objects.insert(0, index);
    Ok(objects)
}

/// Verifies who signed each image of a slot, as a device does before it has a key: the chain from the root, the role,
/// the board and the rollback floor. The first image must be of the kind `first`; what the others are, they say
/// themselves, signed. Nothing is decrypted, but every payload must be there in its length.
pub(crate) fn verify_signatures(
    slot: &[u8],
    first: Kind,
    judge: &Judge<'_>,
) -> Result<Vec<ImageInfo>, Error> {
    let mut images = Images::of(slot, first);
    let mut infos = vec![images.signed(Some(first), judge)?];
    while !images.at_end() {
        infos.push(images.signed(None, judge)?);
    }
    Ok(infos)
}

/// Returns the kind that an image says it is of, before anything is verified.
pub(crate) fn claimed(untrusted: &[u8]) -> Option<Kind> {
    Inspected::of(untrusted).ok().map(|image| image.manifest.kind)
}

/// The images of a slot, one after the other, as devices walk them.
struct Images<'a> {
    slot: Placed<'a>,
    /// What the first of them should be.
    first: Kind,
    cursor: Cursor,
    buffer: Vec<u8>,
    /// Where the next image starts, in bytes.
    next: u64,
}

impl<'a> Images<'a> {
    /// Takes the images of a slot, the first of which should be of this kind.
    fn of(slot: &'a [u8], first: Kind) -> Self {
        let slot = Placed::new(slot, first);
        let cursor = Cursor::new(slot.region());
        Self { slot, first, cursor, buffer: vec![0; MAX_METADATA as usize], next: 0 }
    }

    /// Tells whether no image starts where the next one would.
    fn at_end(&mut self) -> bool {
        let next = self.cursor.clone().read_next(&mut self.slot, &mut self.buffer);
        matches!(next, Err(store::Error::Empty { .. } | store::Error::NoFurtherImage { .. }))
    }

    /// Verifies the metadata of the next image, which must be of this kind or of the one that it says, and has `take` take
    /// its payload.
    fn next<T>(
        &mut self,
        kind: Option<Kind>,
        judge: &Judge<'_>,
        take: impl FnOnce(&mut Placed<'a>, &VerifiedImage<'_>, Region) -> Result<T, sealed_image::Error>,
    ) -> Result<(ImageInfo, T), Error> {
        let offset = self.next;
        let at = |error| Error::Image { offset, error };
        let stored = self.cursor.read_next(&mut self.slot, &mut self.buffer);
        let stored = stored.map_err(|error| match (error, self.first, kind) {
            (store::Error::Empty { .. }, Kind::Package, _) => Error::PackageMissing,
            (store::Error::NoFurtherImage { .. }, Kind::Package, Some(kind)) => {
                Error::PackageIncomplete { offset, kind }
            }
            (store::Error::Empty { .. }, ..) => Error::SlotEmpty,
            (store::Error::Header(error), ..) => at(error),
            _ => Error::SlotTruncated { offset },
        })?;
        let metadata = stored.untrusted_metadata;
        let kind = kind.or_else(|| claimed(metadata)).unwrap_or(Kind::Package);
        let verified = judge
            .policy(kind, |policy| UntrustedImage::parse(metadata)?.verify::<Es256AndPs256>(policy))
            .map_err(at)?;
        let taken = take(&mut self.slot, &verified, stored.payload).map_err(at)?;
        let info = inspect::describe(metadata, offset).map_err(at)?;
        self.next = (offset + info.stored_bytes).next_multiple_of(store::ALIGN);
        Ok((info, taken))
    }

    /// Verifies who signed the next image.
    fn signed(&mut self, kind: Option<Kind>, judge: &Judge<'_>) -> Result<ImageInfo, Error> {
        let offset = self.next;
        let (info, whole) = self.next(kind, judge, |slot, _, payload| Ok(slot.has(payload)))?;
        if whole { Ok(info) } else { Err(Error::SlotTruncated { offset }) }
    }

    /// Opens the next image, which must be of this kind, and the one that the first image names: that comes before its payload is opened.
    fn open_named(
        &mut self,
        kind: Kind,
        named: &Digest,
        judge: &Judge<'_>,
        key: &Key,
    ) -> Result<OpenedImage, Error> {
        let (info, plain) = self.next(Some(kind), judge, |slot, image, payload| {
            (image.manifest_digest() == named).then(|| decrypt(slot, image, payload, key)).transpose()
        })?;
        match plain {
            Some(plain) => Ok(OpenedImage { info, plain }),
            None if self.first == Kind::Package => Err(Error::NotInPackage { offset: info.offset, kind }),
            None => Err(Error::NotInBundle { offset: info.offset, kind }),
        }
    }

    /// Opens the next image, which must be of this kind.
    fn open(&mut self, kind: Kind, judge: &Judge<'_>, key: &Key) -> Result<OpenedImage, Error> {
        let (info, plain) =
            self.next(Some(kind), judge, |slot, image, payload| decrypt(slot, image, payload, key))?;
        Ok(OpenedImage { info, plain })
    }
}

fn decrypt(
    slot: &mut Placed<'_>,
    image: &VerifiedImage<'_>,
    payload: Region,
    key: &Key,
) -> Result<Zeroizing<Vec<u8>>, sealed_image::Error> {
    let opener = image.unwrap_key(key)?;
    // All of it at once: a vector that grows leaves what it held behind.
    let length = opener.chunks().map(|chunk| chunk.plain_len as usize).sum();
    let mut plain = Zeroizing::new(Vec::with_capacity(length));
    let mut tally = Tally::default();
    for chunk in opener.chunks() {
        let mut stored = Zeroizing::new(vec![0; chunk.stored_len as usize]);
        let length = sealed_image::Error::ChunkLength { index: chunk.index, found: 0 };
        slot.read(payload.base + chunk.stored_offset, &mut stored).map_err(|_| length)?;
        let mut opened = Zeroizing::new(vec![0; chunk.plain_len as usize]);
        tally.add(&opener.open_chunk_into(chunk.index, &mut stored, &mut opened)?);
        plain.extend_from_slice(&opened);
    }
    let _complete = opener.finish(&tally)?;
    Ok(plain)
}
