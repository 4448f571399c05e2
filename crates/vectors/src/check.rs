//! Holds a vector against what Kiln's functions give.

use alloc::vec::Vec;
use boot_crypto::{
    Decision, Digest, Drbg, EcKey, GcmKey, Key, Sha256, TagMismatch, es256_verify, hkdf_sha256, ps256_verify,
    sha256,
};

use crate::{Operation, Vector};

/// One implementation of the operations on P-256.
#[derive(Clone, Copy)]
pub struct Curve {
    /// [`es256_verify`].
    pub verify: fn(&[u8; 64], &Digest, &[u8; 64]) -> Decision,
    /// [`EcKey::sign`].
    pub sign: fn(&EcKey, &Digest) -> [u8; 64],
    /// [`EcKey::public`].
    pub public: fn(&EcKey) -> [u8; 64],
    /// [`EcKey::agree`].
    pub agree: fn(&EcKey, &[u8; 64]) -> Option<Key>,
}

impl Curve {
    /// The one that this build has.
    pub const OWN: Self =
        Self { verify: es256_verify, sign: EcKey::sign, public: EcKey::public, agree: EcKey::agree };
}

/// Reads an ECDSA signature in DER as r followed by s; `None` for what is none.
pub type SignatureOfDer = fn(&[u8]) -> Option<[u8; 64]>;

/// What vectors are held against, beside what there is only one of.
pub struct Functions<'a> {
    /// Implementations of P-256: a vector runs through each.
    pub curves: &'a [Curve],
    /// Reads signatures in DER; `None` where nothing does.
    pub signature_of_der: Option<SignatureOfDer>,
}

impl Functions<'_> {
    /// What a device has.
    pub const DEVICE: Self = Self { curves: &[Curve::OWN], signature_of_der: None };
}

/// What came of a vector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// How many functions gave a result that was compared.
    pub runs: u32,
    /// How many of the results were wrong.
    pub wrong: u32,
}

impl Checked {
    fn hold(&mut self, right: bool) {
        self.runs += 1;
        self.wrong += u32::from(!right);
    }

    /// Tells whether at least one function was looked at, and none was wrong.
    pub const fn is_right(&self) -> bool {
        self.runs > 0 && self.wrong == 0
    }
}

/// Holds a vector against what the functions give. One whose fields do not fit its operation has no runs.
pub fn check(vector: &Vector<'_>, functions: &Functions<'_>) -> Checked {
    let mut checked = Checked::default();
    let fields = vector.fields.as_slice();
    // A field of the wrong length ends it early, which is no success.
    _ = match vector.operation {
        Operation::Digest => digest(fields, &mut checked),
        Operation::DigestChain => digest_chain(fields, &mut checked),
        Operation::Hkdf => hkdf(fields, &mut checked),
        Operation::GcmOpen => gcm_open(fields, &mut checked),
        Operation::GcmSeal => gcm_seal(fields, &mut checked),
        Operation::Verify | Operation::VerifyDigest | Operation::VerifyDer => {
            verify(vector.operation, fields, functions, &mut checked)
        }
        Operation::Sign => sign(fields, functions.curves, &mut checked),
        Operation::Public => public(fields, functions.curves, &mut checked),
        Operation::Agree => agree(fields, functions.curves, &mut checked),
        Operation::Ps256 => ps256(fields, &mut checked),
        Operation::Drbg => drbg(fields, &mut checked),
    };
    checked
}

fn exactly<const N: usize>(field: &[u8]) -> Option<&[u8; N]> {
    field.try_into().ok()
}

fn yes(field: &[u8]) -> Option<bool> {
    match field {
        [1] => Some(true),
        [0] => Some(false),
        _ => None,
    }
}

fn digest(fields: &[&[u8]], checked: &mut Checked) -> Option<()> {
    let [message, digest] = *fields else { return None };
    checked.hold(sha256(message) == *digest);
    // In pieces that begin and end at every place within a block.
    let mut hash = Sha256::new();
    let mut rest = message;
    for length in (1..=129).cycle() {
        let (piece, others) = rest.split_at(rest.len().min(length));
        hash.update(piece);
        rest = others;
        if rest.is_empty() {
            break;
        }
    }
    checked.hold(hash.finish() == *digest);
    Some(())
}

fn digest_chain(fields: &[&[u8]], checked: &mut Checked) -> Option<()> {
    let [seed, digest] = *fields else { return None };
    let mut last = [*exactly::<32>(seed)?; 3];
    for _ in 0..1000 {
        let next = sha256(last.as_flattened());
        last = [last[1], last[2], next];
    }
    checked.hold(last[2] == *digest);
    Some(())
}

fn hkdf(fields: &[&[u8]], checked: &mut Checked) -> Option<()> {
    let [salt, ikm, info, okm, as_listed] = *fields else { return None };
    let as_listed = yes(as_listed)?;
    let (first, second) = info.split_at(info.len() / 2);
    for info in [&[info][..], &[first, second]] {
        // A shorter output is the beginning of a longer one.
        let same = match okm.len() {
            0..=32 => derived::<32>(salt, ikm, info).starts_with(okm),
            33..=64 => derived::<64>(salt, ikm, info).starts_with(okm),
            65..=8160 => derived::<8160>(salt, ikm, info).starts_with(okm),
            _ => return None,
        };
        checked.hold(same == as_listed);
    }
    Some(())
}

fn derived<const N: usize>(salt: &[u8], ikm: &[u8], info: &[&[u8]]) -> [u8; N] {
    let mut okm = [0; N];
    hkdf_sha256(salt, ikm, info, &mut okm);
    okm
}

fn gcm_open(fields: &[&[u8]], checked: &mut Checked) -> Option<()> {
    let [key, nonce, aad, ciphertext, tag, plaintext, opens] = *fields else { return None };
    let key = GcmKey::new(&Key::from_slice(key)?);
    let (nonce, tag) = (exactly(nonce)?, exactly(tag)?);
    if yes(opens)? {
        opened(&key, nonce, aad, ciphertext, tag, plaintext, checked);
        let mut data = plaintext.to_vec();
        checked.hold(key.seal(nonce, aad, &mut data).as_ref() == Some(tag) && data == ciphertext);
    } else {
        let mut data = ciphertext.to_vec();
        checked.hold(key.open(nonce, aad, &mut data, tag) == Err(TagMismatch) && data == ciphertext);
        let mut digest = [0; 32];
        let opened = key.open_and_digest(nonce, aad, &mut data, tag, &mut digest);
        checked.hold(opened == Err(TagMismatch) && data == ciphertext && digest == [0; 32]);
    }
    Some(())
}

fn gcm_seal(fields: &[&[u8]], checked: &mut Checked) -> Option<()> {
    let [key, nonce, aad, plaintext, ciphertext, tag] = *fields else { return None };
    let key = GcmKey::new(&Key::from_slice(key)?);
    let nonce = exactly(nonce)?;
    let mut data = plaintext.to_vec();
    let whole = key.seal(nonce, aad, &mut data)?;
    checked.hold(!tag.is_empty() && whole.starts_with(tag) && data == ciphertext);
    opened(&key, nonce, aad, ciphertext, &whole, plaintext, checked);
    Some(())
}

/// Opens both ways what has to open.
fn opened(
    key: &GcmKey,
    nonce: &[u8; 12],
    aad: &[u8],
    ciphertext: &[u8],
    tag: &[u8; 16],
    plaintext: &[u8],
    checked: &mut Checked,
) {
    let mut data = ciphertext.to_vec();
    checked.hold(key.open(nonce, aad, &mut data, tag) == Ok(()) && data == plaintext);
    data = ciphertext.to_vec();
    let mut digest = [0; 32];
    let opened = key.open_and_digest(nonce, aad, &mut data, tag, &mut digest);
    checked.hold(opened == Ok(()) && digest == sha256(plaintext) && data == plaintext);
}

fn verify(
    operation: Operation,
    fields: &[&[u8]],
    functions: &Functions<'_>,
    checked: &mut Checked,
) -> Option<()> {
    let [public, message, signature, accepted] = *fields else { return None };
    let (public, accepted) = (exactly(public)?, yes(accepted)?);
    let digest = if operation == Operation::Verify { sha256(message) } else { *exactly(message)? };
    let signature = if operation == Operation::VerifyDer {
        let Some(signature) = functions.signature_of_der?(signature) else {
            checked.hold(!accepted);
            return Some(());
        };
        signature
    } else {
        *exactly(signature)?
    };
    for curve in functions.curves {
        checked.hold((curve.verify)(public, &digest, &signature).accepts() == accepted);
    }
    Some(())
}

fn sign(fields: &[&[u8]], curves: &[Curve], checked: &mut Checked) -> Option<()> {
    let [scalar, digest, signature] = *fields else { return None };
    let key = EcKey::from_scalar(exactly(scalar)?)?;
    for curve in curves {
        checked.hold((curve.sign)(&key, exactly(digest)?) == *signature);
    }
    Some(())
}

fn public(fields: &[&[u8]], curves: &[Curve], checked: &mut Checked) -> Option<()> {
    let [scalar, public] = *fields else { return None };
    let key = EcKey::from_scalar(exactly(scalar)?)?;
    for curve in curves {
        checked.hold((curve.public)(&key) == *public);
    }
    Some(())
}

fn agree(fields: &[&[u8]], curves: &[Curve], checked: &mut Checked) -> Option<()> {
    let [scalar, public, shared, agrees] = *fields else { return None };
    let key = EcKey::from_scalar(exactly(scalar)?)?;
    let expected = yes(agrees)?.then(|| shared.to_vec());
    for curve in curves {
        let found: Option<Vec<u8>> = (curve.agree)(&key, exactly(public)?).map(|key| key.expose().to_vec());
        checked.hold(found == expected);
    }
    Some(())
}

fn ps256(fields: &[&[u8]], checked: &mut Checked) -> Option<()> {
    let [modulus, message, signature, accepted] = *fields else { return None };
    checked.hold(ps256_verify(modulus, &sha256(message), signature).accepts() == yes(accepted)?);
    Some(())
}

fn drbg(fields: &[&[u8]], checked: &mut Checked) -> Option<()> {
    let [entropy, nonce, personalization, fresh, output] = *fields else { return None };
    let mut drbg = Drbg::new(entropy, nonce, personalization);
    if !fresh.is_empty() {
        drbg.reseed(fresh);
    }
    let mut found = alloc::vec![0; output.len()];
    drbg.fill(&mut found);
    drbg.fill(&mut found);
    checked.hold(!output.is_empty() && found == output);
    Some(())
}
