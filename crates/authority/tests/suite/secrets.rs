//! Secrets at rest: none lies open in the authority's folder, nor in what it answers and prints.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use authority::storage::Storage as _;
use authority::storage::sqlite::Sqlite;
use authority::{Authority, Config, Error, KeyEncryption as _, LocalKey, SealError};
use base64ct::{Base64, Encoding as _};
use boot_crypto::host::random;
use boot_crypto::{EcKey, Key};
use release::audit::LeakScan;

use crate::common::{KEK, LOT, Rig, config, hex};

/// Opens every key of an authority with its key-encryption key, and returns the private scalars.
pub(crate) async fn scalars(folder: &Path) -> Vec<(String, [u8; 32])> {
    let kek = LocalKey::new(Key::new(KEK));
    let database = Sqlite::open(&config(folder).data.join("authority.db")).await.unwrap();
    let mut scalars = Vec::new();
    for name in ["signing", "device-ca", "tls-ca", "tls-server", "sealing"] {
        let row = database.read().await.unwrap().key(name).await.unwrap().unwrap();
        let pem = kek.open(&format!("key {name}"), &row.sealed).unwrap();
        let lines = std::str::from_utf8(&pem).unwrap().lines().filter(|line| !line.starts_with('-'));
        let der = Base64::decode_vec(&lines.collect::<String>()).unwrap();
        // ECPrivateKey: version 1, then the scalar in an OCTET STRING.
        let at = der.windows(5).position(|bytes| bytes == [2, 1, 1, 4, 32]).unwrap() + 5;
        let scalar: [u8; 32] = der[at..at + 32].try_into().unwrap();
        assert_eq!(EcKey::from_scalar(&scalar).unwrap().public(), row.public, "{name} was read wrongly");
        scalars.push((name.to_owned(), scalar));
    }
    database.close().await;
    scalars
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_lies_open_in_the_folder_or_in_any_answer() {
    let rig = Rig::new(3).await;
    let die = rig.factory.die().unwrap();
    let nonce = random();
    let ticket = rig.ticket(&die.request(nonce).unwrap()).await.unwrap();
    let entropy = *die.open(nonce, &ticket).unwrap().entropy.expose();
    let install = rig.closed(&rig.factory.die().unwrap()).await;
    let scalars = scalars(rig.folder.path()).await;

    let mut secrets: Vec<(&str, &[u8])> =
        scalars.iter().map(|(name, key)| (name.as_str(), &key[..])).collect();
    secrets.push(("content key", &rig.factory.content_key));
    secrets.push(("entropy", &entropy));
    secrets.push(("key-encryption key", &KEK));
    let scan = LeakScan::new(&[], &secrets).unwrap();
    assert_eq!(scan.control(&[]), scan.patterns(), "the scan is blind");

    // While it runs, so that the write-ahead log is there too.
    let (mut files, mut bytes) = (0, 0);
    for entry in fs::read_dir(config(rig.folder.path()).data).unwrap() {
        let path = entry.unwrap().path();
        let content = fs::read(&path).unwrap();
        let found: Vec<_> = scan.scan(&content).iter().map(ToString::to_string).collect();
        assert!(found.is_empty(), "{}: {found:?}", path.display());
        files += 1;
        bytes += content.len();
    }
    assert!(files >= 2 && bytes > 50_000, "only {bytes} bytes in {files} files");
    let shown = rig.authority.ledger().install(&install).await.unwrap();
    let audit = rig.authority.ledger().audit(&Default::default()).await.unwrap();
    let said = [ticket, format!("{shown:?} {audit:?}").into_bytes()].concat();
    assert!(scan.scan(&said).is_empty());

    // The control: one secret in the clear, where a mistake would put it.
    let database = config(rig.folder.path()).data.join("authority.db");
    rig.authority.ledger().void([0; 32], &hex(&rig.factory.content_key)).await.unwrap_err();
    let control = rig.factory.die().unwrap();
    let (_, install) = rig.certified(&control).await;
    rig.authority.ledger().void(install, &hex(&rig.factory.content_key)).await.unwrap();
    rig.authority.close().await;
    assert!(!scan.scan(&fs::read(database).unwrap()).is_empty(), "a secret in the audit is not found");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_opens_with_its_own_key_only_and_its_files_are_its_owners() {
    use std::os::unix::fs::PermissionsExt as _;

    let rig = Rig::new(1).await;
    rig.authority.close().await;
    let other = Config { kek: Arc::new(LocalKey::new(Key::new([1; 32]))), ..config(rig.folder.path()) };
    let opened = Authority::open(other).await.map(|_| ());
    assert!(matches!(opened, Err(Error::Seal(SealError::OtherKey { .. }))), "{opened:?}");
    let again = Authority::init(config(rig.folder.path()), &[], None).await.map(|_| ());
    assert!(matches!(again, Err(Error::AlreadyInitialised(_))), "{again:?}");

    let folder = config(rig.folder.path()).data;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    assert_eq!(mode(&folder.join("authority.db")), 0o600);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_key_that_was_moved_to_another_lot_opens_nothing() {
    use sqlx::Connection as _;

    let rig = Rig::new(1).await;
    let mut dear = rig.factory.lot("dear", 1);
    dear.content_key = Key::new([0xDE; 32]);
    rig.authority.create_lot(dear).await.unwrap();
    let path = config(rig.folder.path()).data.join("authority.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
    let mut other = sqlx::sqlite::SqliteConnection::connect_with(&options).await.unwrap();
    let swap = "UPDATE lots SET content_key = (SELECT content_key FROM lots WHERE name = 'dear')";
    sqlx::query(swap).execute(&mut other).await.unwrap();
    let answer = rig.ticket(&rig.factory.die().unwrap().request(random()).unwrap()).await;
    assert_eq!(answer.unwrap_err().code, fail_code::FailCode::StorageFailed);
    assert_eq!(rig.counts().await, (0, 0), "{LOT}");
}

#[tokio::test(flavor = "multi_thread")]
async fn books_that_were_made_without_a_sealing_key_get_one_once_and_by_their_own_key_only() {
    let rig = Rig::without_lot().await;
    rig.authority.close().await;
    let path = |folder: &Path| config(folder).data.join("authority.db");
    // Books as an earlier release made them: with the other keys.
    let old = tempfile::tempdir().unwrap();
    fs::create_dir_all(config(old.path()).data).unwrap();
    let (from, to) = (
        Sqlite::open(&path(rig.folder.path())).await.unwrap(),
        Sqlite::create(&path(old.path())).await.unwrap(),
    );
    let mut tx = to.write().await.unwrap();
    for name in ["signing", "device-ca", "tls-ca", "tls-server"] {
        let row = from.read().await.unwrap().key(name).await.unwrap().unwrap();
        tx.insert_key(&row).await.unwrap();
    }
    tx.commit().await.unwrap();
    from.close().await;
    to.close().await;

    let other = Config { kek: Arc::new(LocalKey::new(Key::new([1; 32]))), ..config(old.path()) };
    let opened = Authority::open(other).await.map(|_| ());
    assert!(matches!(opened, Err(Error::Seal(SealError::OtherKey { .. }))), "{opened:?}");

    let mut found = Vec::new();
    for _ in 0..2 {
        let authority = Authority::open(config(old.path())).await.unwrap();
        assert_eq!(authority.signing_key(), rig.authority.signing_key());
        assert_ne!(authority.sealing_key(), rig.authority.sealing_key());
        let audit = authority.ledger().audit(&Default::default()).await.unwrap();
        let made = audit.iter().filter(|row| row.event == "key-made").count();
        found.push((authority.sealing_key(), made));
        authority.close().await;
    }
    assert_eq!(found[0], found[1], "the key is made once, and written down");
    assert_eq!(found[0].1, 1);
    assert_eq!(scalars(old.path()).await.len(), 5);
}

#[test]
fn a_key_on_the_command_line_is_not_possible() {
    let help = Command::new(env!("CARGO_BIN_EXE_kiln-authority")).args(["serve", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    assert!(help.contains("--kek-file <FILE>") && help.contains("--kek-env <NAME>"), "{help}");
}
