//! How many durable tickets a second: clients over HTTPS on loopback, next to what the disk syncs.

use std::fs::File;
use std::io::{self, Write as _};
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use boot_crypto::Key;
use boot_crypto::host::random;
use hyper::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::client::Client;
use crate::model::Factory;
use crate::storage::State;
use crate::{AnchorFile, Authority, Config, Error, LocalKey, station_tls};

/// How long the disk is measured.
const SYNC_TIME: Duration = Duration::from_secs(1);
/// What is written for each sync: a page.
const PAGE: usize = 4096;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Clients that ask at a time, each on a connection of its own.
    pub clients: u32,
    /// Tickets that are asked for, each for a die of its own.
    pub tickets: u32,
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// Clients.
    pub clients: u32,
    /// Tickets that were issued.
    pub tickets: u32,
    /// From the first request to the last answer.
    pub seconds: f64,
    /// Durable tickets per second.
    pub tickets_per_second: f64,
    /// Half of the requests were answered within this time.
    pub p50_ms: f64,
    /// 99 of 100 requests were answered within this time.
    pub p99_ms: f64,
    /// How often a second the same disk syncs a page.
    pub syncs_per_second: f64,
}

impl Figures {
    pub(crate) fn facts(&self) -> Vec<(&'static str, Value)> {
        let round = |value: f64| json!((value * 10.0).round() / 10.0);
        vec![
            ("clients", json!(self.clients)),
            ("tickets", json!(self.tickets)),
            ("seconds", json!((self.seconds * 1000.0).round() / 1000.0)),
            ("tickets per second", round(self.tickets_per_second)),
            ("p50 ms", round(self.p50_ms)),
            ("p99 ms", round(self.p99_ms)),
            ("syncs per second", round(self.syncs_per_second)),
        ]
    }
}

/// Measures on the disk that holds `folder`. Everything is made anew and removed afterwards.
///
/// # Errors
/// [`Error::Measurement`], also where the books do not hold exactly one install for each ticket afterwards.
pub async fn tickets(folder: &Path, plan: Plan) -> Result<Figures, Error> {
    let failed = |error: io::Error| Error::File { path: folder.into(), error };
    std::fs::create_dir_all(folder).map_err(failed)?;
    let folder = tempfile::Builder::new().prefix("authority-bench-").tempdir_in(folder).map_err(failed)?;
    let syncs_per_second = syncs(&folder.path().join("sync")).map_err(failed)?;

    let kek = Arc::new(LocalKey::new(Key::new(random())));
    // As it is to be run: with an anchor.
    let anchor = Some(AnchorFile { path: folder.path().join("anchor"), new: false });
    let config = Config { data: folder.path().join("authority"), kek, anchor };
    let authority = Authority::init(config, &["127.0.0.1".into()], None).await?;
    let factory = Arc::new(Factory::found()?);
    factory.delegate(&authority).await?;
    authority.create_lot(factory.lot("bench", plan.tickets)).await?;
    let station = authority.issue_station("bench").await?;
    let tls = station_tls(&authority.tls_ca_pem(), &station.certificate, &station.key)?;

    let authority = Arc::new(authority);
    let address = (Ipv4Addr::LOCALHOST, 0);
    let listener =
        TcpListener::bind(address).await.map_err(|error| Error::Listen { address: address.into(), error })?;
    let bound = listener.local_addr().map_err(|error| Error::Listen { address: address.into(), error })?;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let settings = authority.tls(None)?;
    let service = tokio::spawn(authority.clone().serve(listener, settings, async {
        let _ = stopped.await;
    }));

    let start = Arc::new(Barrier::new(plan.clients as usize + 1));
    let mut clients = JoinSet::new();
    for client in 0..plan.clients {
        let share = plan.tickets / plan.clients + u32::from(client < plan.tickets % plan.clients);
        let (factory, tls, start) = (factory.clone(), tls.clone(), start.clone());
        clients.spawn(async move {
            let requests = requests(&factory, share)?;
            let mut client = Client::connect(bound, tls).await?;
            start.wait().await;
            ask(&mut client, requests).await
        });
    }
    start.wait().await;
    let begun = Instant::now();
    let mut times = Vec::with_capacity(plan.tickets as usize);
    while let Some(client) = clients.join_next().await {
        times.extend(client.map_err(|error| Error::Measurement(error.to_string()))??);
    }
    let seconds = begun.elapsed().as_secs_f64();

    let lot = authority.ledger().lot("bench").await?;
    let reserved = authority.ledger().storage().read().await?.count("bench", State::Reserved).await?;
    if (lot.issued, reserved) != (plan.tickets, plan.tickets) {
        let found = format!("{} issued, {reserved} reserved of {}", lot.issued, plan.tickets);
        return Err(Error::Measurement(found));
    }
    drop(stop);
    let _ = service.await;
    authority.close().await;
    times.sort_unstable();
    Ok(Figures {
        clients: plan.clients,
        tickets: plan.tickets,
        seconds,
        tickets_per_second: f64::from(plan.tickets) / seconds,
        p50_ms: percentile(&times, 50),
        p99_ms: percentile(&times, 99),
        syncs_per_second,
    })
}

fn requests(factory: &Factory, count: u32) -> Result<Vec<Vec<u8>>, Error> {
    let request = |_| {
        let request = factory.die()?.request(random());
        request.map_err(|error| Error::Measurement(error.to_string()))
    };
    (0..count).map(request).collect()
}

async fn ask(client: &mut Client, requests: Vec<Vec<u8>>) -> Result<Vec<Duration>, Error> {
    let mut times = Vec::with_capacity(requests.len());
    for request in requests {
        let begun = Instant::now();
        let (status, answer) = client.post("/v1/lots/bench/tickets", request).await?;
        times.push(begun.elapsed());
        if status != StatusCode::OK {
            let refusal = factory_proto::Refusal::decode(&answer);
            return Err(Error::Measurement(format!("refused: {refusal:?}")));
        }
    }
    Ok(times)
}

/// Returns the time within which `percent` of the sorted requests were answered, in milliseconds.
fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(index).map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0)
}

/// Counts how often a second the disk syncs a page that was appended.
fn syncs(path: &Path) -> io::Result<f64> {
    let mut file = File::create(path)?;
    let (begun, mut count) = (Instant::now(), 0_u32);
    while begun.elapsed() < SYNC_TIME {
        file.write_all(&[0x5A; PAGE])?;
        file.sync_data()?;
        count += 1;
    }
    Ok(f64::from(count) / begun.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_sorted_times() {
        let times: Vec<_> = (1..=200).map(Duration::from_millis).collect();
        assert_eq!((percentile(&times, 50), percentile(&times, 99)), (100.0, 198.0));
        assert_eq!(percentile(&times[..1], 99), 1.0);
        assert!(percentile(&[], 50).is_nan());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_ticket_is_durable_and_counted_once() {
        let folder = tempfile::tempdir().unwrap();
        let figures = tickets(folder.path(), Plan { clients: 8, tickets: 50 }).await.unwrap();
        assert_eq!(figures.tickets, 50);
        assert!(figures.tickets_per_second > 0.0 && figures.syncs_per_second > 0.0);
        assert!(figures.p50_ms <= figures.p99_ms);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "all is removed");
    }
}
