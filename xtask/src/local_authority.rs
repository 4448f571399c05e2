//! An authority on this machine: the real service, on loopback, with TLS and certificates on both sides.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use authority::storage::StorageError;
use authority::{AnchorFile, Config, Delegation, LocalKey, LotInfo, NewLot};
use release::{AuthorityKey, ContentKey, PackageFacts, SealedContentKey};
use sealed_image::host::Signer;
use station::Credentials;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Names under which the service is reached.
const NAMES: [&str; 2] = ["localhost", "127.0.0.1"];

/// A running authority. It stops, and its database is closed, when this is dropped.
pub struct LocalAuthority {
    runtime: Runtime,
    authority: Arc<authority::Authority>,
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    serving: Option<JoinHandle<Result<(), authority::Error>>>,
}

impl LocalAuthority {
    /// Starts the authority whose data lie in `folder`; makes one there if there is none, with its anchor if one is named.
    ///
    /// # Errors
    /// If it cannot be made or opened, or nobody can listen on loopback.
    pub fn start(folder: &Path, anchor: Option<&Path>) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let authority = Arc::new(runtime.block_on(open(folder, anchor))?);
        let (listener, address) = runtime.block_on(async {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            let address = listener.local_addr()?;
            anyhow::Ok((listener, address))
        })?;
        let (stop, stopped) = oneshot::channel::<()>();
        let until = async {
            // A sender that is gone stops it too.
            let _ = stopped.await;
        };
        let tls = authority.tls(None)?;
        let serving = runtime.spawn(authority.clone().serve(listener, tls, until));
        Ok(Self { runtime, authority, address, stop: Some(stop), serving: Some(serving) })
    }

    /// Returns its address for stations.
    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    /// Makes a key and a certificate for a station.
    ///
    /// # Errors
    /// A name that a certificate cannot hold, those of the database.
    pub fn issue_station(&self, name: &str) -> Result<Credentials> {
        let station = self.runtime.block_on(self.authority.issue_station(name))?;
        Ok(Credentials {
            authority_ca: self.authority.tls_ca_pem().into_bytes(),
            certificate: station.certificate.into_bytes(),
            key: station.key.as_bytes().to_vec(),
        })
    }

    /// Has an owner root delegate to it, for one board.
    ///
    /// # Errors
    /// The signer's, those of the database.
    pub fn delegate(&self, root: &dyn Signer, board: &str) -> Result<()> {
        let delegation = Delegation::sign(root, &self.authority.signing_key(), board)?;
        Ok(self.runtime.block_on(self.authority.delegate(&delegation, board))?)
    }

    /// Opens the content key of a package that was sealed to it.
    ///
    /// # Errors
    /// As [`authority::Authority::open_content_key`].
    pub fn open_content_key(&self, sealed: &SealedContentKey, facts: &PackageFacts) -> Result<ContentKey> {
        Ok(self.authority.open_content_key(sealed, facts)?)
    }

    /// Makes a lot.
    ///
    /// # Errors
    /// As [`authority::Authority::create_lot`].
    pub fn create_lot(&self, lot: NewLot) -> Result<()> {
        Ok(self.runtime.block_on(self.authority.create_lot(lot))?)
    }

    /// Shows a lot; `None` if there is none of this name.
    ///
    /// # Errors
    /// Those of the database.
    pub fn lot(&self, name: &str) -> Result<Option<LotInfo>> {
        match self.runtime.block_on(self.authority.ledger().lot(name)) {
            Err(authority::Error::NoSuchLot(_)) => Ok(None),
            lot => Ok(Some(lot?)),
        }
    }

    /// Changes a lot's quota.
    ///
    /// # Errors
    /// As [`authority::Ledger::set_quota`].
    pub fn set_quota(&self, name: &str, quota: u32) -> Result<()> {
        Ok(self.runtime.block_on(self.authority.ledger().set_quota(name, quota))?)
    }

    /// Revokes a lot, for ever.
    ///
    /// # Errors
    /// As [`authority::Ledger::revoke`].
    pub fn revoke(&self, name: &str) -> Result<()> {
        Ok(self.runtime.block_on(self.authority.ledger().revoke(name))?)
    }

    /// Returns the certificate that devices' certificates are verified with, in PEM.
    pub fn device_ca_pem(&self) -> String {
        self.authority.device_ca_pem()
    }
}

/// Returns the public key that content keys are sealed to, of the authority that [`LocalAuthority::start`] starts.
///
/// # Errors
/// If it cannot be made or opened.
pub fn sealing_key(folder: &Path, anchor: Option<&Path>) -> Result<AuthorityKey> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let authority = open(folder, anchor).await?;
        authority.close().await;
        Ok(authority.sealing_key())
    })
}

async fn open(folder: &Path, anchor: Option<&Path>) -> Result<authority::Authority> {
    let kek = folder.join("kek");
    if !kek.exists() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        LocalKey::create(&kek)?;
    }
    let anchor = anchor.map(|path| AnchorFile { path: path.into(), new: false });
    let config =
        Config { data: folder.into(), kek: Arc::new(LocalKey::from_file(&kek)?), anchor: anchor.clone() };
    let opened = match authority::Authority::open(config.clone()).await {
        Err(authority::Error::NotInitialised(_)) => {
            authority::Authority::init(config, &NAMES.map(str::to_owned), None).await
        }
        opened => opened,
    };
    let cure = match (opened.as_ref().err(), &anchor) {
        // The commands of `kiln` have options for an anchor; here there are none.
        (Some(authority::Error::Storage(StorageError::Anchor(_))), Some(AnchorFile { path, .. })) => format!(
            "Bring back the folder and {} as they were last, or remove both: then a new authority is made",
            path.display()
        ),
        (Some(error), _) => error.cure().to_owned(),
        (None, _) => String::new(),
    };
    opened.with_context(|| format!("the authority in {} cannot be used. {cure}", folder.display()))
}

impl Drop for LocalAuthority {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(serving) = self.serving.take() {
            // Whatever a connection did is its own affair.
            let _ = self.runtime.block_on(serving);
        }
        self.runtime.block_on(self.authority.close());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_anchor_that_is_gone_is_refused_with_a_cure_that_helps() {
        let folder = tempfile::tempdir().unwrap();
        let (data, anchor) = (folder.path().join("authority"), folder.path().join("anchor"));
        let start = || LocalAuthority::start(&data, Some(&anchor));
        drop(start().unwrap());
        drop(start().unwrap());
        fs::remove_file(&anchor).unwrap();
        let told = format!("{:#}", start().map(|_| ()).unwrap_err());
        assert!(told.contains("is gone") && told.contains("remove both"), "{told}");
        assert!(!told.contains("--anchor"), "flash has no such option: {told}");
        fs::remove_dir_all(&data).unwrap();
        drop(start().unwrap());
        assert!(anchor.exists());
    }
}
