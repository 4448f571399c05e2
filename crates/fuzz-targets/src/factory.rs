//! Messages between device and authority.

use crate::Verdict::{self, Refused, Taken};
use crate::sample::{
    self, CHIP_ID, INSTALL, SERIAL, Talk, identity_key, question, roots, trust, with_session,
};
use boot_crypto::sha256;
use factory_proto::authority::{CsrExpected, UntrustedCsr, UntrustedRequest, verify_closing};
use factory_proto::device::verify_release;
use factory_proto::{
    ClosingProof, Csr, Hello, Message, Outcome, Phase, Progress, Receipt, Refusal, Release, Request, Ticket,
};
use fail_code::FailCode;
use sealed_image::Es256AndPs256;
use sealed_image::cbor::parse_exact;
use sealed_image::cose::UntrustedSign1;
use std::sync::LazyLock;

static TALK: LazyLock<Talk> = LazyLock::new(Talk::sample);

/// A request: only what the die's stage signed is taken. What is there is also taken for a payload, which the stage
/// signs: then it has one encoding.
pub(crate) fn request(data: &[u8]) -> Verdict {
    let die_key = sample::die_key().public();
    if let Ok(request) = UntrustedRequest::parse(data)
        && request.verify(&die_key).is_ok()
    {
        assert_eq!(data, TALK.request, "nobody signed this");
        return Taken;
    }
    let payload = parse_exact::<UntrustedSign1<'_>>(data).map_or(data, |sign1| sign1.payload);
    let decoded = Request::decode(payload);
    if let Ok(request) = &decoded {
        assert_eq!(request.encode(), payload, "a request has one encoding");
    }
    let message = question(Message::Request, payload);
    match UntrustedRequest::parse(&message) {
        Ok(untrusted) => {
            let request = decoded.expect("what is parsed is decoded");
            assert_eq!(untrusted.die_chain(), request.die_chain);
            let Ok(verified) = untrusted.verify(&die_key) else { return Refused };
            // What the statement vouches for cannot be another's.
            assert_eq!((verified.nonce, verified.package_id), (*request.nonce, *request.package_id));
            assert_eq!(verified.fuse_facts, sample::fuse_policy().secured());
            assert_eq!(verified.digest, sha256(&message));
            Taken
        }
        Err(error) => {
            assert_eq!(decoded.err(), Some(error));
            Refused
        }
    }
}

pub(crate) fn request_seeds() -> Vec<Vec<u8>> {
    let sign1 = parse_exact::<UntrustedSign1<'_>>(&TALK.request).expect("it is sound");
    vec![TALK.request.clone(), sign1.payload.to_vec()]
}

/// A request for a certificate: as a whole message, and as a PKCS#10 request that the stage signs for.
pub(crate) fn csr(data: &[u8]) -> Verdict {
    with_session(|session| {
        let stage_key = sample::stage_key().public();
        let expected = CsrExpected {
            stage_key: &stage_key,
            install: &INSTALL,
            request_digest: session.request_digest(),
            chip_id: &CHIP_ID,
            serial: SERIAL,
        };
        let verified = |message: &[u8]| {
            let csr = UntrustedCsr::parse(message).ok()?.verify(&expected).ok()?;
            assert_eq!(csr.digest, sha256(csr.der));
            Some((csr.der.to_vec(), csr.identity))
        };
        let sound = Some((TALK.der.clone(), identity_key().public()));
        let whole = verified(data);
        assert!(whole.is_none() || (whole == sound && data == TALK.csr), "nobody signed this");
        let signed = verified(&question(Message::Csr, &sample::csr_payload(data)));
        assert!(signed.is_none() || signed == sound, "the identity key did not sign this");
        if let Ok(csr) = Csr::decode(data) {
            assert_eq!(csr.encode(), data, "a request for a certificate has one encoding");
        }
        Verdict::of(whole.is_some() || signed.is_some())
    })
}

pub(crate) fn csr_seeds() -> Vec<Vec<u8>> {
    vec![TALK.csr.clone(), TALK.der.clone()]
}

/// The authority's answers. The first byte says which one the rest is taken for: as a message, and as a payload that
/// the authority signs.
pub(crate) fn answers(data: &[u8]) -> Verdict {
    let Some((first, untrusted)) = data.split_first() else { return Refused };
    let roots = roots();
    let trust = trust(&roots);
    with_session(|session| {
        let verified = |message: Message, untrusted: &[u8]| match message {
            Message::Ticket => {
                let opened = session.verify_ticket::<Es256AndPs256>(untrusted, &trust);
                opened.is_ok_and(|ticket| {
                    assert_eq!(*ticket.content_key.expose(), sample::CONTENT_KEY);
                    true
                })
            }
            Message::Receipt => {
                let ticket =
                    session.verify_ticket::<Es256AndPs256>(&TALK.ticket, &trust).expect("it is sound");
                session.verify_receipt::<Es256AndPs256>(untrusted, &trust, &ticket, &TALK.der).is_ok()
            }
            _ => verify_release::<Es256AndPs256>(untrusted, &trust, &INSTALL, &CHIP_ID).is_ok(),
        };
        let (message, sound) = match first % 3 {
            0 => (Message::Ticket, &TALK.ticket),
            1 => (Message::Receipt, &TALK.receipt),
            _ => (Message::Release, &TALK.release),
        };
        let whole = verified(message, untrusted);
        assert!(!whole || untrusted == sound, "nobody signed this");
        let again = match message {
            Message::Ticket => Ticket::decode(untrusted).map(|it| it.encode()),
            Message::Receipt => Receipt::decode(untrusted).map(|it| it.encode()),
            _ => Release::decode(untrusted).map(|it| it.encode()),
        };
        let Ok(again) = again else { return Verdict::of(whole) };
        assert_eq!(again, untrusted, "a payload has one encoding");
        Verdict::of(verified(message, &sample::answer(message, untrusted)))
    })
}

pub(crate) fn answer_seeds() -> Vec<Vec<u8>> {
    let with = |first: u8, bytes: &[u8]| [&[first], bytes].concat();
    // Of a signed message the payload is the last byte string before the signatures.
    let payload = |message: &[u8]| {
        let mut d = minicbor::Decoder::new(message);
        d.array().and_then(|_| d.bytes()).expect("a delegation");
        let mut d = minicbor::Decoder::new(d.bytes().expect("what is signed"));
        d.tag().and_then(|_| d.array()).and_then(|_| d.bytes()).and_then(|_| d.map()).expect("headers");
        d.bytes().expect("a payload").to_vec()
    };
    let all = [&TALK.ticket, &TALK.receipt, &TALK.release];
    (0..).zip(all).flat_map(|(first, it)| [with(first, it), with(first, &payload(it))]).collect()
}

/// The proof that a die is closed.
pub(crate) fn closing_proof(data: &[u8]) -> Verdict {
    let Ok(proof) = ClosingProof::decode(data) else { return Refused };
    assert_eq!(proof.encode(), data, "a closing proof has one encoding");
    let (die, identity) = (sample::die_key().public(), identity_key().public());
    let Ok(closed) = verify_closing(&proof, &die, &INSTALL, &CHIP_ID, &identity) else { return Refused };
    assert_eq!(data, TALK.closing_proof, "the die did not state this");
    assert_eq!(closed.fuse_facts, sample::fuse_policy().production());
    Taken
}

pub(crate) fn closing_proof_seeds() -> Vec<Vec<u8>> {
    vec![TALK.closing_proof.clone()]
}

/// Messages that nobody signs; the first byte says which one.
pub(crate) fn reports(data: &[u8]) -> Verdict {
    let Some((first, untrusted)) = data.split_first() else { return Refused };
    let again = match first % 4 {
        0 => Refusal::decode(untrusted).map(|it| {
            assert!(it.text.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "a terminal would act on it");
            it.encode()
        }),
        1 => Progress::decode(untrusted).map(|it| it.encode()),
        2 => Outcome::decode(untrusted).map(|it| it.encode()),
        _ => Hello::decode(untrusted).map(|it| it.encode()),
    };
    let Ok(again) = again else { return Refused };
    assert_eq!(again, untrusted, "a report has one encoding");
    Taken
}

pub(crate) fn report_seeds() -> Vec<Vec<u8>> {
    let messages = [
        Refusal::new(FailCode::LotRevoked, "since yesterday").encode(),
        Progress { step: 4, phase: Phase::End, micros: 1 << 33, bytes: 1 << 24 }.encode(),
        Outcome { code: 1040 }.encode(),
        Hello.encode(),
    ];
    (0..).zip(messages).map(|(first, message)| [&[first], &message[..]].concat()).collect()
}
