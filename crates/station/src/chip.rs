//! The die that a message is about. A station believes what messages say: it decides nothing by it.

use factory_proto::authority::UntrustedRequest;
use factory_proto::{ClosingProof, Message};
use x509_cert::Certificate;
use x509_cert::der::asn1::{ObjectIdentifier, PrintableStringRef, Utf8StringRef};
use x509_cert::der::{Decode as _, Tagged as _};

/// `serialNumber` (X.520): the vendor writes the chip id there, in hex.
const SERIAL_NUMBER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.5");

/// Returns the chip id, in hex, of the die that asks; `None` if the message does not say it.
pub(crate) fn chip_id(kind: Message, body: &[u8]) -> Option<String> {
    match kind {
        Message::Request => of_request(body),
        Message::ClosingProof => ClosingProof::decode(body).ok().map(|proof| hex(proof.chip_id)),
        _ => None,
    }
}

fn of_request(body: &[u8]) -> Option<String> {
    let request = UntrustedRequest::parse(body).ok()?;
    let certificate = Certificate::from_der(request.die_chain().first()?).ok()?;
    let names = certificate.tbs_certificate().subject();
    let serial = names.iter().find(|name| name.oid == SERIAL_NUMBER)?;
    let text = match serial.value.tag() {
        x509_cert::der::Tag::PrintableString => {
            serial.value.decode_as::<PrintableStringRef<'_>>().ok()?.as_str().to_owned()
        }
        _ => serial.value.decode_as::<Utf8StringRef<'_>>().ok()?.as_str().to_owned(),
    };
    // It is shown on a terminal.
    let plain = text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    plain.then_some(text)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
