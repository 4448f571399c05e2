//! The authority's own keys: made once, sealed at rest, opened when it starts.

use std::sync::Arc;

use boot_crypto::host::{Es256Key, SealingKey, SigningKeyError};
use boot_crypto::{Digest, sha256};
use sealed_image::host::{Signer, SignerError, certify, encode_grant};
use sealed_image::{
    Es256, Grant, KindSet, MAX_BOARDS, MessagePolicy, PublicKey, Role, Root, Version, verify_message,
};
use serde::{Deserialize, Serialize};

use crate::storage::{DelegationRow, KeyRow, Transaction};
use crate::x509::{CertificateAuthority, Use};
use crate::{Error, KeyEncryption, hex};

const SIGNING: &str = "signing";
const DEVICE_CA: &str = "device-ca";
const TLS_CA: &str = "tls-ca";
const TLS_SERVER: &str = "tls-server";
const SEALING: &str = "sealing";

/// The keys, opened.
pub(crate) struct Keys {
    /// Signs tickets, receipts and releases.
    pub(crate) signing: Arc<Es256Key>,
    /// Certifies devices.
    pub(crate) device_ca: CertificateAuthority,
    /// Certifies the service and its stations.
    pub(crate) tls_ca: CertificateAuthority,
    /// The service's own key, and its certificate.
    pub(crate) server: (Es256Key, Vec<u8>),
    /// Opens content keys, which releases are made with.
    pub(crate) sealing: SealingKey,
}

impl Keys {
    /// Makes fresh keys. `names` are those under which stations reach the service.
    pub(crate) fn create(signing: Es256Key, names: &[String]) -> Result<Self, Error> {
        let tls_ca = authority("Kiln station CA", Es256Key::generate())?;
        let server = Es256Key::generate();
        let purpose = Use::Server { names: names.to_vec() };
        let certificate = tls_ca.certify("Kiln authority", &server.public(), &purpose)?;
        Ok(Self {
            signing: Arc::new(signing),
            device_ca: authority("Kiln device CA", Es256Key::generate())?,
            tls_ca,
            server: (server, certificate),
            sealing: SealingKey::generate(),
        })
    }

    /// Stores the keys, sealed.
    pub(crate) fn sealed(&self, kek: &dyn KeyEncryption) -> Result<Vec<KeyRow>, Error> {
        let (server, certificate) = &self.server;
        let row =
            |name, key: &Es256Key, certificate| row(kek, name, &key.to_pem(), key.public(), certificate);
        Ok(vec![
            row(SIGNING, &self.signing, None)?,
            row(DEVICE_CA, self.device_ca.key(), Some(self.device_ca.certificate()))?,
            row(TLS_CA, self.tls_ca.key(), Some(self.tls_ca.certificate()))?,
            row(TLS_SERVER, server, Some(certificate))?,
            sealing_row(kek, &self.sealing)?,
        ])
    }

    /// Makes a sealing key for books that an earlier release made without one; `None` where there is one.
    pub(crate) async fn missing(
        tx: &mut dyn Transaction,
        kek: &dyn KeyEncryption,
    ) -> Result<Option<KeyRow>, Error> {
        if tx.key(SEALING).await?.is_some() {
            return Ok(None);
        }
        // Nothing is sealed under a key-encryption key that does not open what there is.
        open(tx, kek, SIGNING).await?;
        sealing_row(kek, &SealingKey::generate()).map(Some)
    }

    /// Opens the stored keys.
    pub(crate) async fn open(tx: &mut dyn Transaction, kek: &dyn KeyEncryption) -> Result<Self, Error> {
        let (signing, _) = open(tx, kek, SIGNING).await?;
        let (device, device_certificate) = open(tx, kek, DEVICE_CA).await?;
        let (tls, tls_certificate) = open(tx, kek, TLS_CA).await?;
        let again = |prefix: &str, key: Es256Key, certificate| {
            let name = name_of(prefix, &key);
            CertificateAuthority::new(key, name, certificate)
        };
        Ok(Self {
            signing: Arc::new(signing),
            device_ca: again("Kiln device CA", device, device_certificate),
            tls_ca: again("Kiln station CA", tls, tls_certificate),
            server: open(tx, kek, TLS_SERVER).await?,
            sealing: open_with(tx, kek, SEALING, SealingKey::from_pem, SealingKey::public).await?.0,
        })
    }
}

fn row(
    kek: &dyn KeyEncryption,
    name: &str,
    pem: &str,
    public: [u8; 64],
    certificate: Option<&[u8]>,
) -> Result<KeyRow, Error> {
    let sealed = kek.seal(&context(name), pem.as_bytes())?;
    Ok(KeyRow { name: name.into(), sealed, public, certificate: certificate.map(<[u8]>::to_vec) })
}

fn sealing_row(kek: &dyn KeyEncryption, key: &SealingKey) -> Result<KeyRow, Error> {
    row(kek, SEALING, &key.to_pem(), key.public(), None)
}

fn authority(prefix: &str, key: Es256Key) -> Result<CertificateAuthority, Error> {
    let name = name_of(prefix, &key);
    CertificateAuthority::create(key, name)
}

/// Names a certificate authority after its key, so that no two have one name.
fn name_of(prefix: &str, key: &Es256Key) -> String {
    format!("{prefix} {}", hex::encode(&sha256(&key.public())[..4]))
}

fn context(name: &str) -> String {
    format!("key {name}")
}

async fn open(
    tx: &mut dyn Transaction,
    kek: &dyn KeyEncryption,
    name: &str,
) -> Result<(Es256Key, Vec<u8>), Error> {
    open_with(tx, kek, name, Es256Key::from_pem, Es256Key::public).await
}

async fn open_with<K>(
    tx: &mut dyn Transaction,
    kek: &dyn KeyEncryption,
    name: &str,
    from_pem: fn(&str) -> Result<K, SigningKeyError>,
    public: fn(&K) -> [u8; 64],
) -> Result<(K, Vec<u8>), Error> {
    let damaged = || Error::Damaged(format!("the key {name}"));
    let row = tx.key(name).await?.ok_or_else(damaged)?;
    let pem = kek.open(&context(name), &row.sealed)?;
    let key = std::str::from_utf8(&pem).ok().and_then(|pem| from_pem(pem).ok());
    let key = key.filter(|key| public(key) == row.public).ok_or_else(damaged)?;
    Ok((key, row.certificate.unwrap_or_default()))
}

/// What an owner root delegated: the role `authority`, to a key, for a board.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delegation {
    /// The root key: x followed by y.
    #[serde(with = "hex")]
    pub root: [u8; 64],
    /// The root's certificate (COSE_Sign1) in hexadecimal.
    pub certificate: String,
}

impl Delegation {
    /// Has an owner root delegate the role `authority` to a key, for one board.
    ///
    /// # Errors
    /// The signer's, and a root that is not P-256.
    pub fn sign(root: &dyn Signer, key: &[u8; 64], board: &str) -> Result<Self, Error> {
        let mut boards = [""; MAX_BOARDS];
        boards[0] = board;
        let grant = Grant {
            role: Role::Authority,
            key: PublicKey::P256(*key),
            kinds: KindSet::default(),
            boards,
            min_version: Version::MIN,
            max_version: Version::MAX,
        };
        let certificate = certify(root, &encode_grant(&grant))?;
        match root.public_key() {
            PublicKey::P256(root) => Ok(Self { root, certificate: hex::encode(&certificate) }),
            PublicKey::Rsa(_) => Err(Error::Delegation("an owner root signs with ES256".into())),
        }
    }

    /// Returns the thumbprint of the root: what fuses hold.
    pub fn root_digest(&self) -> Digest {
        PublicKey::P256(self.root).thumbprint()
    }

    pub(crate) fn row(&self) -> Result<DelegationRow, Error> {
        let certificate = hex::decode(&self.certificate)
            .ok_or_else(|| Error::Delegation("the certificate is not hexadecimal".into()))?;
        Ok(DelegationRow { root_digest: self.root_digest(), root_key: self.root, certificate })
    }
}

/// A signing key that several signers share.
struct Shared(Arc<Es256Key>);

impl Signer for Shared {
    fn public_key(&self) -> PublicKey<'_> {
        self.0.public_key()
    }

    fn sign(&self, digest: &Digest) -> Result<Vec<u8>, SignerError> {
        Signer::sign(&*self.0, digest)
    }
}

/// Makes the signer of answers under an owner root.
pub(crate) fn answers(
    signing: &Arc<Es256Key>,
    delegation: &DelegationRow,
) -> factory_proto::authority::Authority {
    let root = PublicKey::P256(delegation.root_key);
    let signer = Box::new(Shared(signing.clone()));
    factory_proto::authority::Authority::new(&root, delegation.certificate.clone(), signer)
}

/// Checks a delegation as a device of `board` will: by verifying an answer that it signs.
pub(crate) fn check(signing: &Arc<Es256Key>, delegation: &DelegationRow, board: &str) -> Result<(), Error> {
    let refused = |error: String| Error::Delegation(error);
    let answer = answers(signing, delegation)
        .receipt(&[0; 32], &[0; 32])
        .map_err(|error| refused(error.to_string()))?;
    let policy = MessagePolicy {
        content_type: factory_proto::content_type(factory_proto::Message::Receipt),
        role: Role::Authority,
        board,
        version: None,
        roots: &[Root { digest: delegation.root_digest, revoked: false }],
        refuse_test_keys: true,
    };
    verify_message::<Es256>(&answer, &policy).map_err(|error| refused(error.to_string()))?;
    Ok(())
}
