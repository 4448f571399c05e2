//! `kill -9` of the real service, at random and at chosen places, while many dies are provisioned.
//!
//! Dies ask until they are answered or refused, over services that die again and again. Afterwards the books must
//! be exact, and every answer that any die ever got must be the one that it gets once more.

use std::collections::HashSet;
use std::os::unix::process::ExitStatusExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use authority::model::{Die, Factory};
use authority::storage::{Filter, State};
use authority::{Authority, Station};
use boot_crypto::host::random;
use factory_proto::{Message, Refusal};
use fail_code::FailCode;
use rustls::ClientConfig;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::common::{LOT, Rig, config};
use crate::process::{Service, credentials};

const QUOTA: usize = 24;
const DIES: usize = 36;
/// How long a die asks again before the test gives up.
const PATIENCE: Duration = Duration::from_secs(180);

/// What a die asked, and the answer that it got.
struct Answered {
    question: Message,
    body: Vec<u8>,
    answer: Vec<u8>,
}

/// A die's way: its answers, up to the one that refused it if it was.
struct Way {
    die: Die,
    answered: Vec<Answered>,
    install: Option<[u8; 32]>,
}

/// Where the service is now; `None` while it is dead.
type Place = watch::Receiver<Option<std::net::SocketAddr>>;

/// Asks until there is an answer: for the answer it does not matter over how many services.
async fn ask(place: &Place, tls: &Arc<ClientConfig>, question: Message, body: &[u8]) -> (bool, Vec<u8>) {
    let path = match question {
        Message::Request => format!("/v1/lots/{LOT}/tickets"),
        Message::Csr => "/v1/csrs".into(),
        _ => "/v1/closings".into(),
    };
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        let address = *place.borrow();
        let answer = match address {
            Some(address) => async {
                let mut client = authority::client::Client::connect(address, tls.clone()).await?;
                client.post(&path, body.to_vec()).await
            }
            .await
            .ok(),
            None => None,
        };
        match answer {
            Some((status, body)) if status.is_success() => return (true, body.to_vec()),
            Some((status, body)) if !status.is_server_error() => return (false, body.to_vec()),
            _ => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
    panic!("no answer to a {} in {PATIENCE:?}", question.name());
}

/// Takes a die as far as it comes.
async fn provision(factory: Arc<Factory>, place: Place, tls: Arc<ClientConfig>) -> Way {
    let die = factory.die().unwrap();
    let nonce = random();
    let mut way = Way { die, answered: Vec::new(), install: None };
    let mut body = way.die.request(nonce).unwrap();
    let mut question = Message::Request;
    loop {
        let (good, answer) = ask(&place, &tls, question, &body).await;
        if !good {
            let code = FailCode::from_number(Refusal::decode(&answer).unwrap().code).unwrap();
            assert_eq!((code, question), (FailCode::QuotaExhausted, Message::Request));
            return way;
        }
        let ticket = answer.clone();
        way.answered.push(Answered { question, body, answer });
        (question, body) = match question {
            Message::Request => {
                way.install = Some(way.die.open(nonce, &ticket).unwrap().install);
                (Message::Csr, way.die.csr(nonce, &ticket).unwrap())
            }
            Message::Csr => {
                let facts = factory.policy().production();
                (Message::ClosingProof, way.die.close(&way.install.unwrap(), &facts, factory.stage2))
            }
            _ => {
                way.die.take(&way.install.unwrap(), &ticket).unwrap();
                return way;
            }
        };
    }
}

/// Provisions dies over services of which `life` says how each ends; `None` for those that live on. Returns how many
/// services there were.
async fn through(mut life: impl FnMut(usize) -> Option<Death>) -> usize {
    let rig = Rig::new(QUOTA as u32).await;
    let tls = credentials(&rig.authority).await;
    let Rig { folder, factory, authority, station } = rig;
    authority.close().await;
    drop(authority);
    let factory = Arc::new(factory);

    let (say, place) = watch::channel(None);
    let mut dies = JoinSet::new();
    for _ in 0..DIES {
        dies.spawn(provision(factory.clone(), place.clone(), tls.clone()));
    }
    let ways = tokio::spawn(dies.join_all());
    let mut services = 0;
    while !ways.is_finished() {
        let death = life(services);
        let point = match &death {
            Some(Death::At(point)) => Some(point.as_str()),
            _ => None,
        };
        let mut service = Service::start(folder.path(), point);
        say.send(Some(service.address)).unwrap();
        match death {
            Some(Death::After(time)) => {
                tokio::time::sleep(time).await;
                service.kill();
            }
            Some(Death::At(_)) | None => loop {
                match service.ended() {
                    Some(status) => {
                        assert_eq!(status.signal(), Some(6), "it did not end at the fail-point");
                        break;
                    }
                    None if ways.is_finished() => break,
                    None => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            },
        }
        say.send(None).unwrap();
        services += 1;
    }
    check(&folder, station, ways.await.unwrap()).await;
    services
}

enum Death {
    /// It is killed after this time.
    After(Duration),
    /// It ends itself at this fail-point.
    At(String),
}

/// Checks books and answers.
async fn check(folder: &TempDir, station: Station, ways: Vec<Way>) {
    let authority = Authority::open(config(folder.path())).await.unwrap();
    let lot = authority.ledger().lot(LOT).await.unwrap();
    assert_eq!((lot.issued, lot.closed), (QUOTA as u32, QUOTA as u32));
    let closed = Filter { state: Some(State::Closed), ..Filter::default() };
    let installs = authority.ledger().installs(&closed).await.unwrap();
    let dies: HashSet<_> = installs.iter().map(|install| &install.chip_id).collect();
    assert_eq!((installs.len(), dies.len()), (QUOTA, QUOTA), "a die has two installs");

    let (done, refused): (Vec<_>, Vec<_>) = ways.iter().partition(|way| way.install.is_some());
    assert_eq!((done.len(), refused.len()), (QUOTA, DIES - QUOTA));
    let mut compared = 0;
    for way in done {
        assert_eq!(way.answered.len(), 3);
        assert!(dies.contains(&crate::common::hex(&way.die.chip_id)));
        for Answered { question, body, answer } in &way.answered {
            let (message, again) = authority.handle(&station, LOT, *question, body).await;
            if *question == Message::Request {
                // The die is closed now.
                let refusal = Refusal::decode(&again).unwrap();
                assert_eq!(refusal.code, FailCode::DieClosed.number());
                continue;
            }
            assert_eq!((message, &again), (question.answer().unwrap(), answer), "another answer than before");
            compared += 1;
        }
    }
    assert_eq!(compared, 2 * QUOTA);
    authority.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_never_killed_provisions_the_same_dies() {
    assert_eq!(through(|_| None).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_random_times_the_counts_stay_exact_and_the_answers_the_same() {
    let services = through(|services| {
        // Grows, so that the dies get there in the end.
        let most = 20 + 4 * services as u64;
        Some(Death::After(Duration::from_millis(5 + u64::from(random::<1>()[0]) * most / 256)))
    })
    .await;
    assert!(services >= 5, "it was killed {services} times only");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_place_of_a_commit_the_counts_stay_exact_and_the_answers_the_same() {
    let points = ["before-transaction", "in-transaction", "before-commit", "after-commit"];
    let services = through(|services| {
        // The same places again, each time later: the first, second, .. decision of a service.
        let (point, round) = (points[services % points.len()], services / points.len());
        (round < 6).then(|| Death::At(format!("{point}:{}", 1 + round)))
    })
    .await;
    assert!(services > points.len(), "it ended at {services} places only");
}
