//! The update key of a product, as a file.
//!
//! # Threats
//! *Whoever has it* opens every update of the product, past and to come; he signs none. It lies on every device, sealed there
//! under the device's own key, and with the owner.
//!
//! *Whoever copies the owner's disk*, or a backup of it, needs the token too, whose key wraps the file ([`WrappingKey`]). For
//! development a passphrase does, as it encrypts the key files of owners; a file in the clear is for demonstrations. The production
//! profile refuses both. The key is never written anywhere else: a release has it only inside of the package, as a secret object. The
//! machine that releases has it in its memory while it does.
//!
//! *Whoever mixes up two products* finds that the key has the name of its product with it.

use crate::files::{self, Readers};
use crate::keys::{KeyPlace, Wrapped, WrappingKey};
use crate::{Error, Passphrase, Profile, ReleaseProfile, TokenUri};
use boot_crypto::host::{lock, random, unlock};
use boot_crypto::{Key, labels, sha256};
use pem_rfc7468::LineEnding;
use std::path::Path;
use zeroize::Zeroizing;

const CLEAR: &str = "KILN UPDATE KEY";
const ENCRYPTED: &str = "ENCRYPTED KILN UPDATE KEY";
const WRAPPED: &str = "WRAPPED KILN UPDATE KEY";

/// Why an update key cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpdateKeyFault {
    /// The file holds none.
    #[error("it holds no update key")]
    Form,
    /// It does not open.
    #[error("no update key comes out with this passphrase: it is another one, or the file was altered")]
    Passphrase,
    /// The token's key does not open it.
    #[error(
        "no update key comes out with the key on the token: it is another one, the file was altered, or the token failed"
    )]
    Token,
    /// No token wraps it, and the release is for production.
    #[error("the update key lies in it {}, and the production profile takes one that a token wraps only", if *encrypted { "under a passphrase" } else { "in the clear" })]
    InFile {
        /// Whether it is encrypted.
        encrypted: bool,
    },
    /// It is that of another product.
    #[error("it is the update key of the product `{found}`, and this one is `{expected}`")]
    OtherProduct {
        /// The product that it belongs to.
        found: String,
        /// The product that it was to be used for.
        expected: String,
    },
    /// No product can have this name.
    #[error("`{found}` is no name of a product, which is 1 to 32 of a-z, 0-9 and -")]
    ProductName {
        /// The name.
        found: String,
    },
}

impl UpdateKeyFault {
    /// Returns what a person does next.
    pub fn cure(&self) -> &'static str {
        match self {
            Self::Form => "Give the file that `kiln update-key` wrote, unaltered.",
            Self::Passphrase => {
                "Give the passphrase that the file was made with: KILN_PASSPHRASE, or on the terminal."
            }
            Self::Token => {
                "Take the token that the file was made with, and the file as `kiln update-key` wrote it."
            }
            Self::InFile { .. } => {
                "Have a token wrap it: `kiln update-key NEW --product NAME --pkcs11 URI`, with --from and this file where devices have the key already."
            }
            Self::OtherProduct { .. } => {
                "Name the file of this product's key in kiln.toml: devices know their product by its update key."
            }
            Self::ProductName { .. } => "Give --product the name that kiln.toml has as `product`.",
        }
    }
}

/// The key that updates of one product are sealed under. Every device of the product has it as a secret object.
pub struct UpdateKey {
    product: String,
    key: Key,
}

impl UpdateKey {
    /// Makes a fresh key for a product.
    ///
    /// # Errors
    /// [`Error::UpdateKey`] if no product can have this name; `place` is named in it.
    pub fn generate(product: &str, place: &Path) -> Result<Self, Error> {
        let key = Self { product: product.into(), key: Key::new(random()) };
        match sealed_image::UpdateKey::new(&key.product, &key.key) {
            Some(_) => Ok(key),
            None => Err(fault(place, UpdateKeyFault::ProductName { found: product.into() })),
        }
    }

    /// Returns the product.
    pub fn product(&self) -> &str {
        &self.product
    }

    /// Writes the key to a file of its own, mode 0600: wrapped by a new key of a token, which `update-PRODUCT` names unless the URI
    /// does; encrypted with a passphrase; or, for demonstrations, in the clear. Returns the key that wraps it.
    ///
    /// # Errors
    /// A file that cannot be written, or is there already; [`Error::Token`], and [`Error::KeysLeft`] if the new key had to stay on
    /// the token.
    pub fn write(&self, path: &Path, place: KeyPlace<'_>) -> Result<Option<TokenUri>, Error> {
        let secret = self.secret();
        let put = |label, bytes: &[u8]| {
            let pem = pem_rfc7468::encode_string(label, LineEnding::LF, bytes).expect("a key has a PEM form");
            files::write_new(path, Zeroizing::new(pem).as_bytes(), Readers::Owner)
        };
        match place {
            KeyPlace::Files(passphrase) => put(ENCRYPTED, &lock(&secret, passphrase.expose())).map(|()| None),
            KeyPlace::OpenFiles => put(CLEAR, &secret).map(|()| None),
            KeyPlace::Token(token) => {
                let key = WrappingKey::generate(token, &format!("update-{}", self.product))?;
                let wrapped = key.wrap(labels::UPDATE_KEY_FILE, &secret);
                match wrapped.and_then(|wrapped| put(WRAPPED, &wrapped)) {
                    Ok(()) => Ok(Some(key.uri().clone())),
                    Err(why) => Err(key.unmake(why)),
                }
            }
        }
    }

    /// Reads the key from its file. The passphrase of an encrypted one, and the PIN of a token, come from the environment or the
    /// terminal.
    ///
    /// # Errors
    /// A file that cannot be read, [`Error::Passphrase`], [`Error::Token`], [`Error::UpdateKey`], and a published test key; in
    /// production also a key that no token wraps, before anybody is asked for a passphrase.
    pub fn read(path: &Path, profile: ReleaseProfile) -> Result<Self, Error> {
        let text = files::read_text(path)?;
        let refused = |why| fault(path, why);
        let (label, bytes) =
            pem_rfc7468::decode_vec(text.as_bytes()).map_err(|_| refused(UpdateKeyFault::Form))?;
        let bytes = Zeroizing::new(bytes);
        let (secret, not_read) = match (label, profile) {
            (WRAPPED, _) => {
                let named = |error| Error::UpdateKeyToken { path: path.into(), error: Box::new(error) };
                let wrapped = Wrapped::decode(&bytes).map_err(named)?;
                let wrapped = wrapped.ok_or_else(|| refused(UpdateKeyFault::Form))?;
                (wrapped.unwrap(labels::UPDATE_KEY_FILE).map_err(named)?, UpdateKeyFault::Token)
            }
            (CLEAR | ENCRYPTED, ReleaseProfile::Production) => {
                return Err(refused(UpdateKeyFault::InFile { encrypted: label == ENCRYPTED }));
            }
            (ENCRYPTED, ReleaseProfile::Development) => {
                (unlock(&bytes, Passphrase::of(path)?.expose()), UpdateKeyFault::Passphrase)
            }
            (CLEAR, ReleaseProfile::Development) => (Some(bytes), UpdateKeyFault::Form),
            _ => return Err(refused(UpdateKeyFault::Form)),
        };
        let read = secret.as_deref().and_then(|secret| {
            let read = sealed_image::UpdateKey::parse(secret)?;
            Some(Self { product: read.product.into(), key: read.key() })
        });
        let key = read.ok_or_else(|| refused(not_read))?;
        key.admit(Profile::Production)?;
        Ok(key)
    }

    /// Says where the key in a file is kept, and opens nothing; `None` for what is no file with one.
    pub(crate) fn kept_in(text: &str) -> Option<String> {
        let (label, bytes) = pem_rfc7468::decode_vec(text.as_bytes()).ok()?;
        let bytes = Zeroizing::new(bytes);
        match label {
            WRAPPED => Some(Wrapped::decode(&bytes).ok()??.uri().to_string()),
            ENCRYPTED => Some("an encrypted file".into()),
            CLEAR => Some("a file that is not encrypted".into()),
            _ => None,
        }
    }

    /// Reads the key of a product, or makes one for a demonstration there, in the clear.
    ///
    /// # Errors
    /// As [`read`](Self::read) and [`write`](Self::write).
    pub fn read_or_make(path: &Path, product: &str) -> Result<Self, Error> {
        if !path.exists() {
            Self::generate(product, path)?.write(path, KeyPlace::OpenFiles)?;
        }
        Self::read(path, ReleaseProfile::Development)?.of_product(product, path)
    }

    /// Refuses the key of another product; `path` is named in the error.
    ///
    /// # Errors
    /// [`Error::UpdateKey`].
    pub fn of_product(self, expected: &str, path: &Path) -> Result<Self, Error> {
        if self.product == expected {
            return Ok(self);
        }
        let (found, expected) = (self.product.clone(), expected.into());
        Err(fault(path, UpdateKeyFault::OtherProduct { found, expected }))
    }

    pub(crate) fn admit(&self, profile: Profile) -> Result<(), Error> {
        profile.admit(&sha256(self.key.expose()), "the update key")
    }

    /// Returns what devices get: the payload of a secret object.
    pub(crate) fn secret(&self) -> Zeroizing<Vec<u8>> {
        self.named().encode()
    }

    /// Returns the key that the images of an update are sealed under.
    pub(crate) fn sealing_key(&self) -> Key {
        self.named().sealing_key()
    }

    fn named(&self) -> sealed_image::UpdateKey<'_> {
        sealed_image::UpdateKey::new(&self.product, &self.key).expect("the name was checked")
    }
}

impl std::fmt::Debug for UpdateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UpdateKey").field("product", &self.product).finish_non_exhaustive()
    }
}

fn fault(path: &Path, fault: UpdateKeyFault) -> Error {
    Error::UpdateKey { path: path.into(), fault }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{hex, test_keys};
    use fail_code::FailCode;

    fn passphrase(text: &str) -> Passphrase {
        Passphrase::new(text.to_owned().into(), Path::new("x")).unwrap()
    }

    fn faulty(result: Result<UpdateKey, Error>) -> UpdateKeyFault {
        match result {
            Err(Error::UpdateKey { fault, .. }) => fault,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_key_in_the_clear_is_for_demonstrations_and_is_never_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("update.key");
        let key = UpdateKey::read_or_make(&path, "demo").unwrap();
        let again = UpdateKey::read_or_make(&path, "demo").unwrap();
        assert_eq!((again.key.expose(), again.product()), (key.key.expose(), "demo"));
        assert_eq!(format!("{key:?}"), "UpdateKey { product: \"demo\", .. }");
        assert_eq!(
            faulty(UpdateKey::read_or_make(&path, "demo-2")),
            UpdateKeyFault::OtherProduct { found: "demo".into(), expected: "demo-2".into() }
        );
        assert_eq!(
            faulty(UpdateKey::read(&path, ReleaseProfile::Production)),
            UpdateKeyFault::InFile { encrypted: false }
        );
        assert!(matches!(key.write(&path, KeyPlace::OpenFiles), Err(Error::Write { .. })));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn a_file_is_encrypted_and_holds_the_key_in_no_other_form() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("update.key");
        let key = UpdateKey::generate("demo", &path).unwrap();
        key.write(&path, KeyPlace::Files(&passphrase("a passphrase"))).unwrap();
        let refused = faulty(UpdateKey::read(&path, ReleaseProfile::Production));
        assert_eq!(refused, UpdateKeyFault::InFile { encrypted: true });
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("-----BEGIN ENCRYPTED KILN UPDATE KEY-----\n"), "{text}");
        assert!(!text.contains(&hex(key.key.expose())) && !text.contains("demo"));
        let (_, sealed) = pem_rfc7468::decode_vec(text.as_bytes()).unwrap();
        assert!(!sealed.windows(8).any(|window| key.key.expose().windows(8).any(|part| part == window)));
        let secret = unlock(&sealed, "a passphrase").unwrap();
        assert_eq!(sealed_image::UpdateKey::parse(&secret).unwrap().key().expose(), key.key.expose());
        assert_ne!(key.key.expose(), UpdateKey::generate("demo", &path).unwrap().key.expose());
    }

    #[test]
    fn what_is_no_update_key_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("update.key");
        let made = UpdateKey::read_or_make(&path, "demo").unwrap();
        let sound = std::fs::read_to_string(&path).unwrap();
        let other = boot_crypto::host::Es256Key::generate().to_pem();
        for text in ["", "key", &hex(made.key.expose()), &sound[1..], &sound[..60], &other] {
            std::fs::write(&path, text).unwrap();
            for profile in [ReleaseProfile::Development, ReleaseProfile::Production] {
                assert_eq!(faulty(UpdateKey::read(&path, profile)), UpdateKeyFault::Form, "{text}");
            }
        }
        for bytes in
            [&b"the key of a customer"[..], &made.secret()[1..], &[&made.secret()[..], b"\0"].concat()]
        {
            let pem = pem_rfc7468::encode_string(CLEAR, LineEnding::LF, bytes).unwrap();
            std::fs::write(&path, pem).unwrap();
            assert_eq!(faulty(UpdateKey::read(&path, ReleaseProfile::Development)), UpdateKeyFault::Form);
        }
        for name in ["", "Demo", "../demo"] {
            let refused = faulty(UpdateKey::generate(name, &path));
            assert_eq!(refused, UpdateKeyFault::ProductName { found: name.into() });
        }
    }

    #[test]
    fn a_published_test_value_is_no_update_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("update.key");
        let published = UpdateKey { product: "demo".into(), key: Key::new(test_keys::device_seed()) };
        published.write(&path, KeyPlace::OpenFiles).unwrap();
        let refused = UpdateKey::read(&path, ReleaseProfile::Development).unwrap_err();
        assert_eq!(refused.code(), Some(FailCode::TestKey));
    }
}
