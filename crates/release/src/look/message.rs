//! Messages between device and authority, and other signed messages.
//!
//! The secrets of a ticket are encrypted to a key that one device has; of them only the length is shown.

use super::grant;
use crate::folder::inspect_manifest;
use crate::{Artefact, Error, hex};
use boot_crypto::sha256;
use factory_proto::{ClosingProof, Csr, Message, Receipt, Release, Request, Ticket};
use lifecycle::{Flag, FuseFacts, Record};
use sealed_image::cbor;
use sealed_image::cose::UntrustedSign1;
use sealed_image::host::InspectedMessage;
use serde_json::{Value, json};

/// Describes a message of a role.
pub(super) fn signed(untrusted: &[u8]) -> Result<Value, Error> {
    let message = inspected(untrusted)?;
    let release = inspect_manifest(message.payload);
    let name = if release.is_some() { "release manifest" } else { "signed message" };
    let mut tree = envelope(name, &message);
    tree["release"] = json!(release);
    Ok(tree)
}

fn inspected(untrusted: &[u8]) -> Result<InspectedMessage<'_>, Error> {
    InspectedMessage::of(untrusted).map_err(|error| Error::Signed { what: "message", error })
}

fn envelope(name: &str, message: &InspectedMessage<'_>) -> Value {
    json!({
        "artefact": name,
        "content type": message.content_type,
        "payload bytes": message.payload.len(),
        "owner root": hex(&message.root.thumbprint()),
        "delegations": message.grants.iter().map(grant).collect::<Vec<_>>(),
    })
}

/// Describes a message between a device and the authority.
pub(super) fn of(kind: Message, untrusted: &[u8]) -> Result<Value, Error> {
    match kind {
        Message::Request | Message::Csr => question(kind, untrusted),
        Message::ClosingProof => closing(untrusted),
        _ => answer(kind, untrusted),
    }
}

fn answer(kind: Message, untrusted: &[u8]) -> Result<Value, Error> {
    let message = inspected(untrusted)?;
    let says = match kind {
        Message::Ticket => Ticket::decode(message.payload).map(|ticket| {
            json!({
                "serial": ticket.serial,
                "chip id": hex(ticket.chip_id),
                "install": hex(ticket.install),
                "package id": hex(ticket.package_id),
                "request": hex(ticket.request_digest),
                "nonce": hex(ticket.nonce),
                "secrets": format!("{} bytes, encrypted to the device", ticket.secrets.len()),
            })
        }),
        Message::Receipt => Receipt::decode(message.payload).map(|receipt| {
            json!({ "install": hex(receipt.install), "certificate request": hex(receipt.csr_digest) })
        }),
        _ => Release::decode(message.payload).map(|release| {
            json!({
                "chip id": hex(release.chip_id),
                "install": hex(release.install),
                "certificates": certificates(&release.certificates),
            })
        }),
    };
    let mut tree = envelope(Artefact::Message(kind).name(), &message);
    tree["says"] = says.map_err(Error::Answer)?;
    Ok(tree)
}

/// Describes certificates by their lengths and digests: `openssl x509` shows what is in them.
fn certificates(chain: &[&[u8]]) -> Vec<Value> {
    let one = |der: &&[u8]| json!({ "bytes": der.len(), "sha256": hex(&sha256(der)) });
    chain.iter().map(one).collect()
}

fn question(kind: Message, untrusted: &[u8]) -> Result<Value, Error> {
    let malformed = |offset| Error::Answer(factory_proto::Error::Malformed { message: kind, offset });
    let sign1: UntrustedSign1<'_> = cbor::parse_exact(untrusted).map_err(malformed)?;
    let says = match kind {
        Message::Request => Request::decode(sign1.payload).map(|request| {
            json!({
                "board": request.board,
                "package id": hex(request.package_id),
                "nonce": hex(request.nonce),
                "die certificates": certificates(&request.die_chain),
                "statement": format!("{} bytes, signed by the die", request.statement.len()),
                "fuses": fuse_facts(request.fuse_facts),
            })
        }),
        _ => Csr::decode(sign1.payload).map(|csr| {
            json!({
                "install": hex(csr.install),
                "request": hex(csr.request_digest),
                "certificate request": { "bytes": csr.der.len(), "sha256": hex(&sha256(csr.der)) },
            })
        }),
    };
    Ok(json!({
        "artefact": kind.name(),
        "content type": sign1.content_type(),
        "sha256": hex(&sha256(untrusted)),
        "says": says.map_err(Error::Answer)?,
    }))
}

fn closing(untrusted: &[u8]) -> Result<Value, Error> {
    let proof = ClosingProof::decode(untrusted).map_err(Error::Answer)?;
    Ok(json!({
        "artefact": Message::ClosingProof.name(),
        "chip id": hex(proof.chip_id),
        "install": hex(proof.install),
        "statement": format!("{} bytes, signed by the die", proof.statement.len()),
        "fuses": fuse_facts(proof.fuse_facts),
    }))
}

/// Describes the fuses that a statement vouches for: secret rows are tags in it.
fn fuse_facts(untrusted: &[u8]) -> Value {
    let Ok(facts) = FuseFacts::decode(untrusted) else { return json!("unreadable") };
    let digest = |record: &Record| match record {
        Record::Whole(digest) => json!(hex(digest)),
        Record::Blank => json!("blank"),
        Record::Torn => json!("torn"),
    };
    let burned = facts.roots.iter().filter(|root| root.valid != Flag::Clear);
    json!({
        "lifecycle": facts.lifecycle.name(),
        "debug locked": facts.debug_lock == Flag::Set,
        "owner roots": burned.map(|root| digest(&root.digest)).collect::<Vec<_>>(),
        "closing measurement": digest(&facts.closing_measurement),
        "floors": facts.floors,
        "owner generation": facts.owner_generation,
        "sha256": hex(&facts.digest()),
    })
}
