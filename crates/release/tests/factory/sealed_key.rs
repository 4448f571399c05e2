//! A content key that is sealed to an authority: for this authority and this package, and whatever else is refused.

use crate::common::{make, owner};
use boot_crypto::host::{Es256Key, SealingKey, es256_public_pem};
use fail_code::FailCode;
use release::{
    AuthorityKey, ContentKey, Error, PackageFacts, SealedContentKey, SealedKeyFault, hex, test_keys,
};
use sealed_image::Version;
use std::fs;
use std::process::Command;

struct Sealed {
    key: SealingKey,
    facts: PackageFacts,
    content_key: ContentKey,
    bytes: Vec<u8>,
}

fn sealed() -> Sealed {
    let key = SealingKey::generate();
    let (release, content_key) = make(&owner()).unwrap();
    let sealed = content_key.seal(&AuthorityKey::new(key.public()), &release.facts).unwrap();
    Sealed { key, facts: release.facts, content_key, bytes: sealed.encode() }
}

impl Sealed {
    fn open(&self, untrusted: &[u8], facts: &PackageFacts) -> Result<ContentKey, SealedKeyFault> {
        SealedContentKey::decode_exact(untrusted)?.open(&self.key, facts)
    }

    /// Asserts that this is refused, and returns why.
    #[track_caller]
    fn refused(&self, untrusted: &[u8], facts: &PackageFacts) -> SealedKeyFault {
        let fault = self.open(untrusted, facts).expect_err("it was opened");
        assert!(!fault.cure().is_empty() && !fault.to_string().contains(&hex(self.content_key.0.expose())));
        fault
    }

    /// Replaces a part of the file by another of the same length.
    fn with(&self, from: &[u8], to: &[u8]) -> Vec<u8> {
        let at = self.bytes.windows(from.len()).position(|window| window == from).unwrap();
        [&self.bytes[..at], to, &self.bytes[at + from.len()..]].concat()
    }
}

#[test]
fn a_sealed_key_opens_for_its_authority_and_its_package_and_holds_no_key_in_the_clear() {
    let sealed = sealed();
    let opened = sealed.open(&sealed.bytes, &sealed.facts).unwrap();
    assert_eq!(opened.0.expose(), sealed.content_key.0.expose());
    let holds = |secret: &[u8]| sealed.bytes.windows(secret.len()).any(|window| window == secret);
    assert!(!holds(sealed.content_key.0.expose()));
    let again = sealed.open(&sealed.bytes, &sealed.facts).unwrap();
    assert_eq!(again.0.expose(), opened.0.expose(), "it opens once only");
    let shown = format!("{opened:?} {:?}", SealedContentKey::decode_exact(&sealed.bytes));
    assert!(
        !shown.contains(&hex(&opened.0.expose()[..4]))
            && !shown.contains(&format!("{:?}", opened.0.expose())),
        "{shown}"
    );
    let to = AuthorityKey::new(sealed.key.public());
    assert_ne!(sealed.content_key.seal(&to, &sealed.facts).unwrap().encode(), sealed.bytes);
}

#[test]
fn a_sealed_key_with_any_byte_altered_cut_off_or_added_is_refused() {
    let sealed = sealed();
    let mut refused = 0;
    for at in 0..sealed.bytes.len() {
        for flip in [1, 0x80, 0xFF] {
            let mut altered = sealed.bytes.clone();
            altered[at] ^= flip;
            sealed.refused(&altered, &sealed.facts);
            refused += 1;
        }
        assert_eq!(sealed.refused(&sealed.bytes[..at], &sealed.facts), SealedKeyFault::Form, "{at} bytes");
    }
    assert!(refused > 3 * 180, "{refused}");
    for added in [&[0][..], &[0xFF; 40], &sealed.bytes] {
        let longer = [&sealed.bytes, added].concat();
        assert_eq!(sealed.refused(&longer, &sealed.facts), SealedKeyFault::Form);
    }
    // { 1: 2, … }: a form of another release.
    assert_eq!(sealed.bytes[..3], [0xA5, 1, 1]);
    let other_form = [&[0xA5, 1, 2], &sealed.bytes[3..]].concat();
    assert_eq!(sealed.refused(&other_form, &sealed.facts), SealedKeyFault::Form);
    let last = sealed.bytes.len() - 1;
    let mut altered = sealed.bytes.clone();
    altered[last] ^= 1;
    assert_eq!(sealed.refused(&altered, &sealed.facts), SealedKeyFault::Altered);
}

#[test]
fn a_key_that_is_sealed_to_another_authority_is_refused_whatever_it_says() {
    let sealed = sealed();
    let other = SealingKey::generate();
    let theirs = AuthorityKey::new(other.public()).thumbprint();
    let ours = AuthorityKey::new(sealed.key.public()).thumbprint();
    let parsed = SealedContentKey::decode_exact(&sealed.bytes).unwrap();
    let fault = parsed.open(&other, &sealed.facts).unwrap_err();
    assert_eq!(fault, SealedKeyFault::OtherAuthority { sealed: ours, ours: theirs });
    assert!(fault.to_string().contains(&hex(&ours)) && fault.to_string().contains(&hex(&theirs)));
    // It says that it is theirs.
    let renamed = SealedContentKey::decode_exact(&sealed.with(&ours, &theirs)).unwrap();
    assert_eq!(renamed.open(&other, &sealed.facts).unwrap_err(), SealedKeyFault::Altered);
    assert!(matches!(
        sealed.refused(&sealed.with(&ours, &theirs), &sealed.facts),
        SealedKeyFault::OtherAuthority { .. }
    ));
}

#[test]
fn the_key_of_one_package_is_not_passed_off_as_that_of_another_or_of_altered_facts() {
    type Alter = fn(&mut PackageFacts);
    let sealed = sealed();
    let package = |facts: &PackageFacts| {
        let key = ContentKey(boot_crypto::Key::new([1; 32]));
        let parsed = key.seal(&AuthorityKey::new(sealed.key.public()), facts).unwrap();
        // What it says of its package: the field behind the recipient's.
        let bytes = parsed.encode();
        let head = [3, 0x58, 32];
        let at = bytes.windows(3).position(|window| window == head).unwrap() + 3;
        bytes[at..at + 32].to_vec()
    };
    let ours = package(&sealed.facts);
    let alterations: [Alter; 12] = [
        |facts| facts.board = "other".into(),
        |facts| facts.version = Version::new(9, 9, 9),
        |facts| facts.release = "another".into(),
        |facts| facts.package_id[0] ^= 1,
        |facts| facts.package_digest[31] ^= 1,
        |facts| facts.stage1_measurement[0] ^= 1,
        |facts| facts.stage2_measurement[0] ^= 1,
        |facts| facts.policy.root_digest[0] ^= 1,
        |facts| facts.policy.provisioning_key_tag[0] ^= 1,
        |facts| facts.policy.secured_floors[1] = 0,
        |facts| facts.policy.production_floors[0] = 0,
        |facts| facts.policy.closing_measurement[0] ^= 1,
    ];
    for (number, alter) in alterations.iter().enumerate() {
        let mut facts = sealed.facts.clone();
        alter(&mut facts);
        assert_ne!(facts, sealed.facts, "{number}");
        assert_eq!(sealed.refused(&sealed.bytes, &facts), SealedKeyFault::OtherPackage, "{number}");
        // The file says that it is that one's.
        let renamed = sealed.with(&ours, &package(&facts));
        assert_eq!(sealed.refused(&renamed, &facts), SealedKeyFault::Altered, "{number}");
    }
}

#[test]
fn only_what_an_authority_wrote_is_taken_for_its_sealing_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sealing.pub.pem");
    let read = |text: &str| {
        fs::write(&path, text).unwrap();
        AuthorityKey::read(&path)
    };
    let key = AuthorityKey::new(SealingKey::generate().public());
    let text = key.to_text().unwrap();
    assert_eq!(read(&text).unwrap(), key);
    let (line, pem) = text.split_once('\n').unwrap();
    let other = AuthorityKey::new(SealingKey::generate().public()).to_text().unwrap();
    let (other_line, _) = other.split_once('\n').unwrap();
    let root = es256_public_pem(&Es256Key::generate().public()).unwrap();
    for refused in [
        String::new(),
        pem.to_owned(),
        root.clone(),
        format!("{line}\n{root}"),
        format!("{other_line}\n{pem}"),
        format!("{line} \n{pem}"),
        format!("{text}{text}"),
        text[..text.len() - 30].to_owned(),
        format!("{line}\n{}", *SealingKey::generate().to_pem()),
    ] {
        let error = read(&refused).unwrap_err();
        assert!(matches!(error, Error::AuthorityKeyFile { .. }), "{refused}: {error}");
        assert!(error.to_string().contains("sealing.pub.pem"), "{error}");
    }
    let published = AuthorityKey::new(test_keys::es256(test_keys::OS).public()).to_text().unwrap();
    assert_eq!(read(&published).unwrap_err().code(), Some(FailCode::TestKey));
}

/// Runs with the interpreter that `KILN_PYTHON` names, which has `cryptography` and `cbor2`; `cargo xtask test` provides one.
#[test]
fn an_independent_library_opens_a_sealed_key_from_what_the_documentation_says() {
    let python = std::env::var("KILN_PYTHON");
    let python = python.expect(
        "KILN_PYTHON names an interpreter with cryptography: run `cargo xtask test`, which sets it up",
    );
    let sealed = sealed();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("sealing.key.pem"), &*sealed.key.to_pem()).unwrap();
    fs::write(path("content-key.sealed"), &sealed.bytes).unwrap();
    fs::write(path("release.json"), sealed.facts.to_json()).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/open_sealed_key.py");
    let open = || Command::new(&python).arg(script).arg(folder.path()).output().unwrap();
    let output = open();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let expected = hex(sealed.content_key.0.expose());
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), expected);

    let mut other = sealed.facts.clone();
    other.version = Version::new(1, 2, 4);
    fs::write(path("release.json"), other.to_json()).unwrap();
    let output = open();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("does not open"), "{output:?}");
}
