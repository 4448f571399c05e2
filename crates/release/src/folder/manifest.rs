//! The release manifest: what the owner signs about a release folder.
//!
//! ```text
//! release.cose = [delegation, COSE_Sign]        a message of the role `provision`, as sealed-image's README draws it
//! payload      = { 1: 2,                        form
//!                  2: product, 3: board, 4: version,
//!                  5: [ rollback index of the role boot, of provision, of os ],
//!                  6: [ [name, size in bytes, SHA-256], … ] }    sorted by name, each once
//! ```
//!
//! It is strict CBOR, one encoding each. Names are relative, of one or two parts (`[A-Za-z0-9._-]`, none beginning with a
//! dot), so that no name leads out of the folder.

use crate::{Error, Owner, RollbackIndices, hex};
use boot_crypto::{Digest, sha256};
use sealed_image::cbor::{self, Decode, Reader};
use sealed_image::host::InspectedMessage;
use sealed_image::{Es256AndPs256, MAX_NAME, MessagePolicy, PublicKey, Role, Root, Version, verify_message};
use serde_json::{Value, json};

/// The file of the release manifest.
pub(crate) const MANIFEST: &str = "release.cose";
/// What keeps a release manifest from being taken for another message.
const CONTENT_TYPE: &str = "application/kiln-release-manifest+cbor";
/// The role that signs it, and the provenance.
pub(crate) const ROLE: Role = Role::Provision;
/// The form that this release writes and reads.
const FORM: u8 = 2;
/// Most files of a release.
const MAX_FILES: usize = 256;
/// Longest name of a file, in bytes.
const MAX_FILE_NAME: usize = 100;

/// A file of a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleaseFile {
    /// Its name, relative to the folder.
    pub name: String,
    /// Its length in bytes.
    pub size: u64,
    /// Its SHA-256.
    pub digest: Digest,
}

/// What the owner signs about a release folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleaseManifest {
    /// The product.
    pub product: String,
    /// The board.
    pub board: String,
    /// The version.
    pub version: Version,
    /// The rollback index of each role.
    pub rollback_index: RollbackIndices,
    /// Every file but the release manifest itself and `SHA256SUMS`, by name.
    pub files: Vec<ReleaseFile>,
}

impl ReleaseFile {
    /// Describes a file.
    pub(crate) fn new(name: &str, bytes: &[u8]) -> Self {
        Self { name: name.into(), size: bytes.len() as u64, digest: sha256(bytes) }
    }
}

impl ReleaseManifest {
    /// Finds a file by its name.
    pub fn file(&self, name: &str) -> Option<&ReleaseFile> {
        self.files.iter().find(|file| file.name == name)
    }

    /// Signs the manifest with the key of the role.
    pub(crate) fn sign(&self, owner: &Owner) -> Result<Vec<u8>, Error> {
        owner.covers(ROLE, None, &self.board, self.version)?;
        owner.sign_message(ROLE, CONTENT_TYPE, &self.encode())
    }

    fn encode(&self) -> Vec<u8> {
        cbor::encode(|e| {
            e.map(6)?.u8(1)?.u8(FORM)?.u8(2)?.str(&self.product)?.u8(3)?.str(&self.board)?;
            e.u8(4)?.u64(self.version.0)?.u8(5)?.array(3)?;
            for (_, index) in self.rollback_index.each() {
                e.u32(index)?;
            }
            e.u8(6)?.array(self.files.len() as u64)?;
            for file in &self.files {
                e.array(3)?.str(&file.name)?.u64(file.size)?.bytes(&file.digest)?;
            }
            Ok(())
        })
    }
}

impl Decode<'_> for ReleaseManifest {
    fn decode(r: &mut Reader<'_>) -> Option<Self> {
        r.map(6)?;
        r.key(1)?;
        r.key(FORM)?;
        r.key(2)?;
        let product = r.name()?.to_owned();
        r.key(3)?;
        let board = r.name()?.to_owned();
        r.key(4)?;
        let version = Version(r.uint()?);
        r.key(5)?;
        r.array(3)?;
        let rollback_index = RollbackIndices { boot: r.uint()?, provision: r.uint()?, os: r.uint()? };
        r.key(6)?;
        let mut files: Vec<ReleaseFile> = Vec::new();
        for _ in 0..r.array_up_to(MAX_FILES)? {
            r.array(3)?;
            let name = r.text().filter(|name| is_name(name))?.to_owned();
            if files.last().is_some_and(|before| before.name >= name) {
                return None;
            }
            files.push(ReleaseFile { name, size: r.uint()?, digest: *r.fixed()? });
        }
        Some(Self { product, board, version, rollback_index, files })
    }
}

/// A release manifest that the owner signed, and who signed for the owner.
pub(crate) struct SignedBy {
    pub(crate) manifest: ReleaseManifest,
    /// The owner root: x followed by y.
    pub(crate) root: [u8; 64],
    /// The role's ES256 keys: x followed by y.
    pub(crate) keys: Vec<[u8; 64]>,
}

/// Verifies a release manifest with the device's own code: the chain from the root to its signature.
pub(crate) fn verify(untrusted: &[u8], board: &str, root: Digest) -> Result<SignedBy, Error> {
    verify_by(untrusted, board, &[Root { digest: root, revoked: false }])
}

/// Verifies a release manifest for a device whose fuses hold these roots.
pub(crate) fn verify_by(untrusted: &[u8], board: &str, roots: &[Root]) -> Result<SignedBy, Error> {
    // The version that the delegation has to cover is read from bytes that are believed only after that.
    let said = InspectedMessage::of(untrusted).ok();
    // So is its form: nothing follows from it but which release of Kiln to take.
    if let Some(found) = said.as_ref().and_then(|said| form(said.payload)).filter(|found| *found != FORM) {
        return Err(Error::ReleaseForm { found, known: FORM });
    }
    let version =
        said.and_then(|said| cbor::parse_exact(said.payload).ok()).map(|one: ReleaseManifest| one.version);
    let policy = MessagePolicy {
        content_type: CONTENT_TYPE,
        role: ROLE,
        board,
        version,
        roots,
        refuse_test_keys: true,
    };
    let payload = verify_message::<Es256AndPs256>(untrusted, &policy).map_err(Error::ReleaseSignature)?;
    let manifest: ReleaseManifest =
        cbor::parse_exact(payload).map_err(|offset| Error::ReleaseManifest { offset })?;
    if version != Some(manifest.version) {
        return Err(Error::ReleaseManifest { offset: 0 });
    }
    // The signatures hold, so what the message says of its signers is what the root says.
    let said = InspectedMessage::of(untrusted).map_err(Error::ReleaseSignature)?;
    let point = |key: &PublicKey<'_>| match key {
        PublicKey::P256(point) => Some(*point),
        PublicKey::Rsa(_) => None,
    };
    let root = point(&said.root).ok_or(Error::ReleaseMixed { what: "the owner root is not P-256" })?;
    Ok(SignedBy { manifest, root, keys: said.grants.iter().filter_map(|grant| point(&grant.key)).collect() })
}

/// Returns the form that the payload of a release manifest says it is of.
fn form(untrusted: &[u8]) -> Option<u8> {
    let mut r = Reader::new(untrusted);
    r.map(6)?;
    r.key(1)?;
    r.uint()
}

/// Describes the payload of a release manifest; `None` if it is none.
pub(crate) fn inspect(untrusted: &[u8]) -> Option<Value> {
    let ReleaseManifest { product, board, version, rollback_index, files } =
        cbor::parse_exact(untrusted).ok()?;
    let file =
        |file: &ReleaseFile| json!({ "name": file.name, "bytes": file.size, "sha256": hex(&file.digest) });
    Some(json!({
        "product": product,
        "board": board,
        "version": version.to_string(),
        "rollback index": rollback_index.to_json(),
        "files": files.iter().map(file).collect::<Vec<_>>(),
    }))
}

/// Tells whether a name can be that of a file in a release.
pub(crate) fn is_name(name: &str) -> bool {
    let plain = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'A'..=b'Z' | b'.' | b'_' | b'-');
    let part = |part: &str| !part.is_empty() && !part.starts_with('.') && part.bytes().all(plain);
    name.len() <= MAX_FILE_NAME && name.split('/').count() <= 2 && name.split('/').all(part)
}

const _: () = assert!(MAX_NAME == 32, "kiln.toml says how long the name of a product is");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Delegation, Limits, OwnerKeys, Profile, RoleKey};
    use boot_crypto::host::Es256Key;
    use fail_code::FailCode;
    use memory_map::qemu_virt::BOARD;
    use sealed_image::host::Signer as _;

    #[test]
    fn another_form_is_named_whatever_the_delegation_is_limited_to() {
        let owner = OwnerKeys::found(BOARD).owner().unwrap();
        let mut payload = manifest(&["a"]).encode();
        assert_eq!(payload[..3], [0xA6, 1, FORM]);
        payload[2] = 1;
        let signed = owner.sign_message(ROLE, CONTENT_TYPE, &payload).unwrap();
        let refused = verify(&signed, BOARD, owner.root_digest()).err().unwrap();
        assert!(matches!(refused, Error::ReleaseForm { found: 1, known: FORM }), "{refused}");
        assert_eq!(refused.code(), Some(FailCode::ReleaseManifestMalformed));
    }

    fn manifest(names: &[&str]) -> ReleaseManifest {
        ReleaseManifest {
            product: "demo".into(),
            board: BOARD.into(),
            version: Version::new(1, 2, 3),
            rollback_index: 4.into(),
            files: names.iter().map(|name| ReleaseFile::new(name, name.as_bytes())).collect(),
        }
    }

    fn code<T>(result: Result<T, Error>) -> Option<FailCode> {
        result.err().and_then(|error| error.code())
    }

    #[test]
    fn a_manifest_survives_its_signature() {
        let owner = OwnerKeys::found(BOARD).owner().unwrap();
        let manifest = manifest(&["a", "b/c"]);
        let signed = manifest.sign(&owner).unwrap();
        let read = verify(&signed, BOARD, owner.root_digest()).unwrap();
        assert_eq!((read.manifest, read.keys.len()), (manifest, 1));
        assert_eq!(PublicKey::P256(read.root).thumbprint(), owner.root_digest());
    }

    #[test]
    fn a_manifest_of_somebody_else_or_with_any_bit_flipped_is_refused() {
        let owner = OwnerKeys::found(BOARD).owner().unwrap();
        let signed = manifest(&["a"]).sign(&owner).unwrap();
        assert_eq!(code(verify(&signed, BOARD, [0; 32])), Some(FailCode::RootUnknown));
        assert_eq!(code(verify(&signed, "other", owner.root_digest())), Some(FailCode::BoardNotDelegated));
        for bit in 0..signed.len() * 8 {
            let mut altered = signed.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            assert!(code(verify(&altered, BOARD, owner.root_digest())).is_some(), "bit {bit}");
        }
        // Another message of the same role is not taken for a release manifest.
        let other = owner.sign_message(ROLE, "application/kiln-other+cbor", &manifest(&["a"]).encode());
        let refused = code(verify(&other.unwrap(), BOARD, owner.root_digest()));
        assert_eq!(refused, Some(FailCode::ReleaseManifestMalformed));
        let wrong = owner.sign_message(Role::Os, CONTENT_TYPE, &manifest(&["a"]).encode()).unwrap();
        assert_eq!(code(verify(&wrong, BOARD, owner.root_digest())), Some(FailCode::RoleWrong));
    }

    #[test]
    fn signed_names_that_lead_elsewhere_or_come_twice_are_refused() {
        let owner = OwnerKeys::found(BOARD).owner().unwrap();
        for names in [
            &["../a"][..],
            &["/a"],
            &["a/../b"],
            &["a/b/c"],
            &[".a"],
            &["a/"],
            &["a\\b"],
            &["a b"],
            &["a\nb"],
            &[""],
            &["a", "a"],
            &["b", "a"],
        ] {
            let signed = manifest(names).sign(&owner).unwrap();
            let refused = code(verify(&signed, BOARD, owner.root_digest()));
            assert_eq!(refused, Some(FailCode::ReleaseManifestMalformed), "{names:?}");
        }
    }

    #[test]
    fn a_manifest_of_a_version_that_the_root_did_not_delegate_is_refused() {
        let (root, key) = (Es256Key::generate(), Es256Key::generate());
        let version = Version::new(1, 2, 3);
        let limits = Limits { min_version: version, max_version: version, ..Limits::of_role(ROLE, BOARD) };
        let delegation = Delegation::sign(&root, ROLE, &key.public_key(), &limits).unwrap();
        let certificate = delegation.certificate().to_vec();
        let owner = |key: RoleKey| Owner::new(Profile::Production, root.public(), vec![key]).unwrap();
        // One that asks what the delegation covers, and one that signs whatever it is given.
        let careful =
            owner(RoleKey::limited(delegation, Box::new(Es256Key::from_pem(&key.to_pem()).unwrap())));
        let careless = owner(RoleKey::new(ROLE, certificate, Box::new(key)));
        let root = careful.root_digest();
        let mut judged = 0;
        for (patch, covered) in [(2, false), (3, true), (4, false)] {
            let release = ReleaseManifest {
                product: "demo".into(),
                board: BOARD.into(),
                version: Version::new(1, 2, patch),
                rollback_index: 1.into(),
                files: Vec::new(),
            };
            assert_eq!(release.sign(&careful).is_ok(), covered);
            let signed = careless.sign_message(ROLE, CONTENT_TYPE, &release.encode()).unwrap();
            let found = verify(&signed, BOARD, root);
            assert_eq!(found.is_ok(), covered);
            let code = found.err().and_then(|error| error.code());
            assert_eq!(code, (!covered).then_some(FailCode::VersionNotDelegated));
            judged += 1;
        }
        assert_eq!(judged, 3);
    }
}
