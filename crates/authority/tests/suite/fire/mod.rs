//! Quota under fire: two hundred dies ask for fifty installs, while the service is killed at every place and at random.
//!
//! Every kill is a SIGKILL. The places come from the one list that the code has, each in every stage that comes to it.
//! Afterwards the clients and the books must agree: the quota was granted, no more and no less; no die ever got another
//! answer to the same question; the books verify from end to end, and their anchor fits.

mod clients;
mod leaks;
mod plan;

use std::collections::{HashMap, HashSet};
use std::fs::{self, OpenOptions};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use authority::fail_point::FailPoint;
use authority::model::Factory;
use authority::storage::{Filter, State};
use authority::{AnchorFile, Authority, Config, Station};
use boot_crypto::host::random;
use factory_proto::{Message, Refusal};
use fail_code::FailCode;
use figures::{Figure, scaled};
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::common::{LOT, Rig, config, copy_folder};
use crate::process::{Service, credentials, serve};

use clients::{Answered, Field, Gates, Way};
use plan::{Death, Stage, deaths, stages};

const QUOTA: usize = 50;
const DIES: usize = 200;
/// Kills that are due.
const DUE: (u64, u64) = (100, 400);
/// Kills in each stage beyond one at each of its places.
const MORE: (usize, usize) = (8, 12);
/// How often the rig looks at the service.
const LOOK: Duration = Duration::from_millis(2);

/// An authority under fire, and the dies that ask it.
struct Fire {
    folder: TempDir,
    factory: Arc<Factory>,
    station: Station,
    anchored: bool,
    gates: Arc<Gates>,
    say: watch::Sender<Option<std::net::SocketAddr>>,
    told: mpsc::UnboundedReceiver<(Message, bool)>,
    ways: JoinHandle<Vec<Way>>,
    /// How many dies were let in to ask each question, and how many were told an answer.
    asked: HashMap<Message, usize>,
    answered: HashMap<Message, usize>,
    /// How many dies were told that they have an install.
    granted: usize,
    kills: Kills,
}

/// How the services ended.
#[derive(Default)]
struct Kills {
    at: HashMap<(Stage, FailPoint), u64>,
    after_reply: u64,
    at_random: u64,
    /// Those of a service that had nothing left to do, which count for nothing.
    idle: u64,
}

impl Kills {
    fn add(&mut self, other: &Self) {
        self.after_reply += other.after_reply;
        self.at_random += other.at_random;
        self.idle += other.idle;
        for (place, kills) in &other.at {
            *self.at.entry(*place).or_default() += kills;
        }
    }

    fn sum(&self) -> u64 {
        self.at.values().sum::<u64>() + self.after_reply + self.at_random
    }
}

impl Fire {
    /// Makes an authority whose one lot has the quota, and dies that wait; `again` if they ask meanwhile what they know.
    async fn new(anchored: bool, again: bool) -> Self {
        let rig = Rig::new(QUOTA as u32).await;
        let tls = credentials(&rig.authority).await;
        let Rig { folder, factory, authority, station } = rig;
        authority.close().await;
        drop(authority);
        let (factory, gates) = (Arc::new(factory), Arc::new(Gates::default()));
        let (say, place) = watch::channel(None);
        let (hear, told) = mpsc::unbounded_channel();
        let mut dies = JoinSet::new();
        for _ in 0..DIES {
            let (factory, gates) = (factory.clone(), gates.clone());
            let (place, tls, told) = (place.clone(), tls.clone(), hear.clone());
            let field = Field { factory, place, tls, gates, told, again };
            dies.spawn(field.provision());
        }
        let fire = Self {
            folder,
            factory,
            station,
            anchored,
            gates,
            say,
            told,
            ways: tokio::spawn(dies.join_all()),
            asked: HashMap::new(),
            answered: HashMap::new(),
            granted: 0,
            kills: Kills::default(),
        };
        if anchored {
            let authority = Authority::open(fire.config(true)).await.unwrap();
            authority.close().await;
        }
        fire
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn anchor(&self) -> PathBuf {
        self.path().join("anchor")
    }

    fn log(&self) -> PathBuf {
        self.path().join("service.log")
    }

    fn config(&self, new: bool) -> Config {
        let anchor = self.anchored.then(|| AnchorFile { path: self.anchor(), new });
        Config { anchor, ..config(self.path()) }
    }

    fn command(&self) -> Command {
        let mut command = serve(self.path());
        if self.anchored {
            command.arg("--anchor").arg(self.anchor());
        }
        command.stderr(OpenOptions::new().create(true).append(true).open(self.log()).unwrap());
        command
    }

    /// Lets dies in to ask a question.
    fn let_in(&mut self, question: Message, dies: usize) {
        self.gates.open(question, dies);
        *self.asked.entry(question).or_default() += dies;
    }

    /// Takes in what dies were told, and returns how many know the answer to this question.
    fn hear(&mut self, question: Message) -> usize {
        while let Ok((question, good)) = self.told.try_recv() {
            *self.answered.entry(question).or_default() += 1;
            self.granted += usize::from(question == Message::Request && good);
        }
        self.answered.get(&question).copied().unwrap_or_default()
    }

    /// Tells whether all dies that were let in to ask this know the answer.
    fn all_told(&mut self, question: Message) -> bool {
        self.hear(question) == self.asked.get(&question).copied().unwrap_or_default()
    }

    /// Runs one service to its death. Lets in dies of `waiting`, `slice` at a time, as long as it has nothing to do.
    /// Returns false if it never came to the place.
    async fn kill(&mut self, stage: Stage, death: Death, waiting: &mut usize, slice: usize) -> bool {
        let question = stage.question();
        let mut command = self.command();
        if let Death::At(point, times) = death {
            command.env("KILN_FAIL_POINT", format!("{}:{times}", point.name()));
        }
        let before = self.hear(question);
        let killed = match Service::launch(&mut command) {
            // The anchor follows before the service listens.
            Err(status) => {
                assert_eq!(status.signal(), Some(9), "{}", fs::read_to_string(self.log()).unwrap());
                true
            }
            Ok(mut service) => {
                self.say.send_replace(Some(service.address));
                let killed = loop {
                    if let Some(status) = service.ended() {
                        assert_eq!(status.signal(), Some(9), "{}", fs::read_to_string(self.log()).unwrap());
                        break true;
                    }
                    match death {
                        Death::After(time) => {
                            tokio::time::sleep(time).await;
                            service.kill();
                            break true;
                        }
                        Death::AfterReply if self.hear(question) > before => {
                            service.kill();
                            break true;
                        }
                        Death::At(..) | Death::AfterReply => {}
                    }
                    if self.all_told(question) {
                        if *waiting == 0 {
                            service.kill();
                            break false;
                        }
                        let dies = slice.min(*waiting);
                        *waiting -= dies;
                        self.let_in(question, dies);
                    }
                    tokio::time::sleep(LOOK).await;
                };
                self.say.send_replace(None);
                killed
            }
        };
        match death {
            Death::At(point, _) if killed => *self.kills.at.entry((stage, point)).or_default() += 1,
            Death::AfterReply if killed => self.kills.after_reply += 1,
            Death::After(_) if killed => self.kills.at_random += 1,
            _ => self.kills.idle += 1,
        }
        killed
    }

    /// Kills at every place of a stage, then at some again, later and with more dies at once; then lets it end.
    async fn stage(&mut self, stage: Stage, dies: usize) {
        let mut waiting = dies;
        for death in deaths(stage, || 1) {
            assert!(self.kill(stage, death, &mut waiting, 1).await, "{stage:?} never came to {death:?}");
        }
        for _ in 0..scaled(MORE.0, MORE.1) {
            let again = deaths(stage, || 1 + u64::from(byte() % 3));
            let death = again[usize::from(byte()) % again.len()];
            self.kill(stage, death, &mut waiting, 1 + usize::from(byte() % 4)).await;
        }
        self.let_in(stage.question(), waiting);
        self.until(|fire| fire.all_told(stage.question())).await;
    }

    /// Runs a service until something is so, and kills it.
    async fn until(&mut self, done: impl Fn(&mut Self) -> bool) {
        let mut service = Service::launch(&mut self.command()).unwrap();
        self.say.send_replace(Some(service.address));
        while !done(self) {
            assert_eq!(service.ended(), None);
            tokio::time::sleep(LOOK).await;
        }
        service.kill();
        self.kills.idle += 1;
        self.say.send_replace(None);
    }

    /// Lets all dies in at once and kills at random, until so many kills are done and all dies know.
    async fn rush(&mut self, kills: u64) {
        for question in [Message::Request, Message::Csr, Message::ClosingProof] {
            self.let_in(question, DIES);
        }
        let most = |services: u64| 60 + 20 * services.saturating_sub(kills);
        while !self.ways.is_finished() {
            let time = 3 + u64::from(byte()) * most(self.kills.at_random) / 256;
            let death = Death::After(Duration::from_millis(time));
            self.kill(Stage::Ticket, death, &mut 0, 0).await;
        }
    }

    /// Compares what dies and books say, and returns what must not be.
    async fn violations(&mut self, ways: &[Way]) -> Vec<String> {
        let mut found = Vec::new();
        let mut expect = |what: &str, is: usize, must: usize| {
            if is != must {
                found.push(format!("{what}: {is}, not {must}"));
            }
        };
        let authority = Authority::open(self.config(false)).await.unwrap();
        let ledger = authority.ledger();
        let lot = ledger.lot(LOT).await.unwrap();
        let closed = Filter { state: Some(State::Closed), ..Filter::default() };
        let installs = ledger.installs(&closed).await.unwrap();
        let booked: HashSet<_> = installs.iter().map(|install| install.chip_id.clone()).collect();
        expect("installs issued", lot.issued as usize, QUOTA);
        expect("installs closed", lot.closed as usize, QUOTA);
        expect("dies in the books", booked.len(), QUOTA);

        let (done, refused): (Vec<_>, Vec<_>) = ways.iter().partition(|way| way.refused.is_none());
        let granted: HashSet<_> = done.iter().filter_map(|way| way.install).collect();
        expect("dies with an install", granted.len(), QUOTA);
        expect("dies that were refused", refused.len(), DIES - QUOTA);
        let unknown = done.iter().filter(|way| !booked.contains(&crate::common::hex(&way.die.chip_id)));
        expect("dies with an install that no book has", unknown.count(), 0);
        expect("other answers under fire", ways.iter().map(|way| way.changed as usize).sum(), 0);
        let exhausted = refused.iter().filter(|way| way.refused == Some(FailCode::QuotaExhausted));
        expect("refusals for the quota", exhausted.count(), DIES - QUOTA);

        let mut answers = Vec::new();
        for way in &done {
            for Answered { question, body, answer } in &way.answered {
                let (message, again) = authority.handle(&self.station, LOT, *question, body).await;
                let same = match question {
                    // The die is closed now.
                    Message::Request => code(&again) == Some(FailCode::DieClosed),
                    _ => (message, &again) == (question.answer().unwrap(), answer),
                };
                answers.push(same);
            }
        }
        expect("answers that were given once more", answers.len(), 3 * QUOTA);
        expect("other answers than before", answers.iter().filter(|same| !**same).count(), 0);
        authority.close().await;
        found
    }
}

fn code(refusal: &[u8]) -> Option<FailCode> {
    FailCode::from_number(Refusal::decode(refusal).ok()?.code)
}

fn byte() -> u8 {
    random::<1>()[0]
}

/// Takes the ways of all dies, and what is to be reported.
async fn end(mut fire: Fire, report: &mut Report) -> Fire {
    let ways = std::mem::replace(&mut fire.ways, tokio::spawn(async { Vec::new() })).await.unwrap();
    report.leaks.look(&fire, &ways).await;
    report.violations.extend(fire.violations(&ways).await);
    report.again += ways.iter().map(|way| way.again).sum::<u64>();
    report.rounds += 1;
    report.kills.add(&fire.kills);
    fire
}

/// What all rounds did.
#[derive(Default)]
struct Report {
    kills: Kills,
    again: u64,
    rounds: u64,
    violations: Vec<String>,
    leaks: leaks::Leaks,
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_place_and_at_random_the_quota_is_granted_exactly_and_no_answer_changes() {
    let due = scaled(DUE.0, DUE.1);
    let mut report = Report::default();
    while report.kills.sum() < due {
        let mut fire = Fire::new(true, true).await;
        for (stage, dies) in Stage::ALL.into_iter().zip([QUOTA, DIES - QUOTA, QUOTA, QUOTA]) {
            fire.stage(stage, dies).await;
        }
        end(fire, &mut report).await;
        let mut fire = Fire::new(true, true).await;
        fire.rush(scaled(20, 40)).await;
        end(fire, &mut report).await;
    }
    for point in FailPoint::ALL {
        for stage in stages(*point) {
            assert!(report.kills.at.contains_key(&(*stage, *point)), "never killed {point:?} in {stage:?}");
        }
    }
    assert!(report.again > 0, "no die ever asked again");
    let places: u64 = report.kills.at.values().sum();
    Figure::new("quota under fire, kills", "kills", due)
        .ran(report.kills.sum())
        .violations(&report.violations)
        .note(format!(
            "{places} at {} places, {} after a reply, {} at random, {} more of idle services; {} rounds of {DIES} dies for {QUOTA} installs; {} answers given again",
            report.kills.at.len(),
            report.kills.after_reply,
            report.kills.at_random,
            report.kills.idle,
            report.rounds,
            report.again,
        ))
        .report();
    report.leaks.report();
}

#[tokio::test(flavor = "multi_thread")]
async fn books_that_are_set_back_are_seen_by_their_anchor_and_without_one_by_the_rig() {
    for anchored in [true, false] {
        let mut fire = Fire::new(anchored, false).await;
        let (data, copy) = (config(fire.path()).data, fire.path().join("copy"));
        copy_folder(&data, &copy);
        fire.let_in(Message::Request, DIES / 2);
        fire.until(|fire| fire.all_told(Message::Request)).await;
        assert_eq!(fire.granted, QUOTA);
        // Everything as it was: the database, its log, whatever else lies there.
        fs::remove_dir_all(&data).unwrap();
        copy_folder(&copy, &data);
        if anchored {
            let refused = Service::launch(&mut fire.command()).map(|_| ()).unwrap_err();
            assert_eq!(refused.code(), Some(1));
            let said = fs::read_to_string(fire.log()).unwrap();
            assert!(said.contains("the database was set back") && said.contains("cure"), "{said}");
            continue;
        }
        fire.let_in(Message::Request, DIES / 2);
        fire.until(|fire| fire.all_told(Message::Request)).await;
        assert_eq!(fire.granted, 2 * QUOTA, "the control: grants beyond the quota are seen");
        let log = fs::read_to_string(fire.log()).unwrap();
        assert!(log.contains("rollback-unprotected"), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_killed_once_provisions_the_same_dies() {
    let mut fire = Fire::new(true, true).await;
    for question in [Message::Request, Message::Csr, Message::ClosingProof] {
        fire.let_in(question, DIES);
    }
    fire.until(|fire| fire.ways.is_finished()).await;
    let ways = std::mem::replace(&mut fire.ways, tokio::spawn(async { Vec::new() })).await.unwrap();
    assert_eq!((fire.violations(&ways).await, fire.kills.idle), (Vec::new(), 1));
}
