//! A key on a token that wraps a secret: AES-256-GCM (`CKM_AES_GCM`, PKCS#11 2.40), in its file a COSE_Encrypt0.
//!
//! ```text
//! [ << { 1: 3,                  algorithm: A256GCM
//!        4: the key's URI } >>, which key opens it (RFC 7512), as bytes
//!   { 5: nonce },               12 bytes, which the token may choose
//!   ciphertext and tag ]
//! ```
//!
//! (RFC 9052, 5.2, without the tag; RFC 9053, 4.1.) It is strict CBOR, one encoding each.
//!
//! # Threats
//! *Whoever copies the file* has nothing without the token: `kiln update-key` makes its key there, sensitive and not extractable, and a
//! key that is marked otherwise is refused. *Whoever alters it* makes another key open it, or none: the name of the key and what the
//! secret is for are authenticated with it. But that is noticed last: the file names the module that is loaded and gets the PIN, as a
//! file with the URI of a signing key does. **Whoever writes such a file gets the PIN**: it is to be reviewed like the keys, and `kiln
//! inspect` shows what it names. *A token that wraps what it cannot unwrap*, or not by the name that the file has, would lose the
//! secret: the file's bytes are read and opened once, before they are written.

use super::TokenUri;
use super::token::{Access, KEPT, TokenFault, and_left, fault, kept_key, log_in, new_key};
use super::token_uri::KeyClass;
use crate::Error;
use boot_crypto::host::random;
use boot_crypto::{AES_GCM_TAG_BYTES, equal};
use cryptoki::error::{Error as Pkcs11Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use sealed_image::cbor::{self, Decode, Reader};
use zeroize::Zeroizing;

/// A256GCM (RFC 9053, table 5).
const A256GCM: u8 = 3;
const KEY_BYTES: u64 = 32;
const NONCE_BYTES: usize = 12;

/// A symmetric key on a token, which encrypts there.
pub(crate) struct WrappingKey {
    uri: TokenUri,
    session: Session,
    key: ObjectHandle,
}

impl WrappingKey {
    /// Makes a key on the token, which never leaves it: the one that `uri` names, or else one of this label.
    ///
    /// # Errors
    /// [`Error::Token`]: no such module or token, a PIN that is missing, wrong or locked, a key of this name that is there
    /// already, a token that makes no such keys.
    pub(crate) fn generate(uri: &TokenUri, label: &str) -> Result<Self, Error> {
        let uri = uri.secret_key(label)?;
        let (session, named) = new_key(&uri)?;
        let form = [Attribute::Class(ObjectClass::SECRET_KEY), Attribute::ValueLen(KEY_BYTES.into())];
        let wraps = [Attribute::Encrypt(true), Attribute::Decrypt(true)];
        let no_more = [
            Attribute::Sign(false),
            Attribute::Verify(false),
            Attribute::Wrap(false),
            Attribute::Unwrap(false),
            Attribute::Derive(false),
        ];
        let template = [&form[..], &named, &KEPT, &wraps, &no_more].concat();
        let key = session.generate_key(&Mechanism::AesKeyGen, &template);
        let key = key.map_err(|error| fault(&uri, error.into()))?;
        Ok(Self { uri, session, key })
    }

    /// Opens the key that a wrapped secret names.
    fn open(uri: &TokenUri) -> Result<Self, Error> {
        uri.expect(KeyClass::Secret)?;
        let session = log_in(uri, Access::Use)?;
        let key = kept_key(uri, &session, ObjectClass::SECRET_KEY)?;
        let form = session.get_attributes(key, &[AttributeType::KeyType, AttributeType::ValueLen]);
        let form = form.map_err(|error| fault(uri, error.into()))?;
        let wanted = [Attribute::KeyType(KeyType::AES), Attribute::ValueLen(KEY_BYTES.into())];
        if !wanted.iter().all(|it| form.contains(it)) {
            return Err(fault(uri, TokenFault::WrappingKind));
        }
        Ok(Self { uri: uri.clone(), session, key })
    }

    /// Removes the key, which was just made, from the token, and returns why.
    pub(crate) fn unmake(self, why: Error) -> Error {
        let gone = self.session.destroy_object(self.key).is_ok();
        and_left(why, self.uri.object().filter(|_| !gone).map(String::from))
    }

    /// Returns the name of the key.
    pub(crate) fn uri(&self) -> &TokenUri {
        &self.uri
    }

    /// Wraps a secret; it is for what the label says.
    ///
    /// # Errors
    /// [`Error::Token`].
    pub(crate) fn wrap(&self, label: &[u8], secret: &[u8]) -> Result<Vec<u8>, Error> {
        let protected = protected(&self.uri);
        let mut nonce = random::<NONCE_BYTES>();
        let sealed = self.cipher(&mut nonce, &associated(&protected, label), |mechanism| {
            self.session.encrypt(mechanism, self.key, secret)
        });
        let sealed = sealed.map_err(|error| fault(&self.uri, error.into()))?;
        let wrapped = Wrapped { uri: self.uri.clone(), protected, nonce, sealed }.encode();
        let again = match Wrapped::decode(&wrapped)? {
            Some(read) => read.unwrap(label)?,
            None => None,
        };
        match again {
            Some(again) if equal(&again, secret).accepts() => Ok(wrapped),
            _ => Err(fault(&self.uri, TokenFault::Wrapped)),
        }
    }

    /// Unwraps a secret; `None` if it was wrapped by another key, for something else, or altered.
    fn unwrap(&self, wrapped: &Wrapped, label: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
        let associated = associated(&wrapped.protected, label);
        let secret = self.cipher(&mut wrapped.nonce.clone(), &associated, |mechanism| {
            self.session.decrypt(mechanism, self.key, &wrapped.sealed)
        });
        match secret {
            Ok(secret) => Ok(Some(Zeroizing::new(secret))),
            Err(Pkcs11Error::Pkcs11(
                RvError::EncryptedDataInvalid
                | RvError::EncryptedDataLenRange
                // What SoftHSM 2.6 and others say of a wrong tag.
                | RvError::GeneralError
                | RvError::FunctionFailed,
                _,
            )) => Ok(None),
            Err(error) => Err(fault(&self.uri, error.into())),
        }
    }

    /// Runs AES-256-GCM on the token. A token that chooses nonces itself puts its own in place of this one.
    fn cipher(
        &self,
        nonce: &mut [u8; NONCE_BYTES],
        associated: &[u8],
        run: impl FnOnce(&Mechanism<'_>) -> Result<Vec<u8>, Pkcs11Error>,
    ) -> Result<Vec<u8>, Pkcs11Error> {
        let tag_bits = 8 * AES_GCM_TAG_BYTES as u64;
        run(&Mechanism::AesGcm(GcmParams::new(nonce, associated, tag_bits.into())?))
    }
}

/// A secret that a key on a token wrapped.
pub(crate) struct Wrapped {
    uri: TokenUri,
    protected: Vec<u8>,
    nonce: [u8; NONCE_BYTES],
    sealed: Vec<u8>,
}

impl Wrapped {
    /// Reads it from bytes; `None` for what is none.
    ///
    /// # Errors
    /// [`Error::Token`]: its URI cannot be used.
    pub(crate) fn decode(untrusted: &[u8]) -> Result<Option<Self>, Error> {
        let Ok(read) = cbor::parse_exact::<Untrusted<'_>>(untrusted) else { return Ok(None) };
        let uri = TokenUri::parse(read.uri)?;
        let (protected, sealed) = (read.protected.into(), read.sealed.into());
        Ok(Some(Self { uri, protected, nonce: *read.nonce, sealed }))
    }

    fn encode(&self) -> Vec<u8> {
        cbor::encode(|e| {
            e.array(3)?.bytes(&self.protected)?.map(1)?.u8(5)?.bytes(&self.nonce)?.bytes(&self.sealed)?;
            Ok(())
        })
    }

    /// Returns the name of the key that opens it.
    pub(crate) fn uri(&self) -> &TokenUri {
        &self.uri
    }

    /// Has the token unwrap it; `None` if its key does not, for what the label says.
    ///
    /// # Errors
    /// [`Error::Token`].
    pub(crate) fn unwrap(&self, label: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
        WrappingKey::open(&self.uri)?.unwrap(self, label)
    }
}

/// The parts of a wrapped secret, as they were read.
struct Untrusted<'b> {
    protected: &'b [u8],
    uri: &'b str,
    nonce: &'b [u8; NONCE_BYTES],
    sealed: &'b [u8],
}

impl<'b> Decode<'b> for Untrusted<'b> {
    fn decode(r: &mut Reader<'b>) -> Option<Self> {
        r.array(3)?;
        let protected = r.bytes()?;
        let mut header = Reader::new(protected);
        header.map(2)?;
        header.key(1)?;
        header.key(A256GCM)?;
        header.key(4)?;
        let uri = std::str::from_utf8(header.bytes()?).ok()?;
        header.end()?;
        r.map(1)?;
        r.key(5)?;
        Some(Self { protected, uri, nonce: r.fixed()?, sealed: r.bytes()? })
    }
}

/// Returns the protected header.
fn protected(uri: &TokenUri) -> Vec<u8> {
    cbor::encode(|e| {
        e.map(2)?.u8(1)?.u8(A256GCM)?.u8(4)?.bytes(uri.to_string().as_bytes())?;
        Ok(())
    })
}

/// Returns what is authenticated besides: the Enc_structure of RFC 9052, 5.3.
fn associated(protected: &[u8], label: &[u8]) -> Vec<u8> {
    cbor::encode(|e| e.array(3)?.str("Encrypt0")?.bytes(protected)?.bytes(label)?.ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const URI: &str = "pkcs11:token=an%20owner;object=update-demo;type=secret-key?module-path=/lib/m.so";

    fn wrapped() -> Wrapped {
        let uri = TokenUri::parse(URI).unwrap();
        Wrapped { protected: protected(&uri), uri, nonce: [7; NONCE_BYTES], sealed: vec![9; 50] }
    }

    #[test]
    fn a_wrapped_secret_survives_its_encoding_and_names_its_key() {
        let encoded = wrapped().encode();
        let read = Wrapped::decode(&encoded).unwrap().unwrap();
        assert_eq!((read.uri.to_string(), read.nonce, &read.sealed), (URI.into(), [7; 12], &vec![9; 50]));
        assert_eq!(read.encode(), encoded);
    }

    #[test]
    fn what_is_none_is_not_read() {
        let encoded = wrapped().encode();
        for length in 0..encoded.len() {
            assert!(Wrapped::decode(&encoded[..length]).unwrap().is_none(), "{length}");
        }
        assert!(Wrapped::decode(&[&encoded[..], b"\0"].concat()).unwrap().is_none());
        // Another algorithm, and a key that is named as text.
        let at = encoded.windows(4).position(|four| four == [0xA2, 1, 3, 4]).unwrap();
        for (index, byte) in [(at, 0xA1), (at + 2, 1), (at + 3, 5), (at + 4, 0x78)] {
            let mut other = encoded.clone();
            other[index] = byte;
            assert!(Wrapped::decode(&other).unwrap().is_none(), "{index}");
        }
    }

    #[test]
    fn a_key_that_is_no_secret_key_is_refused_before_the_token_is_asked() {
        let uri = TokenUri::parse(&URI.replace("secret-key", "private")).unwrap();
        let said = Wrapped { uri: uri.clone(), ..wrapped() }.unwrap(b"label").unwrap_err().to_string();
        assert!(said.contains("`type=private`, not `type=secret-key`"), "{said}");
        assert!(WrappingKey::generate(&uri, "update-demo").is_err());
        let said = super::super::TokenKey::open(&TokenUri::parse(URI).unwrap()).unwrap_err().to_string();
        assert!(said.contains("`type=secret-key`, not `type=private`"), "{said}");
    }
}
