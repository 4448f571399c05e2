use std::io::{BufReader, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use factory_proto::{Message, Refusal};
use fail_code::FailCode;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use station::{Authorise, Authority, Credentials, Error, Failure};

/// The first line and the body of each request.
type Asked = Vec<(String, Vec<u8>)>;
type Ca = CertifiedIssuer<'static, KeyPair>;

fn ca() -> Ca {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn issue(ca: &Ca, name: &str, purpose: ExtendedKeyUsagePurpose) -> (rcgen::Certificate, KeyPair) {
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    params.extended_key_usages = vec![purpose];
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, ca).unwrap(), key)
}

fn credentials(server_ca: &Ca, client_ca: &Ca) -> Credentials {
    let (certificate, key) = issue(client_ca, "station-1", ExtendedKeyUsagePurpose::ClientAuth);
    Credentials {
        authority_ca: server_ca.pem().into_bytes(),
        certificate: certificate.pem().into_bytes(),
        key: key.serialize_pem().into_bytes(),
    }
}

/// A server that answers each connection with the next of `answers`; returns its address and, at the end, the first
/// line and the body of each request.
fn server(ca: &Ca, client_ca: &Ca, answers: Vec<(u16, Vec<u8>)>) -> (String, std::thread::JoinHandle<Asked>) {
    let (certificate, key) = issue(ca, "localhost", ExtendedKeyUsagePurpose::ServerAuth);
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(client_ca.der().to_vec())).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let clients =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(rustls::ALL_VERSIONS)
        .unwrap()
        .with_client_cert_verifier(clients)
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let serving = std::thread::spawn(move || {
        let mut asked = Vec::new();
        for (status, answer) in answers {
            let (socket, _) = listener.accept().unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let connection = ServerConnection::new(config.clone()).unwrap();
            let mut stream = BufReader::new(StreamOwned::new(connection, socket));
            let Some(request) = read_request(&mut stream) else {
                // The client reads the alert before it learns that the connection is gone.
                let socket = &mut stream.get_mut().sock;
                socket.shutdown(std::net::Shutdown::Write).unwrap();
                std::io::copy(socket, &mut std::io::sink()).unwrap();
                continue;
            };
            asked.push(request);
            let head = format!(
                "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                answer.len()
            );
            let stream = stream.get_mut();
            stream.write_all(&[head.as_bytes(), &answer].concat()).unwrap();
            stream.conn.send_close_notify();
            stream.flush().unwrap();
        }
        asked
    });
    (url, serving)
}

/// `None` if the handshake fails.
fn read_request(stream: &mut impl std::io::BufRead) -> Option<(String, Vec<u8>)> {
    let (mut first, mut length) = (String::new(), 0);
    stream.read_line(&mut first).ok().filter(|count| *count > 0)?;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        let line = line.trim().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    Some((first.trim().to_owned(), body))
}

#[test]
fn each_question_has_its_place_and_answers_come_back_as_they_are() {
    let (server_ca, client_ca) = (ca(), ca());
    let (url, serving) = server(&server_ca, &client_ca, (0..3).map(|n| (200, vec![n; 3])).collect());
    let authority = Authority::new(&url, "lot-7", &credentials(&server_ca, &client_ca)).unwrap();
    for (n, question) in [Message::Request, Message::Csr, Message::ClosingProof].into_iter().enumerate() {
        assert_eq!(authority.ask(question, b"body").unwrap(), [n as u8; 3]);
    }
    let asked = serving.join().unwrap();
    let lines: Vec<_> = asked.iter().map(|(line, _)| line.as_str()).collect();
    assert_eq!(
        lines,
        ["POST /v1/lots/lot-7/tickets HTTP/1.1", "POST /v1/csrs HTTP/1.1", "POST /v1/closings HTTP/1.1",]
    );
    assert!(asked.iter().all(|(_, body)| body == b"body"));
}

#[test]
fn refusals_are_for_good_and_an_ill_server_is_worth_another_question() {
    let (server_ca, client_ca) = (ca(), ca());
    let refusal = Refusal::new(FailCode::QuotaExhausted, "5 of 5").encode();
    let storage = Refusal::new(FailCode::StorageFailed, "").encode();
    let answers =
        vec![(409, refusal), (503, storage), (502, b"<html>".to_vec()), (404, b"not here".to_vec())];
    let (url, serving) = server(&server_ca, &client_ca, answers);
    let authority = Authority::new(&url, "lot", &credentials(&server_ca, &client_ca)).unwrap();
    let ask = || authority.ask(Message::Csr, b"q").unwrap_err();
    let Failure::Refused(refused) = ask() else { panic!("a refusal is for good") };
    assert_eq!((refused.code, refused.text.as_str()), (FailCode::QuotaExhausted.number(), "5 of 5"));
    for code in [FailCode::StorageFailed, FailCode::AuthorityUnreachable, FailCode::AuthorityUnreachable] {
        let Failure::NotNow(refused) = ask() else { panic!("{code} passes") };
        assert_eq!(refused.code, code.number());
    }
    serving.join().unwrap();
}

#[test]
fn an_answer_that_no_frame_holds_is_refused() {
    let (server_ca, client_ca) = (ca(), ca());
    let (url, serving) = server(&server_ca, &client_ca, vec![(200, vec![0; 9000])]);
    let authority = Authority::new(&url, "lot", &credentials(&server_ca, &client_ca)).unwrap();
    assert!(authority.ask(Message::Csr, b"q").is_err());
    serving.join().unwrap();
}

#[test]
fn an_authority_that_another_ca_certified_is_not_trusted() {
    let (server_ca, client_ca) = (ca(), ca());
    let (url, serving) = server(&ca(), &client_ca, vec![(200, Vec::new())]);
    let authority = Authority::new(&url, "lot", &credentials(&server_ca, &client_ca)).unwrap();
    let Failure::Refused(refused) = authority.ask(Message::Csr, b"q").unwrap_err() else { panic!() };
    assert_eq!(refused.code, FailCode::AuthorityUntrusted.number());
    assert!(serving.join().unwrap().is_empty(), "nothing was asked");
}

#[test]
fn a_station_that_the_authority_does_not_know_learns_so() {
    let (server_ca, client_ca) = (ca(), ca());
    let (url, serving) = server(&server_ca, &client_ca, vec![(200, Vec::new())]);
    let authority = Authority::new(&url, "lot", &credentials(&server_ca, &ca())).unwrap();
    let Failure::Refused(refused) = authority.ask(Message::Csr, b"q").unwrap_err() else { panic!() };
    assert_eq!(refused.code, FailCode::AuthorityUntrusted.number(), "{}", refused.text);
    assert!(serving.join().unwrap().is_empty(), "nothing was asked");
}

#[test]
fn an_authority_that_is_not_there_is_worth_another_question() {
    let (server_ca, client_ca) = (ca(), ca());
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("https://localhost:{port}");
    let authority = Authority::new(&url, "lot", &credentials(&server_ca, &client_ca)).unwrap();
    let Failure::NotNow(refused) = authority.ask(Message::Csr, b"q").unwrap_err() else { panic!() };
    assert_eq!(refused.code, FailCode::AuthorityUnreachable.number());
}

#[test]
fn what_cannot_be_used_is_named_before_anything_is_sent() {
    let ca = ca();
    let good = credentials(&ca, &ca);
    let make =
        |url: &str, lot: &str, credentials: &Credentials| Authority::new(url, lot, credentials).map(|_| ());
    assert!(make("https://a", "lot", &good).is_ok());
    assert!(matches!(make("http://a", "lot", &good), Err(Error::Url { .. })));
    for lot in ["", "a/b", "a?b", "..%2f"] {
        assert!(matches!(make("https://a", lot, &good), Err(Error::LotName { .. })), "{lot}");
    }
    let no_ca = Credentials { authority_ca: b"none".to_vec(), ..good.clone() };
    let no_key = Credentials { key: good.certificate.clone(), ..good };
    for (bad, what) in [(no_ca, "CA"), (no_key, "key")] {
        let error = make("https://a", "lot", &bad).unwrap_err();
        assert!(matches!(error, Error::Credential { .. }) && error.to_string().contains(what), "{error}");
    }
}
