//! The name of a token, or of a key on it: a PKCS#11 URI (RFC 7512).
//!
//! # Threats
//! *Two tokens of one label*, or two keys, are told apart by what else the URI says: what it says has to hold, and an attribute
//! that Kiln does not compare is refused, so that nobody believes that it counts. *Whoever reads files or process lists* finds no
//! PIN: a URI that holds one, or says where it is, is refused, and the PIN is not shown.

use super::token::{TokenFault, fault};
use crate::Error;
use cryptoki::object::Attribute;
use cryptoki::slot::TokenInfo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode, utf8_percent_encode};
use std::fmt;
use std::path::{Path, PathBuf};

/// What is written as `%XX` in a URI.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The same behind the question mark.
const ESCAPED_IN_QUERY: &AsciiSet = &ESCAPED.remove(b'/');
/// The attributes that count, besides those of the PIN, which are refused with more words.
const COUNTS: [&str; 10] = [
    "token",
    "manufacturer",
    "serial",
    "model",
    "object",
    "id",
    "type",
    "module-path",
    "pin-value",
    "pin-source",
];

/// What a key on a token is: `type` in a URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyClass {
    /// The private half of a pair, which signs.
    Private,
    /// A symmetric key, which wraps.
    Secret,
}

impl KeyClass {
    const fn name(self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::Secret => "secret-key",
        }
    }
}

/// Names a token, or a key on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenUri {
    module: PathBuf,
    /// Its label.
    token: String,
    manufacturer: Option<String>,
    serial: Option<String>,
    model: Option<String>,
    object: Option<String>,
    id: Option<Vec<u8>>,
    class: Option<KeyClass>,
}

impl TokenUri {
    /// Reads a URI such as `pkcs11:token=owner;object=boot?module-path=/usr/lib/softhsm/libsofthsm2.so`: the label of the
    /// token, that of the key where one is meant, and the module that talks to it. `serial`, `manufacturer` and `model` of the
    /// token and the `id` of the key have to hold where they are given.
    ///
    /// # Errors
    /// What is none, lacks the token or the module, holds a PIN, or has an attribute that would not count.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let refused = |reason: &str| fault(without_pin(text), TokenFault::Uri(reason.into()));
        let uri = pk11_uri_parser::parse(text).map_err(|_| refused("it is not a PKCS#11 URI (RFC 7512)"))?;
        if uri.pin_value().is_some() || uri.pin_source().is_some() {
            return Err(refused(
                "it says where the PIN is, which belongs into KILN_PIN or onto the terminal",
            ));
        }
        if let Some(name) = names(text).find(|name| !COUNTS.contains(name)) {
            return Err(refused(&format!("its `{name}` is not compared with anything: leave it out")));
        }
        let known = [KeyClass::Private, KeyClass::Secret];
        let class = match uri.r#type().map(|class| known.into_iter().find(|known| known.name() == class)) {
            None => None,
            Some(Some(class)) => Some(class),
            Some(None) => {
                return Err(refused(
                    "it names something else than a private or a secret key (`type=private`, `type=secret-key`)",
                ));
            }
        };
        let decoded = |value: Option<&str>| match value {
            None => Ok(None),
            Some(value) => match percent_decode_str(value).decode_utf8() {
                Ok(text) => Ok(Some(text.into_owned())),
                Err(_) => Err(refused("a name in it is no text in UTF-8")),
            },
        };
        let there = |value: Option<String>| value.filter(|value| !value.is_empty());
        let token =
            there(decoded(uri.token())?).ok_or_else(|| refused("it names no token (`token=LABEL`)"))?;
        let module = there(decoded(uri.module_path())?)
            .ok_or_else(|| refused("it names no module (`?module-path=/path/of/the/module.so`)"))?;
        Ok(Self {
            module: module.into(),
            token,
            manufacturer: decoded(uri.manufacturer())?,
            serial: decoded(uri.serial())?,
            model: decoded(uri.model())?,
            object: there(decoded(uri.object())?),
            id: uri.id().map(|id| percent_decode_str(id).collect()),
            class,
        })
    }

    /// Returns the path of the module.
    pub(super) fn module(&self) -> &Path {
        &self.module
    }

    /// Returns the label of the token.
    pub(super) fn token(&self) -> &str {
        &self.token
    }

    /// Returns the label of the key, if one is named.
    pub(super) fn object(&self) -> Option<&str> {
        self.object.as_deref()
    }

    /// Returns the label of the key.
    ///
    /// # Errors
    /// [`TokenFault::Uri`] if none is named.
    pub(super) fn label(&self) -> Result<&str, Error> {
        self.object().ok_or_else(|| fault(self, TokenFault::Uri("it names no key (`object=LABEL`)".into())))
    }

    /// Tells whether this is the token.
    pub(super) fn is(&self, token: &TokenInfo) -> bool {
        // PKCS#11 fills what a token says of itself up with blanks.
        let same = |said: &Option<String>, found: &str| {
            said.as_ref().is_none_or(|said| said.trim_end() == found.trim_end())
        };
        token.label().trim_end() == self.token
            && same(&self.manufacturer, token.manufacturer_id())
            && same(&self.serial, token.serial_number())
            && same(&self.model, token.model())
    }

    /// Returns what a half of the key has to have, besides its class.
    ///
    /// # Errors
    /// As [`label`](Self::label).
    pub(super) fn template(&self) -> Result<Vec<Attribute>, Error> {
        let label = [Attribute::Label(self.label()?.into())];
        Ok(label.into_iter().chain(self.id.clone().map(Attribute::Id)).collect())
    }

    /// Names a private key on the same token.
    #[must_use]
    pub fn key(&self, label: &str) -> Self {
        Self { object: Some(label.into()), id: None, class: Some(KeyClass::Private), ..self.clone() }
    }

    /// Names a secret key on the same token: the one that is named here, or else that of this label.
    ///
    /// # Errors
    /// [`TokenFault::Uri`] if a private key is named here.
    pub(super) fn secret_key(&self, label: &str) -> Result<Self, Error> {
        self.expect(KeyClass::Secret)?;
        let object = Some(self.object().unwrap_or(label).into());
        Ok(Self { object, id: None, class: Some(KeyClass::Secret), ..self.clone() })
    }

    /// Refuses a key of another class, where the URI says which it is.
    pub(super) fn expect(&self, class: KeyClass) -> Result<(), Error> {
        match self.class.filter(|said| *said != class) {
            None => Ok(()),
            Some(said) => {
                let reason = format!(
                    "it names another kind of key than the one that is wanted: `type={}`, not `type={}`",
                    said.name(),
                    class.name()
                );
                Err(fault(self, TokenFault::Uri(reason)))
            }
        }
    }
}

impl fmt::Display for TokenUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let escaped = |text| utf8_percent_encode(text, ESCAPED);
        write!(f, "pkcs11:token={}", escaped(&self.token))?;
        let more = [("manufacturer", &self.manufacturer), ("serial", &self.serial), ("model", &self.model)];
        for (name, value) in more {
            if let Some(value) = value {
                write!(f, ";{name}={}", escaped(value))?;
            }
        }
        if let Some(object) = &self.object {
            write!(f, ";object={}", escaped(object))?;
        }
        if let Some(id) = &self.id {
            write!(f, ";id={}", percent_encode(id, ESCAPED))?;
        }
        if self.object.is_some() {
            write!(f, ";type={}", self.class.unwrap_or(KeyClass::Private).name())?;
        }
        write!(f, "?module-path={}", utf8_percent_encode(&self.module.to_string_lossy(), ESCAPED_IN_QUERY))
    }
}

/// Lists the names of the attributes of a URI that was parsed.
fn names(text: &str) -> impl Iterator<Item = &str> {
    let text = text.strip_prefix("pkcs11:").unwrap_or(text);
    let (path, query) = text.split_once('?').unwrap_or((text, ""));
    let pairs = path.split(';').chain(query.split('&'));
    pairs.filter_map(|pair| pair.split('=').next()).map(str::trim).filter(|name| !name.is_empty())
}

/// Returns a URI as far as it may be shown. What is none is not shown at all: it may be a key that lies in a file for URIs.
fn without_pin(text: &str) -> &str {
    if !text.starts_with("pkcs11:") || text.contains('\n') {
        return "the name of the key";
    }
    // A PIN may stand under a name that is none: what is shown ends before the first attribute that does not count.
    let shown = |name: &&str| COUNTS.contains(name) && !name.starts_with("pin-");
    let first = names(text).find(|name| !shown(name));
    first.map_or(text, |name| &text[..name.as_ptr() as usize - text.as_ptr() as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    const URI: &str = "pkcs11:token=an%20owner;object=boot;type=private?module-path=/lib/softhsm2.so";

    #[test]
    fn a_uri_survives_being_written() {
        let uri = TokenUri::parse(URI).unwrap();
        assert_eq!((uri.token.as_str(), uri.object.as_deref()), ("an owner", Some("boot")));
        assert_eq!(uri.module, Path::new("/lib/softhsm2.so"));
        assert_eq!(uri.to_string(), URI);
        let odd = TokenUri { token: "a;b?c=d%&/ö".into(), ..uri.key("r;t") };
        assert_eq!(TokenUri::parse(&odd.to_string()).unwrap(), odd);
    }

    #[test]
    fn a_uri_that_lacks_something_or_holds_a_pin_is_refused_and_the_pin_not_shown() {
        let refused = [
            "owner",
            "pkcs11:object=boot?module-path=/m.so",
            "pkcs11:token=?module-path=/m.so",
            "pkcs11:token=owner",
            "pkcs11:token=owner?module-path=/m.so&pin-value=secret",
            "pkcs11:token=owner?pin-value=secret&module-path=/m.so",
            "pkcs11:token=owner?module-path=/m.so&pin-source=file:/pin",
            "pkcs11:token=owner?module-path=/m.so&PIN-value=secret",
            "pkcs11:token=owner?module-path=/m.so&pin=secret",
            "pkcs11:token=owner;pin_value=secret?module-path=/m.so",
            "pkcs11:token=owner?module-path=/m.so&pin%2Dvalue=secret",
            "pkcs11:token=owner;secret?module-path=/m.so",
            "pkcs11:pin-value=secret;token=owner?module-path=/m.so",
        ];
        for text in refused {
            let error = TokenUri::parse(text).unwrap_err();
            assert!(matches!(&error, Error::Token { fault: TokenFault::Uri(_), .. }), "{text}: {error}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        // A key that was put into a file for URIs.
        let key = boot_crypto::host::Es256Key::generate().to_pem();
        for text in [key.to_string(), format!("pkcs11:\n{}", *key)] {
            let error = TokenUri::parse(&text).unwrap_err().to_string();
            assert!(error.starts_with("the name of the key: the URI cannot be used"), "{error}");
        }
    }

    #[test]
    fn what_else_a_uri_says_is_kept_and_what_would_not_count_is_refused() {
        let long = "pkcs11:token=an%20owner;manufacturer=SoftHSM%20project;serial=1f2e;model=SoftHSM%20v2;object=boot;id=%00%FFa;type=private?module-path=/lib/softhsm2.so";
        let uri = TokenUri::parse(long).unwrap();
        assert_eq!((uri.serial.as_deref(), uri.id.as_deref()), (Some("1f2e"), Some(&[0, 0xFF, b'a'][..])));
        assert_eq!(uri.to_string(), long);
        assert_eq!(TokenUri::parse(&uri.to_string()).unwrap(), uri);
        let other = uri.key("os");
        assert_eq!((other.id, other.serial), (None, uri.serial));
        for (text, words) in [
            ("pkcs11:token=o;slot-id=1?module-path=/m.so", "its `slot-id` is not compared"),
            ("pkcs11:token=o;library-version=3?module-path=/m.so", "its `library-version` is not compared"),
            ("pkcs11:token=o?module-path=/m.so&module-name=m", "its `module-name` is not compared"),
            ("pkcs11:token=o;vendor=x?module-path=/m.so", "its `vendor` is not compared"),
            ("pkcs11:token=o;type=public?module-path=/m.so", "something else than a private or a secret key"),
            ("pkcs11:token=o;serial=%FF?module-path=/m.so", "no text in UTF-8"),
        ] {
            let error = TokenUri::parse(text).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
