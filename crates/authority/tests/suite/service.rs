//! HTTPS: whom the service speaks to, and what it makes of what is sent.

use std::sync::Arc;
use std::time::Duration;

use authority::client::Client;
use authority::storage::Filter;
use authority::{Authority, station_tls};
use boot_crypto::host::random;
use factory_proto::Refusal;
use fail_code::FailCode;
use hyper::StatusCode;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::common::{LOT, Rig};
use crate::process::{Service, credentials};

/// A service, and what is needed to be a station of it.
struct Served {
    rig: Rig,
    service: Service,
    tls: Arc<ClientConfig>,
}

impl Served {
    async fn new() -> Self {
        let rig = Rig::new(5).await;
        let tls = credentials(&rig.authority).await;
        let service = Service::start(rig.folder.path());
        Self { rig, service, tls }
    }

    /// Tells whether the service answers a client with these settings.
    async fn answers(&self, tls: Arc<ClientConfig>) -> bool {
        // With TLS 1.3 a client learns that its certificate was refused when it reads.
        let request = self.rig.factory.die().unwrap().request(random()).unwrap();
        match Client::connect(self.service.address, tls).await {
            Ok(mut client) => client.post(&format!("/v1/lots/{LOT}/tickets"), request).await.is_ok(),
            Err(_) => false,
        }
    }
}

fn builder(ca: &Authority) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.tls_ca_pem().as_bytes()).unwrap()).unwrap();
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_a_certificate_gets_no_answer() {
    let served = Served::new().await;
    let nobody = Arc::new(builder(&served.rig.authority).with_no_client_auth());
    assert!(!served.answers(nobody).await);
    assert!(served.answers(served.tls.clone()).await, "nobody is answered");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_another_authority_gets_no_answer() {
    let served = Served::new().await;
    let other = Rig::without_lot().await;
    let station = other.authority.issue_station("station").await.unwrap();
    let ca = served.rig.authority.tls_ca_pem();
    let stranger = station_tls(&ca, &station.certificate, &station.key).unwrap();
    assert!(!served.answers(stranger).await);
    assert!(served.answers(served.tls.clone()).await, "nobody is answered");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_certificate_makes_no_station() {
    let served = Served::new().await;
    let key = boot_crypto::host::Es256Key::generate();
    let ca = authority::x509::CertificateAuthority::create(
        boot_crypto::host::Es256Key::generate(),
        "Kiln device CA".into(),
    )
    .unwrap();
    let purpose = authority::x509::Use::Device { serial: "lot-1".into() };
    let certificate = release::certificate_pem(&ca.certify("kiln-00", &key.public(), &purpose).unwrap());
    let device = station_tls(&served.rig.authority.tls_ca_pem(), &certificate, &key.to_pem()).unwrap();
    assert!(!served.answers(device).await);
    assert!(served.answers(served.tls.clone()).await, "nobody is answered");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_station_speaks_to_its_own_authority_only() {
    let served = Served::new().await;
    let other = Rig::without_lot().await;
    let station = served.rig.authority.issue_station("station").await.unwrap();
    let deceived = station_tls(&other.authority.tls_ca_pem(), &station.certificate, &station.key).unwrap();
    assert!(!served.answers(deceived).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_and_refusals_have_status_type_and_body() {
    let served = Served::new().await;
    let mut client = served.service.connect(&served.tls).await.unwrap();
    let die = served.rig.factory.die().unwrap();
    let nonce = random();
    let request = die.request(nonce).unwrap();
    let (status, ticket) = client.post("/v1/lots/lot-1/tickets", request.clone()).await.unwrap();
    assert_eq!(status, StatusCode::OK);
    die.open(nonce, &ticket).unwrap();

    let proof = served.rig.proof(&die, &[9; 32]);
    let cases = [
        ("/v1/lots/other/tickets", request, StatusCode::NOT_FOUND, FailCode::LotUnknown),
        ("/v1/lots/lot-1/tickets", b"junk".to_vec(), StatusCode::BAD_REQUEST, FailCode::RequestMalformed),
        ("/v1/csrs", b"junk".to_vec(), StatusCode::BAD_REQUEST, FailCode::RequestMalformed),
        ("/v1/csrs", vec![0; 8193], StatusCode::BAD_REQUEST, FailCode::RequestMalformed),
        ("/v1/closings", proof, StatusCode::NOT_FOUND, FailCode::InstallUnknown),
    ];
    for (path, body, expected, code) in cases {
        // A new connection each: a body that is too long ends its own.
        let mut client = served.service.connect(&served.tls).await.unwrap();
        let (status, answer) = client.post(path, body).await.unwrap();
        let refusal = Refusal::decode(&answer).unwrap();
        assert_eq!((status, refusal.code), (expected, code.number()), "{path}");
        let filter = Filter { code: Some(code), ..Filter::default() };
        assert!(
            !served.rig.authority.ledger().audit(&filter).await.unwrap().is_empty(),
            "{path}: no audit row"
        );
    }
    let malformed = || async {
        let filter = Filter { code: Some(FailCode::RequestMalformed), ..Filter::default() };
        let rows = served.rig.authority.ledger().audit(&filter).await.unwrap();
        rows.iter().map(|row| row.count).sum::<u32>()
    };
    let before = malformed().await;
    for (already, path) in
        (1..).zip(["/", "/v1/lots", "/v1/lots/lot-1/tickets/x", "/v1/lots/%ff/tickets", "/v2/csrs"])
    {
        let (status, answer) = client.post(path, Vec::new()).await.unwrap();
        let refusal = Refusal::decode(&answer).unwrap();
        assert_eq!(
            (status, refusal.code),
            (StatusCode::NOT_FOUND, FailCode::RequestMalformed.number()),
            "{path}"
        );
        assert_eq!(malformed().await, before + already, "{path}: not in the audit");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_station_that_hangs_up_in_the_middle_of_its_question_is_in_the_audit() {
    let served = Served::new().await;
    let address = served.service.address;
    let stream = TcpStream::connect(address).await.unwrap();
    let name = rustls::pki_types::ServerName::IpAddress(address.ip().into());
    let mut stream = TlsConnector::from(served.tls.clone()).connect(name, stream).await.unwrap();
    let half =
        format!("POST /v1/csrs HTTP/1.1\r\nhost: {address}\r\ncontent-length: 100\r\n\r\nhalf a question");
    stream.write_all(half.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    drop(stream);
    let filter = Filter { code: Some(FailCode::RequestMalformed), ..Filter::default() };
    let written = async {
        while served.rig.authority.ledger().audit(&filter).await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), written).await.expect("no audit row");
    assert!(served.answers(served.tls.clone()).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_and_junk_get_nothing_and_harm_nobody() {
    let served = Served::new().await;
    for bytes in [&b"POST /v1/csrs HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"[..], &[0xFF; 4096]] {
        let mut stream = TcpStream::connect(served.service.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert!(!answer.starts_with(b"HTTP"), "it spoke HTTP without TLS");
    }
    assert!(served.answers(served.tls.clone()).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_the_service_ends_well_also_with_idle_connections() {
    let mut served = Served::new().await;
    let mut client = served.service.connect(&served.tls).await.unwrap();
    client.post("/v1/csrs", Vec::new()).await.unwrap();
    let stopped = tokio::task::spawn_blocking(move || served.service.stop());
    let status = tokio::time::timeout(Duration::from_secs(5), stopped).await.expect("it waits for the idle");
    assert!(status.unwrap().success());
}
