//! The story of a device, as the authority sees it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use authority::AuditInfo;
use authority::storage::sqlite::Sqlite;
use authority::storage::{Filter, State, Storage as _};
use boot_crypto::host::random;
use factory_proto::Message;

use crate::common::{LOT, Rig, hex};

#[tokio::test(flavor = "multi_thread")]
async fn a_die_gets_one_ticket_one_receipt_and_its_certificate_once_it_is_closed() {
    let rig = Rig::new(2).await;
    let die = rig.factory.die().unwrap();
    let nonce = random();

    let request = die.request(nonce).unwrap();
    let (message, ticket) = rig.authority.handle(&rig.station, LOT, Message::Request, &request).await;
    assert_eq!(message, Message::Ticket);
    let opened = die.open(nonce, &ticket).unwrap();
    assert_eq!(opened.content_key.expose(), &rig.factory.content_key);
    assert_ne!(opened.entropy.expose(), &[0; 32]);
    assert_eq!(opened.serial, format!("{LOT}-{}", hex(&opened.install[..8])));
    assert_eq!(rig.counts().await, (1, 0));

    let csr = die.csr(nonce, &ticket).unwrap();
    let (message, receipt) = rig.authority.handle(&rig.station, LOT, Message::Csr, &csr).await;
    assert_eq!(message, Message::Receipt);
    let install = rig.authority.ledger().install(&opened.install).await.unwrap();
    assert_eq!((install.state, install.certificate), (State::Csr, None), "nothing is released yet");

    let proof = rig.proof(&die, &opened.install);
    let (message, release) = rig.authority.handle(&rig.station, LOT, Message::ClosingProof, &proof).await;
    assert_eq!(message, Message::Release);
    let chain = die.take(&opened.install, &release).unwrap();
    assert_eq!(chain.len(), 2);
    assert_eq!(chain[1], rig.authority.device_ca());
    assert_eq!(rig.counts().await, (1, 1));

    let install = rig.authority.ledger().install(&opened.install).await.unwrap();
    assert_eq!((install.state, install.tickets), (State::Closed, 1));
    assert_eq!(install.chip_id, hex(&die.chip_id));
    assert_eq!(install.certificate, Some(release::certificate_pem(&chain[0])));
    let audit = rig.authority.ledger().audit(&Filter::default()).await.unwrap();
    let events: Vec<_> = audit.iter().rev().map(|row| row.event.as_str()).collect();
    let expected = ["init", "delegated", "station-issued", "lot-created", "reserved", "csr", "closed"];
    assert_eq!(events, expected);

    // Asked again, also by an authority that was started again, it answers the same.
    let rig = rig.restart().await;
    let again = rig.authority.receipt(&rig.station, &csr).await.unwrap();
    assert_eq!(again, receipt);
    let again = rig.authority.release(&rig.station, &proof).await.unwrap();
    assert_eq!(again, release);
    assert_eq!(rig.counts().await, (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_request_gets_the_same_ticket_and_takes_no_second_install() {
    let rig = Rig::new(5).await;
    let die = rig.factory.die().unwrap();
    let request = die.request(random()).unwrap();
    let ticket = rig.ticket(&request).await.unwrap();
    assert_eq!(rig.ticket(&request).await.unwrap(), ticket);
    let rig = rig.restart().await;
    assert_eq!(rig.ticket(&request).await.unwrap(), ticket);
    assert_eq!(rig.counts().await, (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_session_of_a_die_gets_another_ticket_for_the_same_install() {
    let rig = Rig::new(5).await;
    let die = rig.factory.die().unwrap();
    let [first, second] = [random(), random()];
    let old = rig.ticket(&die.request(first).unwrap()).await.unwrap();
    let new = rig.ticket(&die.request(second).unwrap()).await.unwrap();
    let (old, new) = (die.open(first, &old).unwrap(), die.open(second, &new).unwrap());
    assert_eq!((old.install, old.serial), (new.install, new.serial));
    assert_ne!(old.entropy.expose(), new.entropy.expose());
    assert_eq!(rig.counts().await, (1, 0));
    let install = rig.authority.ledger().install(&new.install).await.unwrap();
    assert_eq!(install.tickets, 2);
    let tickets = rig.authority.ledger().audit(&Filter::default()).await.unwrap();
    assert_eq!(tickets.iter().filter(|row| row.event == "ticket").count(), 1, "the second is audited");
}

/// What is kept tells years later which station had what done, for which die, and when.
#[tokio::test(flavor = "multi_thread")]
async fn each_step_of_a_device_is_in_the_audit_with_die_install_station_and_time() {
    let rig = Rig::new(5).await;
    let die = rig.factory.die().unwrap();
    let before = milliseconds();
    rig.ticket(&die.request(random()).unwrap()).await.unwrap();
    let install = rig.closed(&die).await;
    let then = before..=milliseconds();

    let filter = Filter { lot: Some(LOT.into()), ..Filter::default() };
    let mut rows = rig.authority.ledger().audit(&filter).await.unwrap();
    rows.reverse();
    let events: Vec<_> = rows.iter().map(|row| row.event.as_str()).collect();
    assert_eq!(events, ["lot-created", "reserved", "ticket", "csr", "closed"]);
    let details: Vec<_> = rows[2..].iter().map(|row| row.detail.as_str()).collect();
    assert_eq!((details[0], details[2]), ("ticket 2 for this die", "certificate released"));
    assert!(details[1].starts_with("certificate request "), "{}", details[1]);
    for row in &rows[1..] {
        let expected = AuditInfo {
            code: None,
            name: None,
            lot: Some(LOT.into()),
            chip_id: Some(hex(&die.chip_id)),
            install: Some(hex(&install)),
            station: Some(hex(&rig.station.fingerprint)),
            ..row.clone()
        };
        assert_eq!(row, &expected);
        assert!(then.contains(&row.at), "{} at {}", row.event, row.at);
    }
    let shown = rig.authority.ledger().install(&install).await.unwrap();
    let closed = shown.closed_at.unwrap();
    assert!(then.contains(&shown.reserved_at) && (shown.reserved_at..=*then.end()).contains(&closed));
}

/// The time in milliseconds since 1970.
fn milliseconds() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis().try_into().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn openssl_verifies_certificate_and_request_and_refuses_those_of_others() {
    let rig = Rig::new(5).await;
    let die = rig.factory.die().unwrap();
    let install = rig.closed(&die).await;
    let file = |name: &str, content: &[u8]| {
        let path = rig.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let shown = rig.authority.ledger().install(&install).await.unwrap();
    let certificate = file("device.pem", shown.certificate.unwrap().as_bytes());
    let ca = file("ca.pem", rig.authority.device_ca_pem().as_bytes());
    let stations = file("stations.pem", rig.authority.tls_ca_pem().as_bytes());

    let verify =
        |ca: &Path| openssl(&["verify", "-x509_strict", "-no-CApath", "-CAfile"], &[ca, &certificate]);
    let (good, text) = verify(&ca);
    assert!(good, "{text}");
    assert!(!verify(&stations).0, "the CA of stations vouches for no device");

    let (_, text) =
        openssl(&["x509", "-noout", "-subject", "-ext", "basicConstraints,keyUsage", "-in"], &[&certificate]);
    for part in [
        format!("CN = kiln-{}", hex(&die.chip_id)),
        format!("serialNumber = {}", shown.serial),
        "CA:FALSE".into(),
        "Digital Signature".into(),
    ] {
        assert!(text.contains(&part), "no {part} in {text}");
    }

    let database = Sqlite::open(&rig.folder.path().join("authority/authority.db")).await.unwrap();
    let row = database.read().await.unwrap().install(&install).await.unwrap().unwrap();
    let mut csr = row.csr.unwrap();
    let verify = |path: PathBuf| openssl(&["req", "-verify", "-noout", "-inform", "DER", "-in"], &[&path]);
    // The exit status tells in some releases only: what is printed tells in all.
    let (_, text) = verify(file("good.csr", &csr));
    assert!(text.contains("verify OK"), "{text}");
    // Inside the subject, which the signature covers.
    let name = csr.windows(4).position(|bytes| bytes == b"kiln").unwrap();
    csr[name] ^= 1;
    let (_, text) = verify(file("bad.csr", &csr));
    assert!(text.contains("verify failure"), "{text}");
}

fn openssl(args: &[&str], files: &[&Path]) -> (bool, String) {
    let output = Command::new("openssl").args(args).args(files).output().expect("openssl is installed");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}
