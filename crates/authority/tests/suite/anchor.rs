//! The anchor: books that were set back are noticed, and nothing is told that it does not cover.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use authority::storage::{Filter, StorageError};
use authority::{AnchorError, AnchorFile, Authority, Config, Error, Ledger, Refusal, Rollback};
use boot_crypto::host::random;
use fail_code::FailCode;

use crate::common::{LOT, Rig, config, copy_folder};
use crate::process::{Service, credentials, serve};

fn anchor(folder: &Path) -> PathBuf {
    folder.join("anchor")
}

fn anchored(folder: &Path, new: bool) -> Config {
    Config { anchor: Some(AnchorFile { path: anchor(folder), new }), ..config(folder) }
}

/// Opens the authority in a folder with its anchor, and returns how that failed.
async fn failure(folder: &Path) -> AnchorError {
    let error = Authority::open(anchored(folder, false)).await.map(|_| ()).unwrap_err();
    assert!(!error.cure().is_empty());
    match error {
        Error::Storage(StorageError::Anchor(error)) => error,
        other => panic!("{other}"),
    }
}

/// An authority with an anchor, and one ticket given.
async fn rig() -> Rig {
    let rig = Rig::new(3).await;
    rig.authority.close().await;
    let authority = Arc::new(Authority::open(anchored(rig.folder.path(), true)).await.unwrap());
    let rig = Rig { authority, ..rig };
    grant(&rig).await.unwrap();
    rig
}

/// Has one more die ask for a ticket.
async fn grant(rig: &Rig) -> Result<Vec<u8>, Refusal> {
    rig.ticket(&rig.factory.die().unwrap().request(random()).unwrap()).await
}

fn keep(rig: &Rig, name: &str) -> PathBuf {
    let copy = rig.folder.path().join(name);
    copy_folder(&config(rig.folder.path()).data, &copy);
    copy
}

fn bring_back(rig: &Rig, copy: &Path) {
    let data = config(rig.folder.path()).data;
    fs::remove_dir_all(&data).unwrap();
    copy_folder(copy, &data);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_was_set_back_is_refused_however_it_was_copied() {
    let rig = rig().await;
    // While it runs, with its write-ahead log, and after it was closed.
    let live = keep(&rig, "live");
    rig.authority.close().await;
    let closed = keep(&rig, "closed");
    let rig = Rig {
        authority: Arc::new(Authority::open(anchored(rig.folder.path(), false)).await.unwrap()),
        ..rig
    };
    grant(&rig).await.unwrap();
    grant(&rig).await.unwrap();
    rig.authority.close().await;
    let newest = keep(&rig, "newest");
    for copy in [&live, &closed] {
        bring_back(&rig, copy);
        let error = failure(rig.folder.path()).await;
        let AnchorError::SetBack { anchor, database, .. } = error else { panic!("{error:?}") };
        assert_eq!(anchor, database + 2);
        let books = Ledger::open(&config(rig.folder.path()).data, None).await.unwrap();
        assert_eq!(books.rollback(), Rollback::Unprotected);
        assert_eq!(books.lot(LOT).await.unwrap().issued, 1, "the control: without the anchor nobody notices");
        books.close().await;
    }
    bring_back(&rig, &newest);
    let rig = Rig {
        authority: Arc::new(Authority::open(anchored(rig.folder.path(), false)).await.unwrap()),
        ..rig
    };
    assert_eq!(grant(&rig).await.unwrap_err().code, FailCode::QuotaExhausted);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_anchor_that_is_behind_follows_and_one_that_lies_elsewhere_is_refused() {
    let rig = rig().await;
    let path = anchor(rig.folder.path());
    let behind = fs::read(&path).unwrap();
    let copy = keep(&rig, "copy");
    grant(&rig).await.unwrap();
    rig.authority.close().await;
    let newest = fs::read(&path).unwrap();
    assert_ne!(behind, newest);
    // As after a crash between commit and anchor.
    fs::write(&path, &behind).unwrap();
    Authority::open(anchored(rig.folder.path(), false)).await.unwrap().close().await;
    assert_eq!(fs::read(&path).unwrap(), newest);

    // The copy goes another way, as far as the anchor and further.
    bring_back(&rig, &copy);
    let other = Authority::open(config(rig.folder.path())).await.unwrap();
    for _ in 0..2 {
        other.issue_station("another").await.unwrap();
    }
    other.close().await;
    let error = failure(rig.folder.path()).await;
    assert!(matches!(error, AnchorError::Forked { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_anchor_of_another_authority_is_refused() {
    let (one, other) = (rig().await, rig().await);
    one.authority.close().await;
    fs::copy(anchor(other.folder.path()), anchor(one.folder.path())).unwrap();
    let error = failure(one.folder.path()).await;
    assert!(matches!(error, AnchorError::Foreign(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_anchor_that_is_cut_changed_or_junk_is_refused() {
    let rig = rig().await;
    rig.authority.close().await;
    let path = anchor(rig.folder.path());
    let good = fs::read(&path).unwrap();
    // All lengths and digits are tried where the file is read.
    for case in [&[][..], &good[..good.len() / 2], &[0; 300], &[b'9'; 5000], b"{}"] {
        fs::write(&path, case).unwrap();
        let error = failure(rig.folder.path()).await;
        assert!(matches!(error, AnchorError::Malformed { .. }), "{error}");
    }
    fs::write(&path, good).unwrap();
    Authority::open(anchored(rig.folder.path(), false)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_anchor_is_begun_only_where_that_is_said() {
    let rig = rig().await;
    rig.authority.close().await;
    let (folder, path) = (rig.folder.path(), anchor(rig.folder.path()));
    let again = Authority::open(anchored(folder, true)).await.map(|_| ());
    assert!(matches!(again, Err(Error::Storage(StorageError::Anchor(AnchorError::Exists(_))))), "{again:?}");
    fs::remove_file(&path).unwrap();
    assert!(matches!(failure(folder).await, AnchorError::Missing(_)));
    assert!(!path.exists(), "it was made without being asked for");
    let authority = Authority::open(anchored(folder, true)).await.unwrap();
    assert_eq!(authority.ledger().rollback(), Rollback::Protected);
    let last = authority.ledger().audit(&Filter { limit: Some(1), ..Filter::default() }).await.unwrap();
    assert_eq!(last[0].event, "anchored");
    authority.close().await;

    let inside = AnchorFile { path: config(folder).data.join("anchor"), new: true };
    let opened = Authority::open(Config { anchor: Some(inside), ..config(folder) }).await.map(|_| ());
    assert!(
        matches!(opened, Err(Error::Storage(StorageError::Anchor(AnchorError::Inside(_))))),
        "{opened:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_told_that_the_anchor_does_not_cover() {
    let rig = rig().await;
    let copy = keep(&rig, "copy");
    let request = rig.factory.die().unwrap().request(random()).unwrap();
    // Where the new anchor would be written there is something else.
    let new = rig.folder.path().join("anchor.new");
    fs::create_dir(&new).unwrap();
    for _ in 0..3 {
        let refusal = rig.ticket(&request).await.unwrap_err();
        assert_eq!(refusal.code, FailCode::StorageFailed, "{refusal}");
        assert!(refusal.detail.contains("anchor"), "{refusal}");
    }
    assert_eq!(rig.counts().await.0, 2, "the install is in the books, and not told");
    fs::remove_dir(&new).unwrap();
    let ticket = rig.ticket(&request).await.unwrap();
    assert_eq!(rig.ticket(&request).await.unwrap(), ticket);
    assert_eq!(rig.counts().await.0, 2);

    // The anchor is taken away, and put back, under a service that runs.
    let path = anchor(rig.folder.path());
    let kept = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let refusal = grant(&rig).await.unwrap_err();
    assert_eq!(refusal.code, FailCode::StorageFailed, "{refusal}");
    fs::write(&path, kept).unwrap();
    assert_eq!(rig.ticket(&request).await.unwrap(), ticket);

    rig.authority.close().await;
    bring_back(&rig, &copy);
    assert!(matches!(failure(rig.folder.path()).await, AnchorError::SetBack { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_that_write_to_one_database_share_its_anchor() {
    let rig = rig().await;
    let tls = credentials(&rig.authority).await;
    let mut command = serve(rig.folder.path());
    let mut service = Service::launch(command.arg("--anchor").arg(anchor(rig.folder.path()))).unwrap();
    assert_eq!(service.rollback, "rollback-protected");
    let mut client = service.connect(&tls).await.unwrap();
    for turn in 0..10 {
        let request = rig.factory.die().unwrap().request(random()).unwrap();
        let (status, _) = client.post(&format!("/v1/lots/{LOT}/tickets"), request).await.unwrap();
        assert_eq!(status.is_success(), turn < 2, "turn {turn}: {status}");
        rig.authority.issue_station("another").await.unwrap();
    }
    service.kill();
    rig.authority.close().await;
    let authority = Authority::open(anchored(rig.folder.path(), false)).await.unwrap();
    assert_eq!(authority.ledger().lot(LOT).await.unwrap().issued, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_anchor_the_service_says_so_and_a_second_service_is_refused() {
    let rig = Rig::new(1).await;
    let service = Service::start(rig.folder.path());
    assert_eq!(service.rollback, "rollback-unprotected");
    let log = rig.folder.path().join("log");
    let mut second = serve(rig.folder.path());
    let second = Service::launch(second.stderr(fs::File::create(&log).unwrap())).map(|_| ()).unwrap_err();
    let said = fs::read_to_string(log).unwrap();
    assert_eq!(second.code(), Some(1), "{said}");
    assert!(said.contains("another service serves") && said.contains("cure"), "{said}");
}
