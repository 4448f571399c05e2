//! The payload of a bundle: which objects belong together.

use crate::cbor::{self, Decode, Reader};
use crate::{Error, Kind, Part};
use boot_crypto::Digest;

/// Most objects of a bundle.
pub const MAX_OBJECTS: usize = 8;
/// Longest kernel command line, in bytes.
pub const MAX_CMDLINE: usize = 2048;

/// An object that a bundle names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BundleObject<'a> {
    /// Its kind.
    pub kind: Kind,
    /// The SHA-256 of its manifest.
    pub manifest_digest: &'a Digest,
}

/// The objects of one release, in the order in which they lie in the slot, and what is said to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bundle<'a> {
    objects: [Option<BundleObject<'a>>; MAX_OBJECTS],
    /// The kernel command line: printable ASCII.
    pub cmdline: &'a str,
    /// The rollback index of the release; the same as in the bundle's manifest.
    pub rollback_index: u32,
}

impl<'a> Bundle<'a> {
    /// Parses the payload of a bundle, already decrypted and known to be signed.
    ///
    /// # Errors
    /// Anything but the one encoding of at most 8 objects of different known kinds, a kernel and a device
    /// tree among them, and a printable command line.
    pub fn parse(payload: &'a [u8]) -> Result<Self, Error> {
        let bundle: Self =
            cbor::parse_exact(payload).map_err(|offset| Error::Malformed { part: Part::Bundle, offset })?;
        bundle.check()?;
        Ok(bundle)
    }

    /// Lists the objects in their order.
    pub fn objects(&self) -> impl Iterator<Item = &BundleObject<'a>> {
        self.objects.iter().flatten()
    }

    /// Finds the object of a kind.
    pub fn object(&self, kind: Kind) -> Option<&BundleObject<'a>> {
        self.objects().find(|object| object.kind == kind)
    }

    /// Makes a bundle.
    ///
    /// # Errors
    /// Whatever a device would refuse.
    #[cfg(feature = "host")]
    pub fn new(objects: &[BundleObject<'a>], cmdline: &'a str, rollback_index: u32) -> Result<Self, Error> {
        let malformed = Error::Malformed { part: Part::Bundle, offset: 0 };
        if objects.len() > MAX_OBJECTS || !printable(cmdline) {
            return Err(malformed);
        }
        let mut places = [None; MAX_OBJECTS];
        places.iter_mut().zip(objects).for_each(|(place, object)| *place = Some(*object));
        let bundle = Self { objects: places, cmdline, rollback_index };
        bundle.check()?;
        Ok(bundle)
    }

    /// Encodes the payload.
    #[cfg(feature = "host")]
    pub fn encode(&self) -> std::vec::Vec<u8> {
        cbor::encode(|e| {
            e.map(3)?.u8(1)?.array(self.objects().count() as u64)?;
            for object in self.objects() {
                e.array(2)?.u8(object.kind.number())?.bytes(object.manifest_digest)?;
            }
            e.u8(2)?.str(self.cmdline)?.u8(3)?.u32(self.rollback_index)?.ok()
        })
    }

    fn check(&self) -> Result<(), Error> {
        for (place, object) in self.objects().enumerate() {
            let kind = object.kind;
            match kind {
                Kind::Kernel | Kind::DeviceTree | Kind::Initramfs => {}
                Kind::Tee => return Err(Error::KindReserved { kind }),
                _ => return Err(Error::ObjectKind { kind }),
            }
            if self.objects().take(place).any(|before| before.kind == kind) {
                return Err(Error::ObjectTwice { kind });
            }
        }
        for kind in [Kind::Kernel, Kind::DeviceTree] {
            if self.object(kind).is_none() {
                return Err(Error::ObjectMissing { kind });
            }
        }
        Ok(())
    }
}

fn printable(text: &str) -> bool {
    text.len() <= MAX_CMDLINE && text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

impl<'b> Decode<'b> for Bundle<'b> {
    fn decode(r: &mut Reader<'b>) -> Option<Self> {
        r.map(3)?;
        r.key(1)?;
        let mut objects = [None; MAX_OBJECTS];
        let count = r.array_up_to(objects.len())?;
        for object in objects.iter_mut().take(count) {
            r.array(2)?;
            let kind = Kind::from_number(r.uint()?)?;
            *object = Some(BundleObject { kind, manifest_digest: r.fixed()? });
        }
        r.key(2)?;
        let cmdline = r.text().filter(|text| printable(text))?;
        r.key(3)?;
        Some(Self { objects, cmdline, rollback_index: r.uint()? })
    }
}
