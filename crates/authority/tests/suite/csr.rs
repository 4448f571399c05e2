//! Certificate requests that get no receipt.

use authority::model::Die;
use authority::storage::State;
use boot_crypto::host::random;
use boot_crypto::{EcKey, es256_low_s, sha256};
use factory_proto::{Csr, Message, content_type, identity};
use fail_code::FailCode;
use minicbor::Encoder;
use minicbor::data::Tag;
use sealed_image::cose::sign1_digest;

use crate::common::{Named, Rig};

/// A die that has its ticket.
struct Begun {
    rig: Rig,
    die: Die,
    request: Vec<u8>,
    install: [u8; 32],
    serial: String,
}

impl Begun {
    async fn new() -> Self {
        let rig = Rig::new(5).await;
        let die = rig.factory.die().unwrap();
        let nonce = random();
        let request = die.request(nonce).unwrap();
        let ticket = die.open(nonce, &rig.ticket(&request).await.unwrap()).unwrap();
        Self { rig, die, request, install: ticket.install, serial: ticket.serial }
    }

    /// Makes the PKCS#10 request that belongs to the die.
    fn der(&self) -> Vec<u8> {
        identity::request(&self.die.identity, &self.die.chip_id, &self.serial).unwrap()
    }

    /// Makes the message of the die's stage around a PKCS#10 request.
    fn message(&self, der: &[u8]) -> Vec<u8> {
        message(&self.die.stage_key, &self.install, &self.request, der)
    }

    async fn refuses(&self, csr: &[u8], code: FailCode) {
        let answer = self.rig.authority.receipt(&self.rig.station, csr).await;
        self.rig.refused(answer, code, Named::install(&self.die, &self.install)).await;
        let state = self.rig.authority.ledger().install(&self.install).await.unwrap().state;
        assert_eq!(state, State::Reserved, "something was stored");
    }

    /// Checks that the request which belongs to the die is taken: nothing else is wrong.
    async fn takes_its_own(&self) {
        let good = self.message(&self.der());
        self.rig.authority.receipt(&self.rig.station, &good).await.unwrap();
    }
}

/// Makes a message for the session that a request began, signed by anybody.
fn message(key: &EcKey, install: &[u8; 32], request: &[u8], der: &[u8]) -> Vec<u8> {
    let payload = Csr { install, request_digest: &sha256(request), der }.encode();
    let mut header = Encoder::new(Vec::new());
    header.map(2).unwrap().u8(1).unwrap().i8(-7).unwrap();
    header.u8(3).unwrap().str(content_type(Message::Csr)).unwrap();
    let header = header.into_writer();
    // Of the two signatures that are valid, the protocol takes the one with the lower s.
    let signature = es256_low_s(&key.sign(&sign1_digest(&header, &payload))).unwrap();
    let mut e = Encoder::new(Vec::new());
    e.tag(Tag::new(18)).unwrap().array(4).unwrap().bytes(&header).unwrap().map(0).unwrap();
    e.bytes(&payload).unwrap().bytes(&signature).unwrap();
    e.into_writer()
}

#[tokio::test]
async fn a_request_that_another_key_than_the_stages_signed_is_unbound() {
    let begun = Begun::new().await;
    let other = EcKey::from_scalar(&[7; 32]).unwrap();
    for key in [&other, &begun.die.identity, &begun.die.die_key] {
        let forged = message(key, &begun.install, &begun.request, &begun.der());
        begun.refuses(&forged, FailCode::CsrUnbound).await;
    }
    begun.takes_its_own().await;
}

#[tokio::test]
async fn a_request_in_the_name_of_another_device_is_unbound() {
    let begun = Begun::new().await;
    let of = |chip: &[u8; 16], serial: &str| identity::request(&begun.die.identity, chip, serial).unwrap();
    let other_chip = begun.message(&of(&[0xC2; 16], &begun.serial));
    begun.refuses(&other_chip, FailCode::CsrUnbound).await;
    let other_serial = begun.message(&of(&begun.die.chip_id, "lot-1-0000000000000000"));
    begun.refuses(&other_serial, FailCode::CsrUnbound).await;
    begun.takes_its_own().await;
}

#[tokio::test]
async fn a_request_for_a_key_that_nobody_proved_to_hold_is_unbound() {
    let begun = Begun::new().await;
    let mut der = begun.der();
    *der.last_mut().unwrap() ^= 1;
    begun.refuses(&begun.message(&der), FailCode::CsrUnbound).await;
    begun.takes_its_own().await;
}

#[tokio::test]
async fn a_request_of_one_die_for_the_install_of_another_is_unbound() {
    let begun = Begun::new().await;
    let thief = begun.rig.factory.die().unwrap();
    let nonce = random();
    let request = thief.request(nonce).unwrap();
    begun.rig.ticket(&request).await.unwrap();
    // With the session of its own, and with that of the other.
    for request in [&request, &begun.request] {
        let forged = message(&thief.stage_key, &begun.install, request, &begun.der());
        begun.refuses(&forged, FailCode::CsrUnbound).await;
    }
    begun.takes_its_own().await;
}

#[tokio::test]
async fn a_request_of_a_session_that_never_was_is_unbound() {
    let begun = Begun::new().await;
    let forged = message(&begun.die.stage_key, &begun.install, b"never asked", &begun.der());
    begun.refuses(&forged, FailCode::CsrUnbound).await;
    begun.takes_its_own().await;
}

#[tokio::test]
async fn a_request_of_a_session_before_the_newest_is_unbound() {
    let begun = Begun::new().await;
    begun.rig.ticket(&begun.die.request(random()).unwrap()).await.unwrap();
    begun.refuses(&begun.message(&begun.der()), FailCode::CsrUnbound).await;
}

#[tokio::test]
async fn a_request_for_an_install_that_never_was_is_refused() {
    let begun = Begun::new().await;
    let unknown = message(&begun.die.stage_key, &[0x99; 32], &begun.request, &begun.der());
    let answer = begun.rig.authority.receipt(&begun.rig.station, &unknown).await;
    begun.rig.refused(answer, FailCode::InstallUnknown, Named::default()).await;
}

#[tokio::test]
async fn what_is_no_certificate_request_is_malformed() {
    let begun = Begun::new().await;
    begun.refuses(&begun.message(b"no DER"), FailCode::RequestMalformed).await;
    let good = begun.message(&begun.der());
    for untrusted in [&[][..], b"junk", &good[1..], &good[..good.len() - 1], &[&good[..], b"\0"].concat()] {
        let answer = begun.rig.authority.receipt(&begun.rig.station, untrusted).await;
        begun.rig.refused(answer, FailCode::RequestMalformed, Named::default()).await;
    }
    begun.takes_its_own().await;
}

#[tokio::test]
async fn the_certificate_is_for_the_last_request_and_their_number_is_bounded() {
    let mut begun = Begun::new().await;
    let one_more = begun.message(&begun.der());
    for number in 1..=16 {
        let identity = EcKey::from_scalar(&[number; 32]).unwrap();
        let der = identity::request(&identity, &begun.die.chip_id, &begun.serial).unwrap();
        begun.rig.authority.receipt(&begun.rig.station, &begun.message(&der)).await.unwrap();
    }
    let answer = begun.rig.authority.receipt(&begun.rig.station, &one_more).await;
    let named = Named::install(&begun.die, &begun.install);
    begun.rig.refused(answer, FailCode::TicketsExhausted, named).await;

    begun.die.identity = EcKey::from_scalar(&[16; 32]).unwrap();
    let proof = begun.rig.proof(&begun.die, &begun.install);
    let release = begun.rig.authority.release(&begun.rig.station, &proof).await.unwrap();
    let chain = begun.die.take(&begun.install, &release).unwrap();
    let last = begun.die.identity.public();
    assert!(chain[0].windows(64).any(|bytes| bytes == last), "another key was certified");

    let answer = begun.rig.authority.receipt(&begun.rig.station, &one_more).await;
    let named = Named::install(&begun.die, &begun.install);
    begun.rig.refused(answer, FailCode::DieClosed, named).await;
}
