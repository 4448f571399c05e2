//! Whether a secret lies open in what an authority under fire leaves behind.

use std::fs;
use std::path::PathBuf;

use authority::Authority;
use authority::storage::Filter;
use figures::Figure;
use release::audit::LeakScan;

use super::{Fire, Way};
use crate::common::{KEK, config, copy_folder};
use crate::secrets::scalars;

/// Searches that are due: patterns times files.
const DUE: u64 = 5_000;

/// What was found, and in how much.
#[derive(Default)]
pub(super) struct Leaks {
    searches: u64,
    bytes: u64,
    files: u64,
    blind: u64,
    found: Vec<String>,
}

impl Leaks {
    /// Looks through database, write-ahead log, shared memory, anchor, the log of the services and what the commands
    /// print: for the content key, the key-encryption key, the authority's private keys and the secret of every ticket.
    pub(super) async fn look(&mut self, fire: &Fire, ways: &[Way]) {
        // As the last kill left them: opening the database would empty its log.
        let mut files: Vec<(PathBuf, Vec<u8>)> = Vec::new();
        for folder in [config(fire.path()).data, fire.path().into()] {
            for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
                if entry.file_type().unwrap().is_file() {
                    files.push((entry.path(), fs::read(entry.path()).unwrap()));
                }
            }
        }
        let is_there =
            |name: &str| files.iter().any(|(path, bytes)| path.ends_with(name) && !bytes.is_empty());
        assert!(["authority.db", "authority.db-wal", "anchor"].into_iter().all(is_there));
        files.push((PathBuf::from("printed"), printed(fire).await));

        let scalars = scalars(fire.path()).await;
        let entropy: Vec<[u8; 32]> = ways.iter().filter_map(|way| way.entropy).collect();
        assert_eq!(entropy.len(), super::QUOTA);
        let mut secrets: Vec<(&str, &[u8])> =
            scalars.iter().map(|(name, key)| (name.as_str(), &key[..])).collect();
        secrets.push(("content key", &fire.factory.content_key));
        secrets.push(("key-encryption key", &KEK));
        secrets.extend(entropy.iter().map(|entropy| ("entropy of a ticket", &entropy[..])));
        let scan = LeakScan::new(&[], &secrets).unwrap();
        for (path, bytes) in files {
            // The control: every pattern is planted in a copy of this very file, and must be found there.
            self.blind += (scan.patterns() - scan.control(&bytes)) as u64;
            let found = scan.scan(&bytes);
            self.found.extend(found.iter().map(|found| format!("{found} in {}", path.display())));
            self.searches += scan.patterns() as u64;
            self.files += 1;
            self.bytes += bytes.len() as u64;
        }
    }

    pub(super) fn report(self) {
        assert_eq!(self.blind, 0, "the scan is blind for planted secrets");
        Figure::new("authority leak scan", "searches", DUE)
            .ran(self.searches)
            .violations(&self.found)
            .note(format!(
                "{} files, {} KiB: database, write-ahead log, service log, anchor, printed books",
                self.files,
                self.bytes / 1024,
            ))
            .report();
    }
}

/// Returns all that the books tell in words.
async fn printed(fire: &Fire) -> Vec<u8> {
    let copy = tempfile::tempdir().unwrap();
    copy_folder(&config(fire.path()).data, &config(copy.path()).data);
    let authority = Authority::open(config(copy.path())).await.unwrap();
    let ledger = authority.ledger();
    let (audit, installs) =
        (ledger.audit(&Filter::default()).await, ledger.installs(&Filter::default()).await);
    let all = serde_json::json!({
        "lots": ledger.lots().await.unwrap(),
        "installs": installs.unwrap(),
        "audit": audit.unwrap(),
        "status": ledger.status().await.unwrap(),
    });
    authority.close().await;
    all.to_string().into_bytes()
}
