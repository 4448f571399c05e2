//! TLS 1.3 with certificates on both sides.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use release::certificate_pem;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig, version};

use crate::{Authority, Error};

/// A certificate chain and its key, as PEM files, in place of those that `init` made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The chain, the service's own certificate first.
    pub certificate: PathBuf,
    /// The key.
    pub key: PathBuf,
}

impl Authority {
    /// Returns the settings of the service: TLS 1.3, and nobody without a certificate of the station CA.
    ///
    /// # Errors
    /// Files that hold no certificate and key.
    pub fn tls(&self, files: Option<&TlsFiles>) -> Result<Arc<ServerConfig>, Error> {
        let (chain, key) = match files {
            Some(files) => (chain(&files.certificate)?, key(&files.key)?),
            None => {
                let (key, certificate) = &self.keys.server;
                (vec![CertificateDer::from(certificate.clone())], parse_key(key.to_pem().as_bytes(), "own")?)
            }
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let stations = WebPkiClientVerifier::builder_with_provider(roots(self.tls_ca())?, provider.clone())
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13])?
            .with_client_cert_verifier(stations)
            .with_single_cert(chain, key)?;
        Ok(Arc::new(config))
    }
}

/// Returns the settings of a station: its certificate and key in PEM, and the certificate, in PEM, that the
/// service's is verified with.
///
/// # Errors
/// Text that holds no certificate and key.
pub fn station_tls(ca: &str, certificate: &str, key: &str) -> Result<Arc<ClientConfig>, Error> {
    let parse = |pem: &str, what: &str| {
        CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| invalid(what, &format!("{error:?}")))
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13])?
        .with_root_certificates(roots(&parse(ca, "the authority's certificate")?)?)
        .with_client_auth_cert(
            vec![parse(certificate, "the station's certificate")?],
            parse_key(key.as_bytes(), "the station's key")?,
        )?;
    Ok(Arc::new(config))
}

fn roots(certificate: &[u8]) -> Result<Arc<RootCertStore>, Error> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(certificate.to_vec()))?;
    Ok(Arc::new(roots))
}

fn invalid(what: &str, why: &str) -> Error {
    Error::Invalid { what: what.into(), why: why.into() }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|error| Error::File { path: path.into(), error })
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    CertificateDer::pem_slice_iter(&read(path)?)
        .collect::<Result<_, _>>()
        .map_err(|error| invalid(&path.display().to_string(), &format!("{error:?}")))
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    parse_key(&zeroize::Zeroizing::new(read(path)?), &path.display().to_string())
}

fn parse_key(pem: &[u8], what: &str) -> Result<PrivateKeyDer<'static>, Error> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| invalid(what, &format!("{error:?}")))
}

impl Authority {
    /// Returns the certificate that stations verify the service with, in PEM.
    pub fn tls_ca_pem(&self) -> String {
        certificate_pem(self.tls_ca())
    }

    /// Returns the certificate that devices' certificates are verified with, in PEM.
    pub fn device_ca_pem(&self) -> String {
        certificate_pem(self.device_ca())
    }
}
