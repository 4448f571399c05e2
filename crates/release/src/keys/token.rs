//! Keys in hardware: PKCS#11 tokens (v2.40), named by URIs (RFC 7512). ES256 is `CKM_ECDSA`, PS256 `CKM_RSA_PKCS_PSS`.
//!
//! *Whoever copies the disk* of the machine that signs gets no key: it is made on the token, is marked sensitive and not
//! extractable, and signs there; one that is marked otherwise, since it was imported, is refused. *Whoever reads files, process lists or logs* gets no PIN: it comes from the environment
//! (`KILN_PIN`) or is asked for on the terminal, is kept no longer than the login takes, and a URI that holds one is refused. *A token that is another, or lies*, signs
//! with another key than the one that the owner's certificates name: every signature is verified with the public key before
//! it is used, and what a release says is verified as devices do before it is published.

use std::collections::BTreeMap;
use std::fmt;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::token_uri::KeyClass;
use super::{KeyAlgorithm, PublicPart, TokenUri};
use crate::Error;
use boot_crypto::{Digest, es256_low_s, es256_verify, ps256_verify};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error as Pkcs11Error, RvError};
use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsPssParams};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, SessionState, UserType};
use cryptoki::types::{AuthPin, Ulong};
use sealed_image::PublicKey;
use sealed_image::host::{Signer, SignerError};

/// The variable of the environment that holds the PIN.
pub const PIN_VARIABLE: &str = "KILN_PIN";

/// The curve P-256 as PKCS#11 names it: the object identifier 1.2.840.10045.3.1.7 (RFC 5480, 2.1.1.1), in DER.
const P256: [u8; 10] = [0x06, 0x08, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07];
/// What stands before the point of a P-256 key: an octet string in DER of an uncompressed point (SEC 1, 2.3.3).
const POINT: [u8; 3] = [0x04, 0x41, 0x04];
/// The public exponent of RSA keys, 65537.
const EXPONENT: [u8; 3] = [1, 0, 1];
/// PS256 (RFC 8230, 2): the salt is as long as the hash.
const PS256: PkcsPssParams =
    PkcsPssParams { hash_alg: MechanismType::SHA256, mgf: PkcsMgfType::MGF1_SHA256, s_len: Ulong::new(32) };

/// What is wrong with a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenFault {
    /// The URI cannot be used.
    Uri(String),
    /// The module cannot be loaded.
    Module(String),
    /// There is no token of this name, or more than one.
    Missing(usize),
    /// No PIN was given, and there is no terminal to ask on.
    PinMissing,
    /// The PIN is wrong.
    PinWrong,
    /// The token takes no PIN any more.
    PinLocked,
    /// There is no key of this name, or more than one.
    Key(usize),
    /// There is a key of this name already.
    KeyThere,
    /// The key is none that devices verify with.
    Kind,
    /// The token would give the private key out.
    Extractable,
    /// The key is none that wraps.
    WrappingKind,
    /// A signature is not one of this key.
    Signature,
    /// What the key wrapped does not come out again.
    Wrapped,
    /// The module reports something else.
    Other(String),
}

impl fmt::Display for TokenFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uri(reason) => write!(f, "the URI cannot be used: {reason}"),
            Self::Module(reason) => write!(f, "the PKCS#11 module cannot be loaded: {reason}"),
            Self::Missing(0) => f.write_str("there is no such token"),
            Self::Missing(count) => write!(f, "there are {count} such tokens"),
            Self::PinMissing => f.write_str("no PIN was given, and there is no terminal to ask for it on"),
            Self::PinWrong => f.write_str("the PIN is wrong"),
            Self::PinLocked => f.write_str("the PIN is locked"),
            Self::Key(0) => f.write_str("there is no such key on the token"),
            Self::Key(count) => write!(f, "there are {count} such keys on the token"),
            Self::KeyThere => f.write_str("there is a key of this name on the token already"),
            Self::Kind => {
                f.write_str("the key is neither P-256 nor RSA with 3072 or 4096 bits and the exponent 65537")
            }
            Self::Extractable => f.write_str(
                "the token would give the key out: it is not marked sensitive, or it is extractable",
            ),
            Self::WrappingKind => f.write_str("the key is no AES key of 256 bits"),
            Self::Wrapped => f.write_str("the token does not unwrap what it has wrapped"),
            Self::Signature => f.write_str("the token returned a signature that is not one of its key"),
            Self::Other(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for TokenFault {}

impl From<Pkcs11Error> for TokenFault {
    fn from(error: Pkcs11Error) -> Self {
        match error {
            Pkcs11Error::Pkcs11(RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange, _) => {
                Self::PinWrong
            }
            Pkcs11Error::Pkcs11(RvError::PinLocked, _) => Self::PinLocked,
            error => Self::Other(error.to_string()),
        }
    }
}

pub(super) fn fault(uri: impl fmt::Display, fault: TokenFault) -> Error {
    Error::Token { uri: uri.to_string(), fault }
}

/// A key on a token, which signs there.
pub struct TokenKey {
    uri: TokenUri,
    session: Mutex<Session>,
    key: ObjectHandle,
    public_key: ObjectHandle,
    public: PublicPart,
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenKey").field("uri", &self.uri).finish_non_exhaustive()
    }
}

impl TokenKey {
    /// Opens the key that `uri` names.
    ///
    /// # Errors
    /// [`Error::Token`]: no such module, token or key, a PIN that is missing, wrong or locked, a key of another kind.
    pub fn open(uri: &TokenUri) -> Result<Self, Error> {
        uri.expect(KeyClass::Private)?;
        Self::find(uri, log_in(uri, Access::Use)?)
    }

    /// Makes a key on the token, which never leaves it.
    ///
    /// # Errors
    /// [`Error::Token`]: as [`open`](Self::open), and a key of this name that is there already.
    pub fn generate(uri: &TokenUri, algorithm: KeyAlgorithm) -> Result<Self, Error> {
        let (session, named) = new_key(uri)?;
        let failed = |error: Pkcs11Error| fault(uri, error.into());
        let (mechanism, form) = match algorithm.modulus_bits() {
            None => (Mechanism::EccKeyPairGen, vec![Attribute::EcParams(P256.into())]),
            Some(bits) => (
                Mechanism::RsaPkcsKeyPairGen,
                vec![
                    Attribute::ModulusBits(u64::from(bits).into()),
                    Attribute::PublicExponent(EXPONENT.into()),
                ],
            ),
        };
        let used = [Attribute::Verify(true), Attribute::Private(false)];
        let signs = [Attribute::Sign(true)];
        // An RSA key could do more than sign, and a token may let it unless it is told otherwise.
        let (no_more, neither) = match algorithm.modulus_bits() {
            None => (vec![], vec![]),
            Some(_) => (
                vec![Attribute::Encrypt(false), Attribute::Wrap(false)],
                vec![Attribute::Decrypt(false), Attribute::Unwrap(false)],
            ),
        };
        let public = [&named[..], &form, &used, &no_more].concat();
        let private = [&named[..], &KEPT, &signs, &neither].concat();
        let (public_key, key) = session.generate_key_pair(&mechanism, &public, &private).map_err(failed)?;
        match public_part(uri, &session, public_key) {
            Ok(public) => {
                Ok(Self { uri: uri.clone(), session: Mutex::new(session), key, public_key, public })
            }
            Err(why) => {
                let gone = destroy(&session, [key, public_key]);
                Err(and_left(why, uri.object().filter(|_| !gone).map(String::from)))
            }
        }
    }

    /// Removes a key from the token: one that was just made, for somebody who does not get it after all.
    fn remove(&self) -> bool {
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        destroy(&session, [self.key, self.public_key])
    }

    fn find(uri: &TokenUri, session: Session) -> Result<Self, Error> {
        let key = kept_key(uri, &session, ObjectClass::PRIVATE_KEY)?;
        let public_key = one(uri, &session, ObjectClass::PUBLIC_KEY)?;
        let public = public_part(uri, &session, public_key)?;
        Ok(Self { uri: uri.clone(), session: Mutex::new(session), key, public_key, public })
    }

    /// Returns the name of the key.
    pub fn uri(&self) -> &TokenUri {
        &self.uri
    }

    fn signature(&self, digest: &Digest) -> Result<Vec<u8>, TokenFault> {
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let (signature, verified) = match &self.public {
            PublicPart::P256(point) => {
                let signature = session.sign(&Mechanism::Ecdsa, self.key, digest)?;
                // The token has chosen one of the two forms of each signature, and devices are given the lower one always.
                let signature = signature.as_slice().try_into().ok().and_then(es256_low_s);
                let signature = signature.ok_or(TokenFault::Signature)?;
                (signature.to_vec(), es256_verify(point, digest, &signature))
            }
            PublicPart::Rsa(modulus) => {
                let signature = session.sign(&Mechanism::RsaPkcsPss(PS256), self.key, digest)?;
                let verified = ps256_verify(modulus, digest, &signature);
                (signature, verified)
            }
        };
        if verified.accepts() { Ok(signature) } else { Err(TokenFault::Signature) }
    }
}

impl Signer for TokenKey {
    fn public_key(&self) -> PublicKey<'_> {
        self.public.key()
    }

    fn sign(&self, digest: &Digest) -> Result<Vec<u8>, SignerError> {
        Ok(self.signature(digest).map_err(|error| fault(&self.uri, error))?)
    }
}

/// What a key that never leaves its token is marked with.
pub(super) const KEPT: [Attribute; 3] =
    [Attribute::Private(true), Attribute::Sensitive(true), Attribute::Extractable(false)];

/// Opens a session in which a key of this name, which is not there yet, can be made; and says what it is called.
pub(super) fn new_key(uri: &TokenUri) -> Result<(Session, [Attribute; 3]), Error> {
    let label = uri.label()?;
    let session = log_in(uri, Access::MakeKeys)?;
    let there = session.find_objects(&[Attribute::Label(label.into())]);
    if !there.map_err(|error| fault(uri, error.into()))?.is_empty() {
        return Err(fault(uri, TokenFault::KeyThere));
    }
    Ok((session, [Attribute::Token(true), Attribute::Label(label.into()), Attribute::Id(label.into())]))
}

/// Finds the one object of this class that `uri` names.
fn one(uri: &TokenUri, session: &Session, class: ObjectClass) -> Result<ObjectHandle, Error> {
    let wanted = [&[Attribute::Class(class)], &uri.template()?[..]].concat();
    let found = session.find_objects(&wanted).map_err(|error| fault(uri, error.into()))?;
    match found.as_slice() {
        [one] => Ok(*one),
        found => Err(fault(uri, TokenFault::Key(found.len()))),
    }
}

/// Finds the one key of this class that `uri` names; refuses one that the token would give out.
pub(super) fn kept_key(uri: &TokenUri, session: &Session, class: ObjectClass) -> Result<ObjectHandle, Error> {
    let key = one(uri, session, class)?;
    let marked = session.get_attributes(key, &[AttributeType::Sensitive, AttributeType::Extractable]);
    let marked = marked.map_err(|error| fault(uri, error.into()))?;
    if ![Attribute::Sensitive(true), Attribute::Extractable(false)].iter().all(|it| marked.contains(it)) {
        return Err(fault(uri, TokenFault::Extractable));
    }
    Ok(key)
}

/// Reads the public key.
fn public_part(uri: &TokenUri, session: &Session, public_key: ObjectHandle) -> Result<PublicPart, Error> {
    let read = |types: &[AttributeType]| {
        session.get_attributes(public_key, types).map_err(|error| fault(uri, error.into()))
    };
    let public = if read(&[AttributeType::KeyType])?.contains(&Attribute::KeyType(KeyType::RSA)) {
        modulus(read(&[AttributeType::Modulus, AttributeType::PublicExponent])?).map(PublicPart::Rsa)
    } else {
        point(read(&[AttributeType::EcParams, AttributeType::EcPoint])?).map(PublicPart::P256)
    };
    public.ok_or_else(|| fault(uri, TokenFault::Kind))
}

/// Returns the point of a P-256 key: x followed by y.
fn point(attributes: Vec<Attribute>) -> Option<[u8; 64]> {
    let (mut curve, mut point) = (None, None);
    for attribute in attributes {
        match attribute {
            Attribute::EcParams(value) => curve = Some(value),
            Attribute::EcPoint(value) => point = Some(value),
            _ => {}
        }
    }
    let point = point.filter(|_| curve.as_deref() == Some(&P256))?;
    point.strip_prefix(&POINT)?.try_into().ok()
}

/// Returns the modulus of an RSA key that devices verify with.
fn modulus(attributes: Vec<Attribute>) -> Option<Vec<u8>> {
    // PKCS#11 has no leading zeros in its numbers; some tokens do.
    let number = |bytes: Vec<u8>| bytes.into_iter().skip_while(|byte| *byte == 0).collect::<Vec<u8>>();
    let (mut modulus, mut exponent) = (None, None);
    for attribute in attributes {
        match attribute {
            Attribute::Modulus(value) => modulus = Some(number(value)),
            Attribute::PublicExponent(value) => exponent = Some(number(value)),
            _ => {}
        }
    }
    let whole = |modulus: &Vec<u8>| matches!(modulus.len(), 384 | 512) && modulus[0] & 0x80 != 0;
    modulus.filter(whole).filter(|_| exponent.as_deref() == Some(&EXPONENT))
}

/// Removes both halves of a key from the token, and tells whether they are gone.
fn destroy(session: &Session, halves: [ObjectHandle; 2]) -> bool {
    halves.map(|half| session.destroy_object(half).is_ok()) == [true; 2]
}

/// Removes keys that were just made, and returns why: with the names of those that could not be removed.
pub(crate) fn unmake<'a>(keys: impl IntoIterator<Item = &'a TokenKey>, why: Error) -> Error {
    and_left(
        why,
        keys.into_iter().filter(|key| !key.remove()).filter_map(|key| key.uri.object().map(String::from)),
    )
}

/// Says besides which keys are left on the token.
pub(super) fn and_left(why: Error, left: impl IntoIterator<Item = String>) -> Error {
    let left: Vec<_> = left.into_iter().collect();
    if left.is_empty() { why } else { Error::KeysLeft { why: Box::new(why), left } }
}

/// What a session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Use,
    MakeKeys,
}

/// Opens a session with the token that `uri` names, logged in.
pub(super) fn log_in(uri: &TokenUri, access: Access) -> Result<Session, Error> {
    let failed = |error: Pkcs11Error| fault(uri, error.into());
    let pkcs11 = module(uri.module()).map_err(|error| fault(uri, error))?;
    let mut found = Vec::new();
    for slot in pkcs11.get_slots_with_token().map_err(failed)? {
        let token = pkcs11.get_token_info(slot).map_err(failed)?;
        if uri.is(&token) {
            found.push((slot, token));
        }
    }
    let [(slot, token)] = found.as_slice() else {
        return Err(fault(uri, TokenFault::Missing(found.len())));
    };
    if token.user_pin_locked() {
        return Err(fault(uri, TokenFault::PinLocked));
    }
    let session = match access {
        Access::Use => pkcs11.open_ro_session(*slot),
        Access::MakeKeys => pkcs11.open_rw_session(*slot),
    };
    let session = session.map_err(failed)?;
    // For all sessions of a process with a token there is one login: nobody is asked twice.
    let state = session.get_session_info().map_err(failed)?.session_state();
    if matches!(state, SessionState::RoUser | SessionState::RwUser) {
        return Ok(session);
    }
    match session.login(UserType::User, Some(&pin(uri)?)) {
        Ok(()) | Err(Pkcs11Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(session),
        Err(error) => Err(failed(error)),
    }
}

/// Loads a module, which a process does once.
fn module(path: &Path) -> Result<Pkcs11, TokenFault> {
    static LOADED: Mutex<BTreeMap<PathBuf, Pkcs11>> = Mutex::new(BTreeMap::new());
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(pkcs11) = loaded.get(path) {
        return Ok(pkcs11.clone());
    }
    let failed = |error: Pkcs11Error| TokenFault::Module(error.to_string());
    let pkcs11 = Pkcs11::new(path).map_err(failed)?;
    match pkcs11.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Ok(()) | Err(Pkcs11Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
        Err(error) => return Err(failed(error)),
    }
    loaded.insert(path.into(), pkcs11.clone());
    Ok(pkcs11)
}

/// Returns the PIN: from the environment, or from whoever sits at the terminal. An empty one is what build servers make of
/// a secret that they do not have: the token would count it as a wrong one.
fn pin(uri: &TokenUri) -> Result<AuthPin, Error> {
    match std::env::var(PIN_VARIABLE) {
        Ok(pin) if !pin.is_empty() => return Ok(pin.into()),
        _ => {}
    }
    if !std::io::stdin().is_terminal() {
        return Err(fault(uri, TokenFault::PinMissing));
    }
    let pin = rpassword::prompt_password(format!("PIN of the token {}: ", uri.token()));
    pin.map(AuthPin::from).map_err(|_| fault(uri, TokenFault::PinMissing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_token_says_of_a_pin_is_told_apart() {
        use cryptoki::context::Function;
        for (said, fault) in [
            (RvError::PinIncorrect, TokenFault::PinWrong),
            (RvError::PinLenRange, TokenFault::PinWrong),
            (RvError::PinLocked, TokenFault::PinLocked),
        ] {
            assert_eq!(TokenFault::from(Pkcs11Error::Pkcs11(said, Function::Login)), fault);
        }
        let other = TokenFault::from(Pkcs11Error::Pkcs11(RvError::DeviceRemoved, Function::Login));
        assert!(matches!(other, TokenFault::Other(_)), "{other}");
    }

    #[test]
    fn a_module_that_is_not_there_is_named() {
        let uri = TokenUri::parse("pkcs11:token=owner;object=boot?module-path=/nowhere/module.so").unwrap();
        let error = TokenKey::open(&uri).unwrap_err();
        assert!(matches!(&error, Error::Token { fault: TokenFault::Module(_), .. }), "{error}");
        assert!(error.to_string().contains("/nowhere/module.so"), "{error}");
    }
}
