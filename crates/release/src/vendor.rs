//! A model of the silicon vendor: the certification authority that certifies dies.
//!
//! Kiln's threats begin behind the vendor, so a model is enough: a root that signs one issuing CA, and an issuing
//! CA that certifies the public half of each die's key. The names in its certificates say that it is a model. A
//! product takes its vendor's own root, and never sees these keys.

use crate::files::{self, Readers};
use crate::x509::Ca;
use crate::{Error, read_certificate};
use boot_crypto::host::Es256Key;
use std::path::Path;

const ORGANISATION: &str = "Kiln model of a silicon vendor";
const ROOT_NAME: &str = "Kiln model silicon vendor root CA";
const ISSUING_NAME: &str = "Kiln model silicon vendor issuing CA";
const DIE_NAME: &str = "Kiln model die";

/// The modelled silicon vendor.
///
/// | file | holds |
/// |---|---|
/// | `vendor-root.pem`, `vendor-root.key.pem` | the root: certificate, and key of mode 0600 |
/// | `vendor-issuing.pem`, `vendor-issuing.key.pem` | the issuing CA |
pub struct SiliconVendor {
    root_key: Es256Key,
    issuing_key: Es256Key,
    root: Vec<u8>,
    issuing: Vec<u8>,
}

impl SiliconVendor {
    /// Founds a vendor with fresh keys.
    ///
    /// # Errors
    /// None in practice; making certificates is fallible.
    pub fn found() -> Result<Self, Error> {
        let (root_key, issuing_key) = (Es256Key::generate(), Es256Key::generate());
        let (root, issuing) = (root_ca(&root_key), issuing_ca(&issuing_key));
        let issued = issuing.certificate(Some(&root))?.der().to_vec();
        let root = root.certificate(None)?.der().to_vec();
        Ok(Self { root_key, issuing_key, root, issuing: issued })
    }

    /// Reads the vendor whose files lie in a folder.
    ///
    /// # Errors
    /// Files that are not there or not what they should be.
    pub fn read(folder: &Path) -> Result<Self, Error> {
        Ok(Self {
            root_key: crate::read_key(&folder.join("vendor-root.key.pem"))?,
            issuing_key: crate::read_key(&folder.join("vendor-issuing.key.pem"))?,
            root: read_certificate(&folder.join("vendor-root.pem"))?,
            issuing: read_certificate(&folder.join("vendor-issuing.pem"))?,
        })
    }

    /// Writes the vendor into a folder in which there is none.
    ///
    /// # Errors
    /// Files that cannot be written, or are there already.
    pub fn write(&self, folder: &Path) -> Result<(), Error> {
        files::make_folder(folder)?;
        for (name, key, certificate) in
            [("root", &self.root_key, &self.root), ("issuing", &self.issuing_key, &self.issuing)]
        {
            let pem = key.to_pem();
            files::write_new(&folder.join(format!("vendor-{name}.key.pem")), pem.as_bytes(), Readers::Owner)?;
            let pem = crate::certificate_pem(certificate);
            files::write_new(&folder.join(format!("vendor-{name}.pem")), pem.as_bytes(), Readers::Anyone)?;
        }
        Ok(())
    }

    /// Reads the vendor of a folder, or founds one there.
    ///
    /// # Errors
    /// As [`read`](Self::read) and [`write`](Self::write).
    pub fn read_or_found(folder: &Path) -> Result<Self, Error> {
        if folder.join("vendor-root.key.pem").exists() {
            return Self::read(folder);
        }
        let vendor = Self::found()?;
        vendor.write(folder)?;
        Ok(vendor)
    }

    /// Returns the root certificate, DER: what a lot trusts.
    pub fn root(&self) -> &[u8] {
        &self.root
    }

    /// Returns the certificate of the issuing CA, DER.
    pub fn issuing(&self) -> &[u8] {
        &self.issuing
    }

    /// Certifies the public half of a die's key, x followed by y. The subject's `serialNumber` is the chip id in
    /// lower-case hex.
    ///
    /// # Errors
    /// None in practice; making certificates is fallible.
    pub fn certify(&self, chip_id: &[u8; 16], public: &[u8; 64]) -> Result<Vec<u8>, Error> {
        let certificate = issuing_ca(&self.issuing_key).certify_die(DIE_NAME, chip_id, public)?;
        Ok(certificate.der().to_vec())
    }
}

fn root_ca(key: &Es256Key) -> Ca<'_> {
    Ca { organisation: ORGANISATION, name: ROOT_NAME, path_length: 1, key }
}

fn issuing_ca(key: &Es256Key) -> Ca<'_> {
    Ca { organisation: ORGANISATION, name: ISSUING_NAME, path_length: 0, key }
}
