//! Update keys on tokens: what production takes, how a key comes onto one, and what opens it.

use crate::common::Desk;
use crate::product::CONFIG;
use crate::update::UPDATE;
use crate::{RELEASE, VERIFY, assert_nothing_left, token};
use boot_crypto::host::random;
use release::hex;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

/// A desk of a product in production, whose update key kiln.toml names as this file.
fn production() -> (Desk, impl Fn(&Desk, &str)) {
    let desk = token::desk();
    desk.good(&token::owner());
    desk.good("authority init");
    desk.good("authority key export authority.pub.pem");
    let configure = |desk: &Desk, key: &str| {
        let update = UPDATE.replace("update.key", key);
        let config = CONFIG.replacen("[stages]", &format!("{update}[stages]"), 1);
        let head = "profile = \"production\"\nauthority-key = \"authority.pub.pem\"\n";
        desk.put("kiln.toml", format!("{head}{config}").as_bytes());
    };
    (desk, configure)
}

#[test]
fn production_takes_an_update_key_that_a_token_wraps_and_none_in_a_file() {
    let (mut desk, configure) = production();
    desk.good("update-key update.key --product demo");
    release::UpdateKey::read_or_make(&desk.path("clear.key"), "demo").unwrap();
    // Before anybody is asked for a passphrase.
    desk.unset("KILN_PASSPHRASE");
    for (file, lies) in [("clear.key", "in the clear"), ("update.key", "under a passphrase")] {
        configure(&desk, file);
        let said = desk.bad("release --out r1");
        let why = format!("{file}: the update key lies in it {lies}, and the production profile takes one");
        assert!(said.contains(&why) && said.contains("\n  cure  "), "{said}");
        assert_nothing_left(&desk);
    }
    // Nor does it publish what does not say where it comes from.
    for (line, key) in
        [("crates = \"crates.json\"\n", "crates"), ("commit = \"0123456789abcdef\"\n", "commit")]
    {
        let config = fs::read_to_string(desk.path("kiln.toml")).unwrap();
        desk.put("kiln.toml", config.replacen(line, "", 1).as_bytes());
        let said = desk.bad("release --out r1");
        assert!(
            said.contains(&format!("`{key}` of [stages] is missing, or empty"))
                && said.contains("\n  cure  "),
            "{said}"
        );
        assert_nothing_left(&desk);
        desk.put("kiln.toml", config.as_bytes());
    }
    let made = desk.good_json(&format!("update-key wrapped.key --product demo --pkcs11 {}", token::uri()));
    let kept = token::uri().replacen('?', ";object=update-demo;type=secret-key?", 1);
    assert_eq!(made["kept_in"], Value::from(kept.as_str()));
    let shown: Value = serde_json::from_str(&desk.good("inspect wrapped.key --json")).unwrap();
    assert_eq!((&shown["artefact"], &shown["kept in"]), (&"update key".into(), &kept.into()));
    configure(&desk, "wrapped.key");
    desk.good("release --out r1");
    desk.good(&format!("{VERIFY} --update-key wrapped.key"));
    desk.set("KILN_PIN", "another pin");
    let said = desk.bad(&format!("{VERIFY} --update-key wrapped.key"));
    assert!(
        said.contains("the PIN is wrong") && said.contains("object=update-demo;type=secret-key"),
        "{said}"
    );
}

#[test]
fn an_update_key_that_devices_have_comes_onto_a_token_and_onto_a_second_one() {
    let (desk, _) = production();
    desk.good("update-key update.key --product demo");
    let onto = |object: &str, from: &str, to: &str| {
        let uri = token::uri().replacen("?", &format!("{object}?"), 1);
        format!("update-key {to} --product demo --from {from} --pkcs11 {uri}")
    };
    desk.good(&onto("", "update.key", "wrapped.key"));
    desk.good(&onto(";object=spare", "wrapped.key", "spare.key"));
    // Whatever opens the first opens the release of the other: it is one key.
    let config =
        CONFIG.replacen("[stages]", &format!("{}[stages]", UPDATE.replace("update.key", "spare.key")), 1);
    desk.put("kiln.toml", config.as_bytes());
    desk.good(RELEASE);
    for key in ["update.key", "wrapped.key", "spare.key"] {
        desk.good(&format!("{VERIFY} --update-key {key}"));
        let file = fs::metadata(desk.path(key)).unwrap();
        assert_eq!(file.permissions().mode() & 0o777, 0o600);
    }
    let text = fs::read_to_string(desk.path("wrapped.key")).unwrap();
    assert!(text.starts_with("-----BEGIN WRAPPED KILN UPDATE KEY-----\n"), "{text}");

    for (line, why) in [
        (onto("", "update.key", "again.key"), "there is a key of this name on the token already"),
        (onto(";object=x;type=private", "update.key", "again.key"), "`type=private`, not `type=secret-key`"),
        (
            onto(";object=x", "update.key", "again.key").replace("--product demo", "--product other"),
            "it is the update key of the product `demo`, and this one is `other`",
        ),
        (onto(";object=x", "missing.key", "again.key"), "cannot read missing.key"),
        (onto(";object=x", "update.key", "wrapped.key"), "wrapped.key is there already"),
        (onto(";object=x", "update.key", "nowhere/again.key"), "nowhere/again.key"),
    ] {
        let said = desk.bad(&line);
        assert!(said.contains(why) && said.contains("\n  cure  "), "{line}: {said}");
        assert!(!desk.path("again.key").exists());
    }
    // None of them left a key on the token. An `id` is what Kiln says, and the file opens.
    desk.good(&onto(";object=x;id=%01", "update.key", "again.key"));
    desk.good(&format!("{VERIFY} --update-key again.key"));
    // What a token wraps does not come out under a passphrase.
    let output = desk.run("update-key open.key --product demo --from wrapped.key");
    assert_eq!(output.status.code(), Some(2));
    assert!(!desk.path("open.key").exists());
}

#[test]
fn a_wrapped_update_key_opens_with_its_own_key_of_the_token_only() {
    let (desk, _) = production();
    let wrap = |file: &str| format!("update-key {file} --product demo --pkcs11 {}", token::uri());
    desk.good(&wrap("wrapped.key"));
    let verify = "verify r1 --root keys/owner-root.pub.pem --update-key";
    let (config, verified) = (UPDATE.replace("update.key", "wrapped.key"), format!("{verify} wrapped.key"));
    desk.put("kiln.toml", CONFIG.replacen("[stages]", &format!("{config}[stages]"), 1).as_bytes());
    desk.good(RELEASE);
    desk.good(&verified);
    let text = fs::read_to_string(desk.path("wrapped.key")).unwrap();
    let (label, sound) = pem_rfc7468::decode_vec(text.as_bytes()).unwrap();
    let refused = |bytes: &[u8]| {
        let pem = pem_rfc7468::encode_string(label, pem_rfc7468::LineEnding::LF, bytes).unwrap();
        desk.put("altered.key", pem.as_bytes());
        let said = desk.bad(&format!("{verify} altered.key"));
        assert!(said.contains("\n  cure  ") && !said.contains(token::PIN), "{said}");
        said
    };
    // The root and three roles have pairs there, and what wraps is one more key.
    token::given_out(&desk, 4 + 1, || {
        let said = desk.bad(&verified);
        assert!(said.contains("wrapped.key: pkcs11:") && said.contains("would give the key out"), "{said}");
        assert!(said.contains("kiln update-key NEW"), "{said}");
    });
    // One bit of each byte: of the form, of the key's name, of the nonce, of what is encrypted.
    let mut reasons = std::collections::BTreeMap::<_, u32>::new();
    for at in 0..sound.len() {
        let mut altered = sound.clone();
        altered[at] ^= 1 << (at % 8);
        let said = refused(&altered);
        let known = [
            "altered.key: it holds no update key",
            "altered.key: no update key comes out with the key on the token",
            "there is no such token",
            "there is no such key on the token",
            "the PKCS#11 module cannot be loaded",
            "the URI cannot be used",
        ];
        let reason = known.iter().find(|reason| said.contains(**reason));
        *reasons.entry(*reason.unwrap_or_else(|| panic!("{at}: {said}"))).or_default() += 1;
    }
    // The nonce and all that is encrypted: 12 bytes, and no fewer than key, name of the product and tag.
    assert!(
        reasons["altered.key: no update key comes out with the key on the token"] > 12 + 32 + 4 + 16,
        "{reasons:?}"
    );
    assert_eq!(reasons.len(), 6, "{reasons:?}");

    // Another key under the name of the first.
    token::softhsm(&desk, &["--delete-token", "--token", "an owner"]);
    let initialize =
        ["--init-token", "--free", "--label", "an owner", "--so-pin", token::PIN, "--pin", token::PIN];
    token::softhsm(&desk, &initialize);
    let said = desk.bad(&verified);
    assert!(said.contains("there is no such key on the token"), "{said}");
    assert!(said.contains("the token that `kiln update-key` made the wrapping key on"), "{said}");
    desk.good(&wrap("other.key"));
    let said = desk.bad(&verified);
    assert!(said.contains("wrapped.key: no update key comes out with the key on the token"), "{said}");
    assert!(said.contains("\n  cure  "), "{said}");
}

/// Runs with the interpreter that `KILN_PYTHON` names, which has `pycose`; `cargo xtask test` provides one.
#[test]
fn a_token_opens_what_an_independent_library_wrapped_under_its_key() {
    let python = std::env::var("KILN_PYTHON")
        .expect("KILN_PYTHON names an interpreter with pycose: run `cargo xtask test`, which sets it up");
    let (desk, configure) = production();
    // As text, since `softhsm2-util` reads a key to its first zero.
    let aes = hex(&random::<16>());
    for (label, key) in [("theirs", &aes[..]), ("short", &aes[..16])] {
        desk.put("aes.key", key.as_bytes());
        let import = ["--import", "aes.key", "--aes", "--token", "an owner", "--pin", token::PIN];
        token::softhsm(&desk, &[&import[..], &["--label", label, "--id", "01"]].concat());
    }
    release::UpdateKey::read_or_make(&desk.path("clear.key"), "demo").unwrap();
    let clear = fs::read_to_string(desk.path("clear.key")).unwrap();
    let (_, secret) = pem_rfc7468::decode_vec(clear.as_bytes()).unwrap();

    let uri = token::uri().replacen('?', ";object=theirs;id=%01;type=secret-key?", 1);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/wrap_update_key.py");
    for (file, uri) in [("wrapped.key", uri.clone()), ("short.key", uri.replacen("theirs", "short", 1))] {
        let made = Command::new(&python)
            .arg(script)
            .args([&uri, &hex(aes.as_bytes()), &hex(&secret)])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        desk.put(file, &made.stdout);
    }
    configure(&desk, "short.key");
    let said = desk.bad("release --out r1");
    assert!(said.contains("short.key: pkcs11:") && said.contains("no AES key of 256 bits"), "{said}");
    configure(&desk, "wrapped.key");
    desk.good("release --out r1");
    for key in ["wrapped.key", "clear.key"] {
        desk.good(&format!("{VERIFY} --update-key {key}"));
    }
}
