//! Storage that fails: whatever happens to its files, the authority refuses, or answers exactly as before.

mod books;
mod disk;
mod edits;

use std::fs;
use std::path::{Path, PathBuf};

use boot_crypto::host::random;
use figures::{Figure, scaled};

use crate::common::{Rig, config};
use books::{As, Books, Verdict, anchored};

/// Cases that are due.
const DUE: (u64, u64) = (60, 600);
/// Lengths to which each file is cut, and bits that are flipped in it.
const SAMPLES: (usize, usize) = (24, 300);

/// What is wanted of books after a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Must {
    /// They are refused.
    Refuse,
    /// They are refused, or nothing of them is lost: not every byte of a file means something.
    RefuseOrHold,
    /// Nothing of them is lost.
    Hold,
}

/// What the cases came to.
#[derive(Default)]
struct Tally {
    cases: u64,
    refused: u64,
    whole: u64,
    kinds: Vec<(String, u64)>,
    violations: Vec<String>,
}

impl Tally {
    fn take(&mut self, kind: &str, name: &str, must: Must, verdict: Verdict) {
        self.cases += 1;
        match self.kinds.iter_mut().find(|(known, _)| known == kind) {
            Some((_, cases)) => *cases += 1,
            None => self.kinds.push((kind.to_owned(), 1)),
        }
        match (verdict, must) {
            (Verdict::Refused(_), Must::Refuse | Must::RefuseOrHold) => self.refused += 1,
            (Verdict::Whole, Must::Hold | Must::RefuseOrHold) => self.whole += 1,
            (verdict, _) => self.violations.push(format!("{kind} {name}: {verdict:?}")),
        }
    }

    fn report(&self) {
        let kinds: Vec<_> = self.kinds.iter().map(|(kind, cases)| format!("{cases} {kind}")).collect();
        Figure::new("authority storage faults", "cases", scaled(DUE.0, DUE.1))
            .ran(self.cases)
            .violations(&self.violations)
            .note(format!("{} refused, {} held; {}", self.refused, self.whole, kinds.join(", ")))
            .report();
    }
}

/// Lays books, has something happen to their files, and judges them.
async fn case(
    tally: &mut Tally,
    books: &Books,
    lying: As,
    (kind, name, must): (&str, &str, Must),
    fault: impl FnOnce(&Path),
) {
    let folder = books.lay(lying);
    fault(&config(folder.path()).data);
    let verdict = books.judge(anchored(folder.path()), &[]).await;
    tally.take(kind, name, must, verdict);
}

fn number(below: usize) -> usize {
    u32::from_le_bytes(random()) as usize % below
}

/// Lengths that are special, and some that are not; all below `length`.
fn lengths(length: usize) -> Vec<usize> {
    let special = [0, 1, 15, 16, 31, 32, 56, 99, 100, 101, 512, 1024, 4095, 4096, 4097, 8192];
    let cut = [1, 2, 24, 100, 4096, 4120].map(|less: usize| length.saturating_sub(less));
    let sampled = (0..scaled(SAMPLES.0, SAMPLES.1)).map(|_| number(length));
    special.into_iter().chain(cut).chain(sampled).filter(|cut| *cut < length).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_to_its_files_the_authority_refuses_or_answers_as_before() {
    let books = Books::new().await;
    let mut tally = Tally::default();
    for lying in [As::Closed, As::Killed] {
        let name = format!("{lying:?}");
        case(&mut tally, &books, lying, ("untouched", &name, Must::Hold), |_| {}).await;
    }
    files_that_are_cut_and_flipped(&mut tally, &books).await;
    files_of_another_time(&mut tally, &books).await;
    files_that_are_something_else(&mut tally, &books).await;
    edits::rows_that_were_changed(&mut tally, &books).await;
    disk::a_disk_that_fails(&mut tally, &books).await;
    tally.report();
}

async fn files_that_are_cut_and_flipped(tally: &mut Tally, books: &Books) {
    for (lying, file) in
        [(As::Closed, "authority.db"), (As::Killed, "authority.db"), (As::Killed, "authority.db-wal")]
    {
        let length = fs::read(books.files(lying).join("authority").join(file)).unwrap().len();
        for cut in lengths(length) {
            let name = format!("{file} ({lying:?}) to {cut} of {length}");
            // Where the log holds every page again, it does not matter what was in the database.
            let must = if matches!(lying, As::Killed) && file == "authority.db" {
                Must::RefuseOrHold
            } else {
                Must::Refuse
            };
            case(tally, books, lying, ("cut", &name, must), |data| {
                fs::OpenOptions::new()
                    .write(true)
                    .open(data.join(file))
                    .unwrap()
                    .set_len(cut as u64)
                    .unwrap();
            })
            .await;
        }
        for _ in 0..scaled(SAMPLES.0, SAMPLES.1) {
            let (at, bit) = (number(length), number(8));
            let name = format!("{file} ({lying:?}) bit {bit} of byte {at}");
            case(tally, books, lying, ("flipped", &name, Must::RefuseOrHold), |data| {
                let mut bytes = fs::read(data.join(file)).unwrap();
                bytes[at] ^= 1 << bit;
                fs::write(data.join(file), bytes).unwrap();
            })
            .await;
        }
        for page in (0..length / 4096).step_by(scaled(5, 1)) {
            for (what, byte) in [("zeros", 0), ("ones", 0xFF)] {
                let name = format!("{file} ({lying:?}) page {page} {what}");
                case(tally, books, lying, ("page lost", &name, Must::RefuseOrHold), |data| {
                    let mut bytes = fs::read(data.join(file)).unwrap();
                    bytes[page * 4096..][..4096].fill(byte);
                    fs::write(data.join(file), bytes).unwrap();
                })
                .await;
            }
        }
    }
}

async fn files_of_another_time(tally: &mut Tally, books: &Books) {
    let file = |lying: As, name: &str| fs::read(books.files(lying).join("authority").join(name)).unwrap();
    let log = "authority.db-wal";
    let kind = "of another time";
    case(tally, books, As::Killed, (kind, "no log", Must::Refuse), |data| {
        fs::remove_file(data.join(log)).unwrap()
    })
    .await;
    for (lying, from) in [(As::Closed, As::Older), (As::Killed, As::Older)] {
        let name = format!("log of {from:?} with the database of {lying:?}");
        let bytes = file(from, log);
        case(tally, books, lying, (kind, &name, Must::Refuse), |data| {
            fs::write(data.join(log), bytes).unwrap()
        })
        .await;
    }
    // The same pages that are in the database already.
    let bytes = file(As::Killed, log);
    case(
        tally,
        books,
        As::Closed,
        (kind, "log of Killed with the database of Closed", Must::RefuseOrHold),
        |data| {
            fs::write(data.join(log), bytes).unwrap();
        },
    )
    .await;
    let bytes = file(As::Older, "authority.db");
    case(tally, books, As::Closed, (kind, "database of Older", Must::Refuse), |data| {
        fs::write(data.join("authority.db"), bytes).unwrap();
    })
    .await;
    let other = Rig::new(1).await;
    for lying in [As::Closed, As::Killed] {
        let theirs = fs::read(config(other.folder.path()).data.join(log)).unwrap();
        let name = format!("log of another authority with {lying:?}");
        case(tally, books, lying, (kind, &name, Must::Refuse), |data| {
            fs::write(data.join(log), theirs).unwrap()
        })
        .await;
    }
    let shared = "authority.db-shm";
    for (name, bytes) in
        [("empty", vec![]), ("junk", vec![0xA5; 32768]), ("of Older", file(As::Older, shared))]
    {
        let name = format!("shared memory {name}");
        case(tally, books, As::Killed, (kind, &name, Must::Hold), |data| {
            fs::write(data.join(shared), bytes).unwrap()
        })
        .await;
    }
}

async fn files_that_are_something_else(tally: &mut Tally, books: &Books) {
    let folder = |path: PathBuf| {
        let _ = fs::remove_file(&path);
        fs::create_dir(path).unwrap();
    };
    let kind = "something else";
    for (file, lying) in [
        ("authority.db", As::Closed),
        ("authority.db-wal", As::Closed),
        ("authority.db-shm", As::Closed),
        ("../anchor", As::Closed),
        ("../anchor.lock", As::Closed),
    ] {
        let name = format!("{file} is a folder");
        case(tally, books, lying, (kind, &name, Must::Refuse), |data| folder(data.join(file))).await;
    }
    for file in ["authority.db", "authority.db-wal", "../anchor"] {
        let name = format!("{file} leads to itself");
        case(tally, books, As::Closed, (kind, &name, Must::Refuse), |data| {
            let _ = fs::remove_file(data.join(file));
            std::os::unix::fs::symlink(data.join(file), data.join(file)).unwrap();
        })
        .await;
    }
    for file in ["authority.db", "../anchor"] {
        let name = format!("{file} is gone");
        case(tally, books, As::Closed, (kind, &name, Must::Refuse), |data| {
            fs::remove_file(data.join(file)).unwrap()
        })
        .await;
        let name = format!("{file} is a text");
        case(tally, books, As::Closed, (kind, &name, Must::Refuse), |data| {
            fs::write(data.join(file), "SQLite format 3, or what else one might write").unwrap();
        })
        .await;
    }
    case(tally, books, As::Closed, (kind, "the folder is gone", Must::Refuse), |data| {
        fs::remove_dir_all(data).unwrap()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn books_that_cannot_be_written_to_are_refused_at_the_start() {
    let books = Books::new().await;
    let folder = books.lay(As::Closed);
    let shared = config(folder.path()).data.join("authority.db-shm");
    let _ = fs::remove_file(&shared);
    fs::create_dir(shared).unwrap();
    let verdict = books.judge(anchored(folder.path()), &[]).await;
    let Verdict::Refused(why) = verdict else { panic!("{verdict:?}") };
    assert!(why.contains("readonly"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rig_sees_what_is_lost_where_nothing_refuses() {
    // The control: older books without an anchor open well, and have forgotten.
    let books = Books::new().await;
    let folder = books.lay(As::Older);
    let verdict = books.judge(config(folder.path()), &[]).await;
    assert!(matches!(&verdict, Verdict::Violation(_)), "{verdict:?}");
    let mut tally = Tally::default();
    tally.take("control", "older", Must::RefuseOrHold, verdict);
    assert_eq!((tally.cases, tally.violations.len()), (1, 1));
}
