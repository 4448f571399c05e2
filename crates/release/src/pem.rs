//! Keys and certificates as PEM files.

use crate::{Error, files};
use boot_crypto::host::Es256Key;
use pem_rfc7468::LineEnding;
use std::path::Path;

const CERTIFICATE: &str = "CERTIFICATE";

/// Reads a P-256 private key (PKCS#8).
///
/// # Errors
/// A file that cannot be read or holds no such key.
pub fn read_key(path: &Path) -> Result<Es256Key, Error> {
    Es256Key::from_pem(&files::read_text(path)?).map_err(|error| Error::KeyFile { path: path.into(), error })
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
