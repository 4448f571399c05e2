//! The way to the authority: HTTPS, with a certificate of the station's own.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use factory_proto::{Message, Refusal};
use fail_code::FailCode;
use ureq::Agent;
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

use crate::{Error, Refused};

/// How long one question may take.
const ANSWER: Duration = Duration::from_secs(20);
/// Longest answer: what a frame to the device holds.
const MAX_ANSWER: u64 = 8 << 10;

/// Why a question got no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The authority, or whoever stands in for it, refused for good.
    Refused(Refused),
    /// It was not reached, or could not answer now: it is worth to ask again.
    NotNow(Refused),
}

/// Whoever answers a device's questions: the authority, or in tests somebody who lies.
pub trait Authorise: Sync {
    /// Returns the answer to a question, as it goes to the device.
    ///
    /// # Errors
    /// A [`Failure`] if there is none.
    fn ask(&self, question: Message, body: &[u8]) -> Result<Vec<u8>, Failure>;
}

/// What a station needs to speak to an authority; each part is PEM.
#[derive(Clone)]
pub struct Credentials {
    /// The certificates that the authority's own has to lead to.
    pub authority_ca: Vec<u8>,
    /// The station's certificate, and its issuers if there are any.
    pub certificate: Vec<u8>,
    /// The station's private key.
    pub key: Vec<u8>,
}

/// An authority, and the lot that this station works for.
pub struct Authority {
    agent: Agent,
    url: String,
    lot: String,
}

impl Authority {
    /// Prepares the way; nothing is sent yet. `url` begins with `https://`.
    ///
    /// # Errors
    /// [`Error::Url`], [`Error::LotName`] or [`Error::Credential`] for what cannot be used.
    pub fn new(url: &str, lot: &str, credentials: &Credentials) -> Result<Self, Error> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if !url.starts_with("https://") {
            return Err(Error::Url { url: url.into() });
        }
        if lot.is_empty() || !lot.chars().all(plain) {
            return Err(Error::LotName { lot: lot.into() });
        }
        let roots = certificates("the authority's CA", &credentials.authority_ca)?;
        let chain = certificates("the station's certificate", &credentials.certificate)?;
        let key = PrivateKey::from_pem(&credentials.key)
            .map_err(|error| Error::Credential { what: "the station's key", reason: error.to_string() })?;
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::new_with_certs(&roots))
            .client_cert(Some(ClientCert::new_with_certs(&chain, key)))
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .https_only(true)
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_global(Some(ANSWER))
            .user_agent(concat!("kiln-station/", env!("CARGO_PKG_VERSION")))
            .proxy(None)
            .build();
        Ok(Self { agent: config.new_agent(), url: url.trim_end_matches('/').into(), lot: lot.into() })
    }

    fn post(&self, path: &str, body: &[u8]) -> Result<Vec<u8>, Failure> {
        let request = self.agent.post(format!("{}{path}", self.url)).content_type("application/cbor");
        let mut response = request.send(body).map_err(failure)?;
        let answer = response.body_mut().with_config().limit(MAX_ANSWER).read_to_vec().map_err(failure)?;
        match response.status().as_u16() {
            200 => Ok(answer),
            status => Err(refusal(status, &answer)),
        }
    }
}

impl Authorise for Authority {
    fn ask(&self, question: Message, body: &[u8]) -> Result<Vec<u8>, Failure> {
        match question {
            Message::Request => self.post(&format!("/v1/lots/{}/tickets", self.lot), body),
            Message::Csr => self.post("/v1/csrs", body),
            Message::ClosingProof => self.post("/v1/closings", body),
            other => {
                let text = format!("{} is no question", other.name());
                Err(Failure::Refused(Refused::new(FailCode::RequestMalformed, text)))
            }
        }
    }
}

fn certificates(what: &'static str, pem: &[u8]) -> Result<Vec<Certificate<'static>>, Error> {
    let unusable = |reason: String| Error::Credential { what, reason };
    let mut found = Vec::new();
    for item in parse_pem(pem) {
        if let PemItem::Certificate(certificate) = item.map_err(|error| unusable(error.to_string()))? {
            found.push(certificate);
        }
    }
    if found.is_empty() { Err(unusable("it holds no certificate".into())) } else { Ok(found) }
}

/// Reads the refusal in an answer that is no success. Only the code of a refusal for good counts as such: a server
/// that is overloaded or ill is asked again.
fn refusal(status: u16, body: &[u8]) -> Failure {
    let unreadable = || {
        let text = format!("HTTP status {status} without a refusal");
        Failure::NotNow(Refused::new(FailCode::AuthorityUnreachable, text))
    };
    let Ok(refusal) = Refusal::decode(body) else { return unreadable() };
    let refused = Refused { code: refusal.code, text: refusal.text.into() };
    if status >= 500 { Failure::NotNow(refused) } else { Failure::Refused(refused) }
}

fn failure(error: ureq::Error) -> Failure {
    let untrusted = match &error {
        ureq::Error::Rustls(_) | ureq::Error::Tls(_) | ureq::Error::Pem(_) => true,
        // rustls reports what it finds in a handshake as an error of the connection.
        ureq::Error::Io(error) => {
            error.kind() == ErrorKind::InvalidData
                || error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>())
        }
        _ => false,
    };
    if untrusted {
        return Failure::Refused(Refused::new(FailCode::AuthorityUntrusted, error.to_string()));
    }
    Failure::NotNow(Refused::new(FailCode::AuthorityUnreachable, error.to_string()))
}
