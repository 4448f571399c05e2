//! A disk that is full, or fails, under a service that runs.
//!
//! Both are had without a mount and without root's rights. `ulimit -f` makes the kernel refuse every write beyond a
//! length, in whatever file, with EFBIG: for SQLite an I/O error in the middle of its work. `max_page_count` makes SQLite
//! find its disk full (SQLITE_FULL) as a file system without room does. Files are cut or overwritten while they are open.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use authority::client::Client;
use boot_crypto::host::random;
use factory_proto::{Message, Refusal};
use fail_code::FailCode;

use super::books::{As, Books, Given, QUOTA, TAKEN, Verdict, anchored};
use super::{Must, Tally};
use crate::common::{LOT, config};
use crate::process::{Service, serve};

/// How long a service may be silent.
const PATIENCE: Duration = Duration::from_secs(40);
/// Dies that ask under the fault.
const DIES: usize = 5;

/// Runs a service under a fault, has dies ask it, ends it, and judges the books without the fault.
async fn under(
    tally: &mut Tally,
    books: &Books,
    (kind, name, must): (&str, &str, Must),
    fault: impl FnOnce(&Path, Command) -> Command,
    while_it_runs: impl FnOnce(&Path),
) -> usize {
    let folder = books.lay(As::Killed);
    let mut command = serve(folder.path());
    command.arg("--anchor").arg(folder.path().join("anchor"));
    let mut command = fault(folder.path(), command);
    let log = folder.path().join("log");
    command.stderr(fs::File::create(&log).unwrap());
    let (mut given, mut refused) = (Vec::new(), 0);
    match Service::launch(&mut command) {
        Ok(mut service) => {
            while_it_runs(&config(folder.path()).data);
            for _ in 0..DIES {
                let die = books.factory.die().unwrap();
                let body = die.request(random()).unwrap();
                match ask(books, &service, &body).await {
                    Some((true, answer)) => given.push(Given { question: Message::Request, body, answer }),
                    Some((false, answer)) => {
                        let code = Refusal::decode(&answer).unwrap().code;
                        let exhausted = code == FailCode::QuotaExhausted.number();
                        assert!(exhausted || code == FailCode::StorageFailed.number(), "{name}: {code}");
                        refused += usize::from(!exhausted);
                    }
                    None => refused += 1,
                }
            }
            service.kill();
        }
        Err(status) => {
            let said = fs::read_to_string(&log).unwrap();
            assert!(status.code() == Some(1) && said.contains("cure"), "{name}: {status}: {said}");
            refused = DIES;
        }
    }
    let verdict = if given.len() + TAKEN > QUOTA {
        Verdict::Violation(format!("{} grants of {QUOTA}", given.len() + TAKEN))
    } else {
        books.judge(anchored(folder.path()), &given).await
    };
    tally.take(kind, name, must, verdict);
    refused
}

async fn ask(books: &Books, service: &Service, body: &[u8]) -> Option<(bool, Vec<u8>)> {
    let asked = async {
        let mut client = Client::connect(service.address, books.tls.clone()).await.ok()?;
        client.post(&format!("/v1/lots/{LOT}/tickets"), body.to_vec()).await.ok()
    };
    let (status, answer) = tokio::time::timeout(PATIENCE, asked).await.expect("the service is silent")?;
    Some((status.is_success(), answer.to_vec()))
}

/// Wraps a command so that no file can grow beyond so many blocks of 512 bytes, and writing there is an error.
fn limited(blocks: u32, command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' XFSZ; ulimit -f \"$1\"; shift; exec \"$@\"", "sh", &blocks.to_string()]);
    shell.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell.stdin(Stdio::null());
    shell
}

pub(super) async fn a_disk_that_fails(tally: &mut Tally, books: &Books) {
    let file = |name: &str| fs::metadata(books.files(As::Killed).join("authority").join(name)).unwrap().len();
    let (pages, log) = (u32::try_from(file("authority.db") / 4096).unwrap(), file("authority.db-wal"));
    let mut refused = 0;
    // From next to no room (the last words of the service need some) to enough for some of the dies.
    let blocks = u32::try_from(log / 512).unwrap();
    for limit in [4, 8, 63, 64, 65, blocks, blocks + 8, blocks + 24, blocks + 60, blocks + 120, blocks + 200]
    {
        let name = format!("no file beyond {limit} blocks");
        refused += under(
            tally,
            books,
            ("write fails", &name, Must::Hold),
            |_, command| limited(limit, &command),
            |_| {},
        )
        .await;
    }
    assert!(refused >= 20, "only {refused} dies met a disk that fails");

    let mut refused = 0;
    for more in [0, 1, 2, 4, 8] {
        let name = format!("no more than {pages} + {more} pages");
        let full = |_: &Path, mut command: Command| {
            command.env("KILN_MAX_PAGES", (pages + more).to_string());
            command
        };
        refused += under(tally, books, ("disk full", &name, Must::Hold), full, |_| {}).await;
    }
    assert!(refused >= 5, "only {refused} dies met a full disk");

    let same = |_: &Path, command: Command| command;
    for (name, length) in [("to nothing", 0), ("to a page", 4096), ("to three pages", 12_288)] {
        let cut = |data: &Path| {
            fs::OpenOptions::new()
                .write(true)
                .open(data.join("authority.db"))
                .unwrap()
                .set_len(length)
                .unwrap();
        };
        under(tally, books, ("cut while open", name, Must::RefuseOrHold), same, cut).await;
    }
    for page in [0, 1, 5, 9] {
        let junk = |data: &Path| {
            let file = fs::OpenOptions::new().write(true).open(data.join("authority.db")).unwrap();
            file.write_all_at(&[0xA5; 4096], page * 4096).unwrap();
        };
        let name = format!("page {page}");
        under(tally, books, ("overwritten while open", &name, Must::RefuseOrHold), same, junk).await;
    }
    let take = |data: &Path| fs::remove_file(data.join("../anchor")).unwrap();
    let refused = under(tally, books, ("anchor gone", "while open", Must::Refuse), same, take).await;
    assert_eq!(refused, DIES);
    let block = |data: &Path| fs::create_dir(data.join("../anchor.new")).unwrap();
    let refused =
        under(tally, books, ("anchor cannot be written", "while open", Must::Refuse), same, block).await;
    assert_eq!(refused, DIES);
}
