//! The keys that the root took back.
//!
//! ```text
//! owner-revoked = COSE_Sign1 by the root over
//! { 1: 1,                      form
//!   2: number,                 counts up with each list of a root
//!   3: [ thumbprint, … ] }     of the keys, sorted, each once
//! ```
//!
//! Who releases and who verifies refuse what such a key signed. **A device does not read the list**: it
//! knows roots, limits of versions, and floors. A key that devices must not believe any more takes its root with it, by the
//! root's bit in the fuses; narrow limits in delegations are what makes that rare.
//!
//! # Threats
//! *Whoever stole a key* wants it to be believed: the list is signed, so nobody but the root can make one, and one that is there and
//! cannot be read is no empty list. *Whoever withholds the list*, or brings an older one, is not noticed by whom the newest never
//! reached: it is to be fetched from the owner, as the root's public key is; its number says which is newer.

use super::OwnerKey;
use crate::{Error, files};
use boot_crypto::Digest;
use rustix::fs::{FlockOperation, flock};
use sealed_image::cbor::{self, Decode, Reader};
use sealed_image::cose::UntrustedSign1;
use sealed_image::host::sign1_message;
use std::io::Write as _;
use std::path::Path;

const CONTENT_TYPE: &str = "application/kiln-revoked+cbor";
/// The form that this release writes and reads.
const FORM: u8 = 1;
/// Most keys of a list.
const MAX_KEYS: usize = 1024;

/// The keys that a root took back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revocations {
    number: u32,
    keys: Vec<Digest>,
}

impl Revocations {
    /// Reads a list, and verifies it with the root's public key, x followed by y.
    ///
    /// # Errors
    /// [`Error::Revocations`]; a file that cannot be read.
    pub fn read(path: &Path, root: &[u8; 64]) -> Result<Self, Error> {
        Self::parse(&files::read(path)?, root)
            .map_err(|reason| Error::Revocations { path: path.into(), reason })
    }

    /// Reads the list of an owner's folder; an empty one if there is none.
    pub(super) fn read_in(folder: &Path, root: &[u8; 64]) -> Result<Self, Error> {
        Self::read_or_none(&super::name::revoked_file(folder), root)
    }

    /// Reads a list; an empty one if there is nothing of this name.
    fn read_or_none(path: &Path, root: &[u8; 64]) -> Result<Self, Error> {
        if files::is_there(path) { Self::read(path, root) } else { Ok(Self::default()) }
    }

    /// Reads what a list says of itself, whoever signed it; `None` if it is none.
    pub(crate) fn claimed(untrusted: &[u8]) -> Option<Self> {
        let signed: UntrustedSign1<'_> = cbor::parse_exact(untrusted).ok()?;
        signed.is_message(CONTENT_TYPE).then(|| cbor::parse_exact(signed.payload).ok())?
    }

    fn parse(untrusted: &[u8], root: &[u8; 64]) -> Result<Self, &'static str> {
        let signed: UntrustedSign1<'_> =
            cbor::parse_exact(untrusted).map_err(|_| "it is no list of revoked keys")?;
        if !signed.is_message(CONTENT_TYPE) {
            return Err("it is no list of revoked keys");
        }
        if !signed.verify(root).accepts() {
            return Err("it is not signed by the owner root");
        }
        cbor::parse_exact(signed.payload).map_err(|_| "it has a form that this release does not read")
    }

    /// Has the root take one more key back, and writes the list into its file. The list that was there is part of it.
    ///
    /// # Errors
    /// A list of another root; a root that does not sign; a file that cannot be written.
    pub fn add(path: &Path, root: &OwnerKey, key: Digest) -> Result<Self, Error> {
        let point = root.public().as_root()?;
        let failed = |error: std::io::Error| Error::Write { path: path.into(), error };
        // Nobody else adds to the list meanwhile.
        let folder = std::fs::File::open(folder_of(path)).map_err(failed)?;
        flock(&folder, FlockOperation::LockExclusive).map_err(|error| failed(error.into()))?;
        let before = Self::read_or_none(path, &point)?;
        if before.contains(&key) {
            return Ok(before);
        }
        let mut keys = before.keys;
        keys.push(key);
        keys.sort_unstable();
        let list = Self { number: before.number + 1, keys };
        let signed = sign1_message(root, CONTENT_TYPE, &list.encode())?;
        Self::parse(&signed, &point).map_err(|reason| Error::Revocations { path: path.into(), reason })?;
        replace(path, &signed).map_err(failed)?;
        Ok(list)
    }

    fn encode(&self) -> Vec<u8> {
        cbor::encode(|e| {
            e.map(3)?.u8(1)?.u8(FORM)?.u8(2)?.u32(self.number)?.u8(3)?.array(self.keys.len() as u64)?;
            for key in &self.keys {
                e.bytes(key)?;
            }
            Ok(())
        })
    }

    /// Tells whether the root took this key back.
    pub fn contains(&self, key: &Digest) -> bool {
        self.keys.binary_search(key).is_ok()
    }

    /// Refuses what a key signed that the root took back.
    ///
    /// # Errors
    /// [`Error::SignedByRevoked`].
    pub fn admit(&self, signers: &[Digest]) -> Result<(), Error> {
        let revoked = signers.iter().find(|key| self.contains(key));
        revoked.map_or(Ok(()), |key| Err(Error::SignedByRevoked { key: *key }))
    }

    /// Returns the number of the list, which counts up.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Lists the thumbprints of the keys.
    pub fn keys(&self) -> &[Digest] {
        &self.keys
    }
}

impl Decode<'_> for Revocations {
    fn decode(r: &mut Reader<'_>) -> Option<Self> {
        r.map(3)?;
        r.key(1)?;
        r.key(FORM)?;
        r.key(2)?;
        let number = r.uint()?;
        r.key(3)?;
        let mut keys: Vec<Digest> = Vec::new();
        for _ in 0..r.array_up_to(MAX_KEYS)? {
            let key = *r.fixed()?;
            if keys.last().is_some_and(|before| *before >= key) {
                return None;
            }
            keys.push(key);
        }
        Some(Self { number, keys })
    }
}

/// Writes a file in place of another in one step: the list grows, and no moment is without it.
fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = tempfile::Builder::new().permissions(readable()).tempfile_in(folder_of(path))?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Everybody may read the list.
fn readable() -> std::fs::Permissions {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::Permissions::from_mode(0o644)
}

#[cfg(test)]
mod tests {
    use super::super::KeyAlgorithm;
    use super::*;
    use boot_crypto::host::Es256Key;

    #[test]
    fn a_list_grows_and_is_believed_from_its_root_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("owner-revoked");
        let root = OwnerKey::generate(KeyAlgorithm::Es256);
        let point = root.public().as_root().unwrap();
        assert_eq!(Revocations::read_in(folder.path(), &point).unwrap(), Revocations::default());
        Revocations::add(&path, &root, [7; 32]).unwrap();
        let list = Revocations::add(&path, &root, [3; 32]).unwrap();
        assert_eq!((list.number(), list.keys()), (2, &[[3; 32], [7; 32]][..]));
        assert_eq!(Revocations::add(&path, &root, [3; 32]).unwrap(), list, "twice is once");
        assert_eq!(Revocations::read_in(folder.path(), &point).unwrap(), list);
        assert!(list.contains(&[3; 32]) && list.contains(&[7; 32]) && !list.contains(&[5; 32]));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no half of a file is left");

        let other = OwnerKey::generate(KeyAlgorithm::Es256);
        let refused = Revocations::add(&path, &other, [1; 32]).unwrap_err();
        assert!(refused.to_string().contains("not signed by the owner root"), "{refused}");
        let bytes = std::fs::read(&path).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut altered = bytes.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            assert!(Revocations::parse(&altered, &point).is_err(), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(Revocations::parse(&bytes[..length], &point).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn what_the_root_signs_is_still_read_strictly() {
        let root = Es256Key::generate();
        let parse = |content_type: &str, payload: &[u8]| {
            Revocations::parse(&sign1_message(&root, content_type, payload).unwrap(), &root.public())
        };
        let list = |keys: &[Digest]| Revocations { number: 1, keys: keys.to_vec() }.encode();
        assert_eq!(parse(CONTENT_TYPE, &list(&[[1; 32], [2; 32]])).unwrap().keys().len(), 2);
        assert_eq!(parse(CONTENT_TYPE, &list(&[])).unwrap().keys().len(), 0);
        let most: Vec<Digest> = (0..=MAX_KEYS as u32)
            .map(|one| {
                let mut key = [0; 32];
                key[..4].copy_from_slice(&one.to_be_bytes());
                key
            })
            .collect();
        assert!(parse(CONTENT_TYPE, &list(&most[..MAX_KEYS])).is_ok());
        let good = list(&[[1; 32]]);
        let with = |at: usize, byte: u8| {
            let mut payload = good.clone();
            payload[at] = byte;
            payload
        };
        for (what, payload) in [
            ("not sorted", list(&[[2; 32], [1; 32]])),
            ("doubled", list(&[[1; 32], [1; 32]])),
            ("too many", list(&most)),
            ("another form", with(2, 2)),
            ("another first key", with(1, 2)),
            ("four fields", with(0, 0xA4)),
            ("a number that is none", with(4, 0x40)),
            ("a longer list", with(6, 0x82)),
            ("a shorter key", with(8, 31)),
            ("a byte more", [&good[..], &[0]].concat()),
            ("a byte less", good[..good.len() - 1].to_vec()),
            ("nothing", Vec::new()),
        ] {
            assert!(parse(CONTENT_TYPE, &payload).is_err(), "{what}");
        }
        assert!(parse("application/kiln-delegation+cbor", &good).is_err());
    }
}
