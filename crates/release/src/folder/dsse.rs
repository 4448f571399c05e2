//! DSSE, the envelope of in-toto: a payload, its type, and signatures over both.
//!
//! Signatures are ES256 in DER, as `securesystemslib` and sigstore have them. The key id is Kiln's thumbprint of the key.

use crate::{Error, Owner, hex};
use base64ct::{Base64, Encoding as _};
use boot_crypto::host::{es256_signature_from_der, es256_signature_to_der};
use boot_crypto::{Digest, es256_verify, sha256};
use sealed_image::{PublicKey, Role};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The payload type of in-toto statements.
pub(crate) const IN_TOTO: &str = "application/vnd.in-toto+json";

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Envelope {
    payload_type: String,
    payload: String,
    signatures: Vec<Signature>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Signature {
    keyid: String,
    sig: String,
}

/// Signs a payload with the ES256 keys of a role.
pub(crate) fn sign(owner: &Owner, role: Role, payload_type: &str, payload: &[u8]) -> Result<String, Error> {
    let digest = digest(payload_type, payload);
    let mut signatures = Vec::new();
    for (thumbprint, signature) in owner.sign_digest(role, &digest)? {
        // The role is one whose keys are ES256: it signs a stage too.
        let der = es256_signature_to_der(&signature).ok_or(Error::RoleMissing { role })?;
        signatures.push(Signature { keyid: hex(&thumbprint), sig: Base64::encode_string(&der) });
    }
    let envelope =
        Envelope { payload_type: payload_type.into(), payload: Base64::encode_string(payload), signatures };
    Ok(serde_json::to_string(&envelope).expect("text has a JSON form") + "\n")
}

/// Verifies an envelope that holds one signature, by one of these keys, and returns its payload; says what is wrong
/// otherwise.
pub(crate) fn verify(
    untrusted: &str,
    payload_type: &str,
    keys: &[[u8; 64]],
) -> Result<Vec<u8>, &'static str> {
    let envelope: Envelope = serde_json::from_str(untrusted).map_err(|_| "it is no DSSE envelope")?;
    if envelope.payload_type != payload_type {
        return Err("it holds another type of payload");
    }
    let payload = Base64::decode_vec(&envelope.payload).map_err(|_| "its payload is not in base64")?;
    let [signature] = envelope.signatures.as_slice() else { return Err("it has not one signature") };
    let key = keys.iter().find(|key| hex(&PublicKey::P256(**key).thumbprint()) == signature.keyid);
    let key = key.ok_or("its key is not one that the owner root delegates to")?;
    let der = Base64::decode_vec(&signature.sig).map_err(|_| "its signature is not in base64")?;
    let signature = es256_signature_from_der(&der).ok_or("its signature is not ES256 in DER")?;
    if !es256_verify(key, &digest(payload_type, &payload), &signature).accepts() {
        return Err("its signature does not hold");
    }
    Ok(payload)
}

/// Describes an envelope with a statement in it; `None` if it is none.
pub(crate) fn inspect(untrusted: &str) -> Option<Value> {
    let envelope: Envelope = serde_json::from_str(untrusted).ok()?;
    let payload = Base64::decode_vec(&envelope.payload).ok()?;
    let statement: Value = serde_json::from_slice(&payload).ok()?;
    let subjects: Vec<_> = statement["subject"].as_array()?.iter().map(|one| one["name"].clone()).collect();
    let signers: Vec<_> = envelope.signatures.iter().map(|one| one.keyid.as_str()).collect();
    Some(json!({
        "artefact": "DSSE envelope",
        "payload type": envelope.payload_type,
        "signers": signers,
        "predicate": statement["predicateType"],
        "subjects": subjects,
        "parameters": statement["predicate"]["buildDefinition"]["externalParameters"],
        "made of": statement["predicate"]["buildDefinition"]["resolvedDependencies"],
    }))
}

/// Hashes the pre-authentication encoding.
fn digest(payload_type: &str, payload: &[u8]) -> Digest {
    let mut pae = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    pae.extend(payload);
    sha256(&pae)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OwnerKeys;
    use memory_map::qemu_virt::BOARD;
    use sealed_image::host::InspectedMessage;

    #[test]
    fn an_envelope_is_verified_and_nothing_of_it_can_be_changed() {
        let owner = OwnerKeys::found(BOARD).owner().unwrap();
        let message = owner.sign_message(Role::Provision, "x/y", b"").unwrap();
        let PublicKey::P256(key) = InspectedMessage::of(&message).unwrap().grants[0].key else { panic!() };
        let envelope = sign(&owner, Role::Provision, IN_TOTO, b"{\"a\":1}").unwrap();
        assert_eq!(verify(&envelope, IN_TOTO, &[[1; 64], key]).unwrap(), b"{\"a\":1}");
        assert!(verify(&envelope, "text/plain", &[key]).is_err());
        assert!(verify(&envelope, IN_TOTO, &[]).is_err());
        let other = sign(&owner, Role::Os, IN_TOTO, b"{\"a\":1}").unwrap();
        assert!(verify(&other, IN_TOTO, &[key]).is_err());
        for at in 0..envelope.trim_end().len() {
            let mut altered = envelope.clone().into_bytes();
            altered[at] ^= 1;
            if let Ok(altered) = String::from_utf8(altered) {
                assert!(verify(&altered, IN_TOTO, &[key]).is_err(), "byte {at}: {altered}");
            }
        }
    }
}
