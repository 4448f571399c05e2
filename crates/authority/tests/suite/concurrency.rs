//! Many at once: the quota is exact, and a retry gets what the first try got.

use std::collections::HashSet;
use std::sync::Arc;

use authority::Refusal;
use authority::storage::{Filter, State};
use boot_crypto::host::random;
use fail_code::FailCode;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::common::{LOT, Rig};

const TASKS: usize = 200;
const QUOTA: u32 = 50;

/// Has every task do something at the same time, and returns what each got.
async fn together<T: Send + 'static>(
    tasks: impl ExactSizeIterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    let start = Arc::new(Barrier::new(tasks.len()));
    let mut running = JoinSet::new();
    for task in tasks {
        let start = start.clone();
        running.spawn(async move {
            start.wait().await;
            task.await
        });
    }
    running.join_all().await
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_dies_at_once_get_exactly_fifty_installs_and_retries_get_the_same_bytes() {
    let rig = Arc::new(Rig::new(QUOTA).await);
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| {
            let (rig, nonce) = (rig.clone(), random());
            let die = rig.factory.die().unwrap();
            let request = die.request(nonce).unwrap();
            async move {
                // A retry follows, as after an answer that was lost; another is under way all the time.
                let (first, second) = tokio::join!(rig.ticket(&request), rig.ticket(&request));
                let third = rig.ticket(&request).await;
                assert_eq!(first, second);
                assert_eq!(first, third);
                first.map(|ticket| (die.open(nonce, &ticket).unwrap().install, request, ticket))
            }
        })
        .collect();
    let answers = together(tasks.into_iter()).await;

    let (granted, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!((granted.len(), refused.len()), (QUOTA as usize, TASKS - QUOTA as usize));
    for refusal in refused.into_iter().map(Result::unwrap_err) {
        assert_eq!(refusal.code, FailCode::QuotaExhausted, "{refusal}");
    }
    // Some lost the last place while their ticket was made: no install of theirs ever was.
    let filter = Filter { code: Some(FailCode::QuotaExhausted), ..Filter::default() };
    let rows = rig.authority.ledger().audit(&filter).await.unwrap();
    assert!(!rows.is_empty() && rows.iter().all(|row| row.install.is_none()));
    let granted: Vec<_> = granted.into_iter().map(Result::unwrap).collect();
    let installs: HashSet<_> = granted.iter().map(|(install, _, _)| *install).collect();
    assert_eq!(installs.len(), QUOTA as usize, "two dies share an install");
    assert_eq!(rig.counts().await, (QUOTA, 0));
    let reserved = Filter { state: Some(State::Reserved), ..Filter::default() };
    assert_eq!(rig.authority.ledger().installs(&reserved).await.unwrap().len(), QUOTA as usize);

    let rig = Arc::into_inner(rig).unwrap().restart().await;
    for (_, request, ticket) in &granted {
        assert_eq!(rig.ticket(request).await.as_ref(), Ok(ticket), "another ticket after a restart");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_equal_requests_at_once_get_one_ticket() {
    let rig = Arc::new(Rig::new(QUOTA).await);
    let request = rig.factory.die().unwrap().request(random()).unwrap();
    let ask = |_| {
        let (rig, request) = (rig.clone(), request.clone());
        async move { rig.ticket(&request).await.unwrap() }
    };
    let tickets: HashSet<_> = together((0..TASKS).map(ask)).await.into_iter().collect();
    assert_eq!(tickets.len(), 1);
    assert_eq!(rig.counts().await, (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_sessions_of_one_die_at_once_share_one_install() {
    let rig = Arc::new(Rig::new(QUOTA).await);
    let die = Arc::new(rig.factory.die().unwrap());
    let ask = |_| {
        let (rig, die, nonce) = (rig.clone(), die.clone(), random());
        async move {
            let answer = rig.ticket(&die.request(nonce).unwrap()).await;
            answer.map(|ticket| die.open(nonce, &ticket).unwrap().install)
        }
    };
    let answers = together((0..TASKS).map(ask)).await;
    let installs: HashSet<_> = answers.iter().flatten().collect();
    let refusals: Vec<&Refusal> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
    assert_eq!((installs.len(), answers.len() - refusals.len()), (1, 16));
    // Those that lost the race again and again may be told to come again.
    let come_again = [FailCode::TicketsExhausted, FailCode::StorageFailed];
    assert!(refusals.iter().all(|refusal| come_again.contains(&refusal.code)), "{refusals:?}");
    assert_eq!(rig.counts().await, (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_dies_closing_at_once_are_each_closed_once() {
    let rig = Arc::new(Rig::new(100).await);
    let close = |_| {
        let rig = rig.clone();
        async move {
            let die = rig.factory.die().unwrap();
            let (_, install) = rig.certified(&die).await;
            let proof = rig.proof(&die, &install);
            let release = || rig.authority.release(&rig.station, &proof);
            let (first, second) = tokio::join!(release(), release());
            assert_eq!(first.as_ref().unwrap(), &second.unwrap());
            die.take(&install, &first.unwrap()).unwrap().remove(0)
        }
    };
    let certificates: HashSet<_> = together((0..100).map(close)).await.into_iter().collect();
    assert_eq!(certificates.len(), 100);
    assert_eq!(rig.counts().await, (100, 100));
    let rows =
        rig.authority.ledger().audit(&Filter { lot: Some(LOT.into()), ..Filter::default() }).await.unwrap();
    assert_eq!(rows.iter().filter(|row| row.event == "closed").count(), 100);
}

/// There are fewer readers of the database than this, and the authority knows no lot by heart after a restart.
#[tokio::test(flavor = "multi_thread")]
async fn more_devices_than_readers_at_once_after_a_restart_wait_for_nobody_who_waits_for_them() {
    const DEVICES: usize = 24;
    let rig = Rig::new(DEVICES as u32).await;
    let mut asked = Vec::new();
    for _ in 0..DEVICES {
        let (die, nonce) = (rig.factory.die().unwrap(), random());
        let ticket = rig.ticket(&die.request(nonce).unwrap()).await.unwrap();
        let install = die.open(nonce, &ticket).unwrap().install;
        asked.push((die.csr(nonce, &ticket).unwrap(), rig.proof(&die, &install)));
    }
    let rig = Arc::new(rig.restart().await);
    let receipts = together(asked.iter().cloned().map(|(csr, _)| {
        let rig = rig.clone();
        async move { rig.authority.receipt(&rig.station, &csr).await }
    }));
    assert!(receipts.await.iter().all(Result::is_ok));

    let rig = Arc::new(Arc::into_inner(rig).unwrap().restart().await);
    let certificates = together(asked.into_iter().map(|(_, proof)| {
        let rig = rig.clone();
        async move { rig.authority.release(&rig.station, &proof).await }
    }));
    assert!(certificates.await.iter().all(Result::is_ok));
    assert_eq!(rig.counts().await, (DEVICES as u32, DEVICES as u32));
}
