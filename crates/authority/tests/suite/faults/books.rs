//! Books that are known from end to end, and what must be true of them after anything has happened to their files.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use authority::model::Factory;
use authority::{AnchorFile, Authority, Config, Station};
use boot_crypto::host::random;
use factory_proto::{Message, Refusal};
use fail_code::FailCode;
use rustls::ClientConfig;
use tempfile::TempDir;

use crate::common::{LOT, Rig, config, copy_folder};
use crate::process::credentials;

/// Installs of the lot.
pub(super) const QUOTA: usize = 6;
/// Installs that are taken in the known books.
pub(super) const TAKEN: usize = 3;

/// A question, and the answer that was given to it.
pub(super) struct Given {
    pub(super) question: Message,
    pub(super) body: Vec<u8>,
    pub(super) answer: Vec<u8>,
}

/// Known books, as files: a reserved, a certified and a closed install, a refusal, an anchor.
pub(super) struct Books {
    folder: TempDir,
    pub(super) factory: Factory,
    pub(super) station: Station,
    pub(super) tls: Arc<ClientConfig>,
    pub(super) given: Vec<Given>,
}

/// How the known books lie on the disk.
#[derive(Clone, Copy, Debug)]
pub(super) enum As {
    /// The authority was closed: all is in the database.
    Closed,
    /// It was killed: the newest is in the write-ahead log.
    Killed,
    /// It was killed, before the last install was taken.
    Older,
}

/// What came of books after a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// They were refused, with cause and cure.
    Refused(String),
    /// They are as they were.
    Whole,
    /// What must not be.
    Violation(String),
}

impl Books {
    pub(super) async fn new() -> Self {
        let rig = Rig::new(QUOTA as u32).await;
        let tls = credentials(&rig.authority).await;
        rig.authority.close().await;
        let keep = tempfile::tempdir().unwrap();
        let anchored = |new| {
            let anchor = Some(AnchorFile { path: rig.folder.path().join("anchor"), new });
            Config { anchor, ..config(rig.folder.path()) }
        };
        let authority = Arc::new(Authority::open(anchored(true)).await.unwrap());
        let rig = Rig { authority: authority.clone(), ..rig };
        let mut given = Vec::new();
        for way in 0..TAKEN {
            if way + 1 == TAKEN {
                snapshot(rig.folder.path(), &keep.path().join(As::Older.name()));
            }
            let (die, nonce) = (rig.factory.die().unwrap(), random());
            let body = die.request(nonce).unwrap();
            let ticket = rig.ticket(&body).await.unwrap();
            given.push(Given { question: Message::Request, body, answer: ticket.clone() });
            if way == 0 {
                continue;
            }
            let body = die.csr(nonce, &ticket).unwrap();
            let answer = authority.receipt(&rig.station, &body).await.unwrap();
            given.push(Given { question: Message::Csr, body, answer });
            if way == 1 {
                continue;
            }
            let body = rig.proof(&die, &die.open(nonce, &ticket).unwrap().install);
            let answer = authority.release(&rig.station, &body).await.unwrap();
            given.push(Given { question: Message::ClosingProof, body, answer });
        }
        rig.ticket(b"junk").await.unwrap_err();
        snapshot(rig.folder.path(), &keep.path().join(As::Killed.name()));
        authority.close().await;
        snapshot(rig.folder.path(), &keep.path().join(As::Closed.name()));
        let Rig { factory, station, .. } = rig;
        Self { folder: keep, factory, station, tls, given }
    }

    /// Returns the files of the known books.
    pub(super) fn files(&self, lying: As) -> PathBuf {
        self.folder.path().join(lying.name())
    }

    /// Puts the known books into a folder of their own.
    pub(super) fn lay(&self, lying: As) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        snapshot(&self.files(lying), folder.path());
        folder
    }

    /// Opens books and holds all that they answer against what was given. `more` are further tickets that were given.
    pub(super) async fn judge(&self, config: Config, more: &[Given]) -> Verdict {
        let authority = match Authority::open(config).await {
            Ok(authority) => authority,
            Err(error) => return Verdict::Refused(format!("{error} ({})", error.cure())),
        };
        let found = self.compare(&authority, more).await;
        authority.close().await;
        found.map_or_else(Verdict::Violation, |()| Verdict::Whole)
    }

    async fn compare(&self, authority: &Authority, more: &[Given]) -> Result<(), String> {
        let answers = self.given.iter().chain(more);
        for Given { question, body, answer } in answers {
            let (message, again) = authority.handle(&self.station, LOT, *question, body).await;
            let closed = Refusal::decode(&again).is_ok_and(|told| told.code == FailCode::DieClosed.number());
            let same = Some(message) == question.answer() && again == *answer;
            if !(same || closed && self.is_closed(body)) {
                let told = Refusal::decode(&again).map(|told| (told.code, told.text.to_owned()));
                return Err(format!("another answer to a {}: {told:?}", question.name()));
            }
        }
        for place in TAKEN + more.len()..QUOTA + 2 {
            let request = self.factory.die().unwrap().request(random()).unwrap();
            let granted = authority.ticket(&self.station, LOT, &request).await;
            match (granted, place < QUOTA) {
                (Ok(_), true) => {}
                (Err(refusal), false) if refusal.code == FailCode::QuotaExhausted => {}
                (answer, _) => {
                    return Err(format!("install {place} of {QUOTA}: {:?}", answer.map(|_| "granted")));
                }
            }
        }
        let lot = authority.ledger().lot(LOT).await.map_err(|error| error.to_string())?;
        if lot.issued as usize == QUOTA { Ok(()) } else { Err(format!("{} issued", lot.issued)) }
    }

    /// Tells whether this is the request of the die that is closed.
    fn is_closed(&self, body: &[u8]) -> bool {
        let last = self.given.iter().rfind(|given| given.question == Message::Request);
        last.is_some_and(|given| given.body == body)
    }
}

impl As {
    const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Killed => "killed",
            Self::Older => "older",
        }
    }
}

/// Describes the authority in a folder, with its anchor.
pub(super) fn anchored(folder: &Path) -> Config {
    let anchor = Some(AnchorFile { path: folder.join("anchor"), new: false });
    Config { anchor, ..config(folder) }
}

fn snapshot(from: &Path, to: &Path) {
    copy_folder(&config(from).data, &config(to).data);
    fs::copy(from.join("anchor"), to.join("anchor")).unwrap();
}
