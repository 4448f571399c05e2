//! What a device would make of a slot: the device's own code, run on the host.

use crate::{Error, ImageInfo, inspect_slot};
use boot_crypto::{Digest, Key};
use sealed_image::{Bundle, Es256AndPs256, Header, Kind, PAYLOAD_ALIGN, Policy, Root, Tally, UntrustedImage};

/// An image that a device would run or load.
#[derive(Clone, Debug)]
pub struct OpenedImage {
    /// What it says about itself, now verified.
    pub info: ImageInfo,
    /// Its payload in the clear.
    pub plain: Vec<u8>,
}

/// Verifies and decrypts a boot slot as stage0 of a die with this root would, at rollback floor 0 and with
/// test keys admitted.
///
/// # Errors
/// Why the device would refuse it.
pub fn open_boot_slot(slot: &[u8], board: &str, root: Digest, key: &Key) -> Result<OpenedImage, Error> {
    let info = inspect_slot(slot)?.swap_remove(0);
    open(slot, info, board, Kind::Stage2, root, key)
}

/// Verifies and decrypts an OS slot as stage2 of a die with this root would: the bundle first, then every
/// object that it names. The first image returned is the bundle.
///
/// # Errors
/// Why the device would refuse it.
pub fn open_os_slot(slot: &[u8], board: &str, root: Digest, key: &Key) -> Result<Vec<OpenedImage>, Error> {
    let mut infos = inspect_slot(slot)?.into_iter();
    let info = infos.next().ok_or(Error::SlotEmpty)?;
    let bundle = open(slot, info, board, Kind::Bundle, root, key)?;
    let named = Bundle::parse(&bundle.plain).map_err(|error| Error::Image { offset: 0, error })?;
    let mut objects = Vec::new();
    let mut end = bundle.info.stored_bytes;
    for object in named.objects() {
        let kind = object.kind;
        let info = infos.next().ok_or(Error::SlotTruncated { offset: end })?;
        let offset = info.offset;
        end = (offset + info.stored_bytes).next_multiple_of(u64::from(PAYLOAD_ALIGN));
        let opened = open(slot, info, board, kind, root, key)?;
        if opened.info.digest != *object.manifest_digest {
            return Err(Error::NotInBundle { offset, kind });
        }
        objects.push(opened);
    }
    objects.insert(0, bundle);
    Ok(objects)
}

fn open(
    slot: &[u8],
    info: ImageInfo,
    board: &str,
    kind: Kind,
    root: Digest,
    key: &Key,
) -> Result<OpenedImage, Error> {
    let policy = Policy {
        board,
        kind,
        roots: &[Root { digest: root, revoked: false }],
        rollback_floor: 0,
        refuse_test_keys: false,
    };
    let offset = info.offset;
    let bytes = slot.get(offset as usize..).ok_or(Error::SlotTruncated { offset })?;
    let plain = decrypt(bytes, &policy, key).map_err(|error| Error::Image { offset, error })?;
    Ok(OpenedImage { info, plain })
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
