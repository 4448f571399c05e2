//! Certificate chains of dies that are not the vendor's.

use std::time::{Duration, SystemTime};

use authority::model::Die;
use authority::vendor::Vendors;
use boot_crypto::EcKey;
use boot_crypto::host::random;
use fail_code::FailCode;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, DnValue, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PublicKeyData, SignatureAlgorithm,
};

use crate::common::{LOT, Named, Rig, hex};

/// A certificate authority that makes whatever it is asked for.
struct Ca {
    params: CertificateParams,
    key: KeyPair,
    der: Vec<u8>,
}

const DAY: Duration = Duration::from_secs(86_400);

impl Ca {
    fn root(change: impl FnOnce(&mut CertificateParams)) -> Self {
        let (params, key) = Self::parts("root", change);
        let der = params.self_signed(&key).unwrap().der().to_vec();
        Self { params, key, der }
    }

    fn below(issuer: &Self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let (params, key) = Self::parts(name, change);
        let der = params.signed_by(&key, &issuer.issuer()).unwrap().der().to_vec();
        Self { params, key, der }
    }

    fn parts(name: &str, change: impl FnOnce(&mut CertificateParams)) -> (CertificateParams, KeyPair) {
        let mut params = params(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        change(&mut params);
        (params, KeyPair::generate().unwrap())
    }

    fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(&self.params, &self.key)
    }

    /// Certifies a die.
    fn certify(&self, die: &Die, change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
        self.certify_key(&Point::new(&die.die_key), &hex(&die.chip_id), change)
    }

    fn certify_key(
        &self,
        key: &impl PublicKeyData,
        serial: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Vec<u8> {
        let mut params = params("die");
        let serial = DnValue::PrintableString(serial.try_into().unwrap());
        params.distinguished_name.push(DnType::from_oid(&[2, 5, 4, 5]), serial);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        change(&mut params);
        params.signed_by(key, &self.issuer()).unwrap().der().to_vec()
    }
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new([]).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = (SystemTime::now() - DAY).into();
    params.not_after = (SystemTime::now() + DAY).into();
    params
}

fn expired(params: &mut CertificateParams) {
    params.not_after = (SystemTime::now() - DAY / 2).into();
}

fn not_yet(params: &mut CertificateParams) {
    params.not_before = (SystemTime::now() + DAY / 2).into();
}

fn path_length(length: u8) -> impl FnOnce(&mut CertificateParams) {
    move |params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(length))
}

fn nothing(_: &mut CertificateParams) {}

struct Point([u8; 65]);

impl Point {
    fn new(key: &EcKey) -> Self {
        let mut point = [4; 65];
        point[1..].copy_from_slice(&key.public());
        Self(point)
    }
}

impl PublicKeyData for Point {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

/// Has a die with a chain ask an authority whose lot trusts a root.
async fn ask(root: &Ca, make: impl FnOnce(&mut Die) -> Vec<Vec<u8>>) -> (Rig, Die, Vec<u8>) {
    let rig = Rig::without_lot().await;
    let mut lot = rig.factory.lot(LOT, 1);
    lot.terms.vendors = release::certificate_pem(&root.der);
    rig.authority.create_lot(lot).await.unwrap();
    let mut die = rig.factory.die().unwrap();
    die.chain = make(&mut die);
    let request = die.request(random()).unwrap();
    (rig, die, request)
}

async fn refuses(code: FailCode, root: &Ca, make: impl FnOnce(&mut Die) -> Vec<Vec<u8>>) {
    let (rig, _, request) = ask(root, make).await;
    rig.refused(rig.ticket(&request).await, code, Named::lot()).await;
    assert_eq!(rig.counts().await, (0, 0));
}

async fn takes(root: &Ca, make: impl FnOnce(&mut Die) -> Vec<Vec<u8>>) {
    let (rig, _, request) = ask(root, make).await;
    rig.ticket(&request).await.unwrap();
}

#[tokio::test]
async fn sound_chains_of_one_to_four_certificates_are_taken() {
    let root = Ca::root(nothing);
    takes(&root, |die| vec![root.certify(die, nothing)]).await;
    let a = Ca::below(&root, "a", path_length(2));
    let b = Ca::below(&a, "b", path_length(1));
    let c = Ca::below(&b, "c", path_length(0));
    takes(&root, |die| vec![a.certify(die, nothing), a.der.clone()]).await;
    // The order of issuers is the sender's affair, and the root may be among them.
    takes(&root, |die| vec![b.certify(die, nothing), a.der.clone(), b.der.clone()]).await;
    let all = |die: &mut Die| vec![c.certify(die, nothing), c.der.clone(), b.der.clone(), a.der.clone()];
    takes(&root, all).await;
    // A leaf that says what the key is for: tcg-dice-kp-attestInit.
    let usage = ExtendedKeyUsagePurpose::Other(vec![2, 23, 133, 5, 4, 100, 8]);
    takes(&root, |die| vec![root.certify(die, |params| params.extended_key_usages = vec![usage])]).await;
}

#[tokio::test]
async fn a_die_of_another_vendor_is_refused() {
    let (root, other) = (Ca::root(nothing), Ca::root(nothing));
    refuses(FailCode::VendorUnknown, &root, |die| vec![other.certify(die, nothing)]).await;
    let issuing = Ca::below(&other, "issuing", nothing);
    let chain = |die: &mut Die| vec![issuing.certify(die, nothing), issuing.der.clone(), other.der.clone()];
    refuses(FailCode::VendorUnknown, &root, chain).await;
}

#[tokio::test]
async fn a_chain_with_a_gap_is_refused() {
    let root = Ca::root(nothing);
    let issuing = Ca::below(&root, "issuing", nothing);
    refuses(FailCode::VendorUnknown, &root, |die| vec![issuing.certify(die, nothing)]).await;
}

#[tokio::test]
async fn an_altered_certificate_is_refused() {
    let root = Ca::root(nothing);
    let altered = |die: &mut Die| {
        let mut leaf = root.certify(die, nothing);
        *leaf.last_mut().unwrap() ^= 1;
        vec![leaf]
    };
    refuses(FailCode::VendorUnknown, &root, altered).await;
}

#[tokio::test]
async fn a_die_that_certifies_another_is_no_issuer() {
    let root = Ca::root(nothing);
    for constraints in [IsCa::ExplicitNoCa, IsCa::NoCa] {
        // The genuine certificate of a die whose key the adversary has.
        let die_as_ca = Ca::below(&root, "die", |params| {
            params.is_ca = constraints;
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        });
        let chain = |die: &mut Die| vec![die_as_ca.certify(die, nothing), die_as_ca.der.clone()];
        refuses(FailCode::VendorIssuer, &root, chain).await;
    }
}

#[tokio::test]
async fn a_chain_that_is_longer_than_an_issuer_allows_is_refused() {
    let root = Ca::root(nothing);
    let a = Ca::below(&root, "a", path_length(0));
    let b = Ca::below(&a, "b", nothing);
    let chain = |die: &mut Die| vec![b.certify(die, nothing), b.der.clone(), a.der.clone()];
    refuses(FailCode::VendorPathLength, &root, chain).await;
}

#[tokio::test]
async fn a_chain_that_is_longer_than_the_root_allows_is_refused() {
    let root = Ca::root(path_length(0));
    takes(&root, |die| vec![root.certify(die, nothing)]).await;
    let a = Ca::below(&root, "a", nothing);
    refuses(FailCode::VendorPathLength, &root, |die| vec![a.certify(die, nothing), a.der.clone()]).await;
}

#[tokio::test]
async fn an_issuer_whose_key_is_not_for_certificates_is_refused() {
    let root = Ca::root(nothing);
    for usages in [vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::CrlSign], vec![]] {
        let a = Ca::below(&root, "a", |params| params.key_usages = usages);
        refuses(FailCode::VendorKeyUsage, &root, |die| vec![a.certify(die, nothing), a.der.clone()]).await;
    }
}

#[tokio::test]
async fn a_die_whose_key_is_not_for_signatures_is_refused() {
    let root = Ca::root(nothing);
    let agreement = |params: &mut CertificateParams| params.key_usages = vec![KeyUsagePurpose::KeyAgreement];
    refuses(FailCode::VendorKeyUsage, &root, |die| vec![root.certify(die, agreement)]).await;
    let server = |params: &mut CertificateParams| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    };
    refuses(FailCode::VendorKeyUsage, &root, |die| vec![root.certify(die, server)]).await;
}

#[tokio::test]
async fn a_certificate_authority_is_no_die() {
    let root = Ca::root(nothing);
    refuses(FailCode::VendorKeyUsage, &root, |die| vec![root.certify(die, path_length(0))]).await;
}

#[tokio::test]
async fn certificates_that_are_not_valid_at_this_time_are_refused_at_every_place() {
    for when in [expired, not_yet] {
        let root = Ca::root(nothing);
        refuses(FailCode::VendorExpired, &root, |die| vec![root.certify(die, when)]).await;
        let a = Ca::below(&root, "a", when);
        refuses(FailCode::VendorExpired, &root, |die| vec![a.certify(die, nothing), a.der.clone()]).await;
        let root = Ca::root(when);
        refuses(FailCode::VendorExpired, &root, |die| vec![root.certify(die, nothing)]).await;
    }
}

#[tokio::test]
async fn what_is_no_certificate_of_a_die_is_malformed() {
    let root = Ca::root(nothing);
    let code = FailCode::VendorMalformed;
    refuses(code, &root, |_| vec![b"no DER".to_vec()]).await;
    refuses(code, &root, |die| vec![[root.certify(die, nothing), vec![0]].concat()]).await;
    refuses(code, &root, |die| vec![root.certify(die, nothing), b"no DER".to_vec()]).await;
    refuses(code, &root, |die| {
        let chip = hex(&die.chip_id);
        vec![root.certify_key(
            &Point::new(&die.die_key),
            &chip.to_uppercase().replace(char::is_numeric, "A"),
            nothing,
        )]
    })
    .await;
    refuses(code, &root, |die| vec![root.certify_key(&Point::new(&die.die_key), "42", nothing)]).await;
    let nameless = |params: &mut CertificateParams| {
        params.distinguished_name = rcgen::DistinguishedName::new();
    };
    refuses(code, &root, |die| vec![root.certify(die, nameless)]).await;
    let p384 = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    refuses(code, &root, |die| vec![root.certify_key(&p384, &hex(&die.chip_id), nothing)]).await;
    let critical = |params: &mut CertificateParams| {
        let mut unknown = rcgen::CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
        unknown.set_criticality(true);
        params.custom_extensions = vec![unknown];
    };
    refuses(code, &root, |die| vec![root.certify(die, critical)]).await;
}

#[test]
fn an_empty_chain_and_a_chain_of_five_are_malformed() {
    let root = Ca::root(nothing);
    let vendors = Vendors::from_pem(&release::certificate_pem(&root.der)).unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let leaf =
        root.certify_key(&Point::new(&EcKey::from_scalar(&[5; 32]).unwrap()), &"0a".repeat(16), nothing);
    let validate = |chain: &[&[u8]]| vendors.validate(chain, now).map_err(|refusal| refusal.code);
    assert_eq!(validate(&[]), Err(FailCode::VendorMalformed));
    let mut chain = vec![leaf.as_slice(); 5];
    assert_eq!(validate(&chain), Err(FailCode::VendorMalformed));
    chain.truncate(1);
    let die = validate(&chain).unwrap();
    assert_eq!(die.chip_id, [0x0A; 16]);
}
