//! Keys and certificates as PEM files.

use crate::{Error, Passphrase, files};
use boot_crypto::host::{Es256Key, SigningKeyError, is_encrypted};
use pem_rfc7468::LineEnding;
use std::path::Path;

const CERTIFICATE: &str = "CERTIFICATE";

/// Reads a P-256 private key (PKCS#8). Where it is encrypted, the passphrase comes from the environment or the terminal.
///
/// # Errors
/// A file that cannot be read or holds no such key, and [`Error::Passphrase`].
pub fn read_key(path: &Path) -> Result<Es256Key, Error> {
    open(&files::read_text(path)?, path, &mut None, Es256Key::from_pem, Es256Key::from_encrypted_pem)
}

/// Reads a private key from the text of its file. The passphrase is asked for once for all files of a folder.
pub(crate) fn open<K>(
    text: &str,
    path: &Path,
    asked: &mut Option<Passphrase>,
    plain: impl FnOnce(&str) -> Result<K, SigningKeyError>,
    encrypted: impl FnOnce(&str, &str) -> Result<K, SigningKeyError>,
) -> Result<K, Error> {
    let key = if is_encrypted(text) {
        let passphrase = match asked {
            Some(passphrase) => passphrase,
            None => asked.insert(Passphrase::of(path)?),
        };
        encrypted(text, passphrase.expose())
    } else {
        plain(text)
    };
    key.map_err(|error| Error::KeyFile { path: path.into(), error })
}

/// Reads the one certificate of a file, as DER.
///
/// # Errors
/// A file that cannot be read or holds anything else.
pub fn read_certificate(path: &Path) -> Result<Vec<u8>, Error> {
    let text = files::read(path)?;
    match pem_rfc7468::decode_vec(&text) {
        Ok((CERTIFICATE, der)) => Ok(der),
        _ => Err(Error::CertificateFile { path: path.into() }),
    }
}

/// Writes a certificate as PEM.
pub fn certificate_pem(der: &[u8]) -> String {
    pem_rfc7468::encode_string(CERTIFICATE, LineEnding::LF, der).expect("a certificate has a PEM form")
}
