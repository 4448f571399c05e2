//! What the authority answers: tickets, receipts, certificates of devices.
//!
//! # Threats
//! An answer that a role signed rightly may still be another device's, or of another session: a device compares it with the
//! question that it asked. Of that a host has the request at most, so what remains is said with the answer.

use super::{Holding, Means, Verdict};
use crate::{Error, files, hex};
use boot_crypto::{equal, sha256};
use factory_proto::authority::UntrustedRequest;
use factory_proto::{Field, Message, Receipt, Release, Request, Ticket, Trust, content_type};
use memory_map::qemu_virt::BOARD;
use sealed_image::Es256;
use sealed_image::cbor;
use sealed_image::cose::UntrustedSign1;
use serde_json::{Value, json};

pub(super) fn verify(
    message: Message,
    untrusted: &[u8],
    means: &Means,
    hold: &mut Holding<'_>,
) -> Result<Verdict, Error> {
    let roots = means.roots();
    let trust = Trust { board: BOARD, roots: &roots, refuse_test_keys: !means.development };
    let payload = trust.verify::<Es256>(message, untrusted).map_err(Error::Answer)?;
    hold.add("signatures", format!("of the role authority, which {} delegates to", means.by_root()));
    hold.add("content type", content_type(message));
    let (facts, unchecked) = match message {
        Message::Ticket => ticket(payload, means, hold)?,
        Message::Receipt => receipt(payload, hold)?,
        _ => certificates(payload, hold)?,
    };
    Ok(Verdict { artefact: crate::Artefact::Message(message).name(), facts, unchecked })
}

type Found = (Vec<(&'static str, Value)>, Vec<String>);

fn ticket(payload: &[u8], means: &Means, hold: &mut Holding<'_>) -> Result<Found, Error> {
    let ticket = Ticket::decode(payload).map_err(Error::Answer)?;
    hold.add("form", "a ticket, every field within its bounds");
    let mut unchecked = Vec::new();
    match &means.request {
        Some(path) => {
            let request = files::read(path)?;
            answers(&ticket, &request)?;
            hold.add("request", format!("it answers {}, its nonce and its package", path.display()));
        }
        None => unchecked.push("that it answers the device's request: --request FILE".into()),
    }
    unchecked.push("that it is for this die, and that its secrets open: only the device can tell".into());
    let facts = vec![
        ("chip id", json!(hex(ticket.chip_id))),
        ("serial", json!(ticket.serial)),
        ("install", json!(hex(ticket.install))),
        ("package id", json!(hex(ticket.package_id))),
        ("request", json!(hex(ticket.request_digest))),
    ];
    Ok((facts, unchecked))
}

/// Compares a ticket with the request that it is to answer, as the device's session does.
fn answers(ticket: &Ticket<'_>, untrusted: &[u8]) -> Result<(), Error> {
    UntrustedRequest::parse(untrusted).map_err(Error::Answer)?;
    let malformed =
        |offset| Error::Answer(factory_proto::Error::Malformed { message: Message::Request, offset });
    let sign1: UntrustedSign1<'_> = cbor::parse_exact(untrusted).map_err(malformed)?;
    let request = Request::decode(sign1.payload).map_err(Error::Answer)?;
    for (field, found, expected) in [
        (Field::RequestDigest, ticket.request_digest, &sha256(untrusted)),
        (Field::Nonce, ticket.nonce, request.nonce),
        (Field::PackageId, ticket.package_id, request.package_id),
    ] {
        if !equal(found, expected).accepts() {
            return Err(Error::Answer(factory_proto::Error::Mismatch { message: Message::Ticket, field }));
        }
    }
    Ok(())
}

fn receipt(payload: &[u8], hold: &mut Holding<'_>) -> Result<Found, Error> {
    let receipt = Receipt::decode(payload).map_err(Error::Answer)?;
    hold.add("form", "a receipt, every field within its bounds");
    let facts = vec![
        ("install", json!(hex(receipt.install))),
        ("certificate request", json!(hex(receipt.csr_digest))),
    ];
    Ok((
        facts,
        vec!["that it is for this install and this certificate request: only the device can tell".into()],
    ))
}

fn certificates(payload: &[u8], hold: &mut Holding<'_>) -> Result<Found, Error> {
    let release = Release::decode(payload).map_err(Error::Answer)?;
    hold.add("form", "a device's certificates, every field within its bounds");
    let facts = vec![
        ("chip id", json!(hex(release.chip_id))),
        ("install", json!(hex(release.install))),
        ("certificates", json!(release.certificates.len())),
    ];
    let unchecked = vec![
        "that it is for this install and this die: only the device can tell".into(),
        "the certificates themselves, which devices only store: `openssl verify` with the authority's device CA"
            .into(),
    ];
    Ok((facts, unchecked))
}
