//! Sealed images and what lies in them.

use crate::Verdict::{self, Refused, Taken};
use crate::sample::{self, BOARD, kek, roots};
use boot_crypto::sha256;
use sealed_image::host::{Inspected, SignedPayload};
use sealed_image::{
    Bundle, BundleObject, Compression, Es256AndPs256, HEADER_BYTES, Header, Kind, MAX_METADATA, Opener,
    PAYLOAD_ALIGN, Package, PackageObject, Policy, Tally, UntrustedImage,
};
use std::sync::LazyLock;

fn policy(roots: &[sealed_image::Root]) -> Policy<'_> {
    Policy { board: BOARD, kind: Kind::Stage2, roots, rollback_floor: 5, refuse_test_keys: true }
}

/// A sealed image as a device reads it: only the one that was signed opens, and to the plaintext that was signed.
pub(crate) fn image(data: &[u8]) -> Verdict {
    static MEASUREMENT: LazyLock<[u8; 32]> = LazyLock::new(|| {
        let image = sample::signed().seal(&kek(), Compression::None).expect("it is short");
        Inspected::of(&image).expect("it is sound").manifest_digest
    });
    let Ok(header) = Header::parse(data) else { return Refused };
    assert_eq!(header.encode(), data[..HEADER_BYTES], "a header has one encoding");
    let length = header.metadata_len();
    assert!(length > 0 && length <= MAX_METADATA && length % PAYLOAD_ALIGN == 0);
    let Some((metadata, payload)) = data.split_at_checked(length as usize) else { return Refused };
    let inspected = Inspected::of(data).map(|inspected| inspected.manifest_digest);
    let roots = roots();
    let verified = UntrustedImage::parse(metadata).and_then(|it| it.verify::<Es256AndPs256>(&policy(&roots)));
    let Ok(verified) = verified else { return Refused };
    assert_eq!(*verified.manifest_digest(), *MEASUREMENT, "nobody signed this");
    // Whoever inspects looks at the sealing record as well.
    let Ok(opener) = verified.unwrap_key(&kek()) else { return Refused };
    assert_eq!(inspected, Ok(*MEASUREMENT));
    match open(&opener, payload) {
        Some(plain) => {
            assert_eq!(plain, sample::plain(), "nobody sealed this");
            Taken
        }
        None => Refused,
    }
}

fn open(opener: &Opener<'_>, payload: &[u8]) -> Option<Vec<u8>> {
    let (mut all, mut tally) = (Vec::new(), Tally::default());
    for chunk in opener.chunks() {
        assert_eq!(chunk.plain_offset, all.len() as u64);
        let start = usize::try_from(chunk.stored_offset).ok()?;
        let mut stored = payload.get(start..)?.get(..chunk.stored_len as usize)?.to_vec();
        let mut plain = vec![0; chunk.plain_len as usize];
        tally.add(&opener.open_chunk_into(chunk.index, &mut stored, &mut plain).ok()?);
        all.extend(plain);
    }
    opener.finish(&tally).ok().map(|_| all)
}

pub(crate) fn image_seeds() -> Vec<Vec<u8>> {
    let signed = sample::signed();
    [Compression::None, Compression::Lz4].map(|way| signed.seal(&kek(), way).expect("it is short")).to_vec()
}

/// A manifest that the right key signs whatever it says: what is taken has one encoding, and is within the policy.
pub(crate) fn manifest(data: &[u8]) -> Verdict {
    let (key, part) = sample::boot();
    let Ok(signed) = SignedPayload::sign_encoded(data, 4096, sample::plain(), &part, &[&key]) else {
        return Refused;
    };
    let Ok(image) = signed.seal(&kek(), Compression::None) else { return Refused };
    let length = Header::parse(&image).expect("a sound header").metadata_len() as usize;
    let roots = roots();
    let verified =
        UntrustedImage::parse(&image[..length]).and_then(|it| it.verify::<Es256AndPs256>(&policy(&roots)));
    let Ok(verified) = verified else { return Refused };
    let it = verified.manifest();
    assert_eq!(*verified.manifest_digest(), sha256(data));
    let again = sample::encoded(|e| {
        e.map(9)?.u8(1)?.u8(it.kind.number())?.u8(2)?.str(it.board)?.u8(3)?.u64(it.version.0)?;
        e.u8(4)?.u32(it.rollback_index)?.u8(5)?.u64(it.load_address)?.u8(6)?.u64(it.entry)?;
        e.u8(7)?.u64(it.plain_size)?.u8(8)?.u32(it.chunk_size)?.u8(9)?.bytes(it.plain_digest)?.ok()
    });
    assert_eq!(again, data, "a manifest has one encoding");
    assert!(it.kind == Kind::Stage2 && it.board == BOARD && it.rollback_index >= 5);
    let end = it.load_address.checked_add(it.plain_size).expect("the image lies in the address space");
    assert!(it.entry >= it.load_address && it.entry <= end - 4 && (it.entry - it.load_address) % 4 == 0);
    Taken
}

pub(crate) fn manifest_seeds() -> Vec<Vec<u8>> {
    let image = image_seeds().swap_remove(0);
    let inspected = Inspected::of(&image).expect("it is sound");
    let at =
        image.windows(32).position(|window| window == inspected.manifest.plain_digest).expect("it is signed");
    // The digest is the last field: the manifest starts where its hash is the measurement.
    let start = (0..at).rev().find(|start| sha256(&image[*start..at + 32]) == inspected.manifest_digest);
    vec![image[start.expect("the manifest is there")..at + 32].to_vec()]
}

/// The payload of a bundle.
pub(crate) fn bundle(data: &[u8]) -> Verdict {
    let Ok(bundle) = Bundle::parse(data) else { return Refused };
    assert_eq!(bundle.encode(), data, "a bundle has one encoding");
    assert!(bundle.object(Kind::Kernel).is_some() && bundle.object(Kind::DeviceTree).is_some());
    Taken
}

pub(crate) fn bundle_seeds() -> Vec<Vec<u8>> {
    let object = |kind| BundleObject { kind, manifest_digest: &[7; 32] };
    let all = [Kind::Kernel, Kind::DeviceTree, Kind::Initramfs].map(object);
    [(&all[..], "console=ttyAMA0 quiet", 5), (&all[..2], "", 0)]
        .map(|(objects, line, index)| Bundle::new(objects, line, index).expect("it is sound").encode())
        .to_vec()
}

/// The payload of a package's index.
pub(crate) fn package(data: &[u8]) -> Verdict {
    let Ok(package) = Package::parse(data) else { return Refused };
    assert_eq!(package.encode(), data, "a package has one encoding");
    let kinds: Vec<Kind> = package.objects().map(|object| object.kind).collect();
    assert!(kinds.starts_with(&[Kind::Stage2, Kind::Bundle]));
    Taken
}

pub(crate) fn package_seeds() -> Vec<Vec<u8>> {
    let digests: [[u8; 32]; 6] = core::array::from_fn(|i| [i as u8; 32]);
    let kinds = [Kind::Stage2, Kind::Bundle, Kind::Kernel, Kind::DeviceTree, Kind::Initramfs, Kind::Secret];
    let objects: Vec<_> = kinds
        .into_iter()
        .zip(&digests)
        .map(|(kind, manifest_digest)| PackageObject { kind, manifest_digest })
        .collect();
    [(&objects[..], "1.4.0 of spring"), (&objects[..4], "")]
        .map(|(objects, name)| Package::new(objects, name).expect("it is sound").encode())
        .to_vec()
}
