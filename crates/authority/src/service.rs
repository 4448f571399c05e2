//! The service: HTTPS, and nobody without a station's certificate.
//!
//! ```text
//! POST /v1/lots/{lot}/tickets   request        → ticket
//! POST /v1/csrs                 csr            → receipt
//! POST /v1/closings             closing proof  → release
//! ```
//! Bodies are the messages of `factory-proto`. A refusal is a body too, with a status of 4xx or 5xx.
//!
//! # What it defends against
//!
//! A station is untrusted but known by its certificate, which TLS verifies before a byte of HTTP is read. It can
//! hold connections open, send slowly, or send too much: connections, handshakes, headers, bodies and whole requests
//! are bounded in number, size and time. Not defended: a station with a certificate that keeps the processor busy
//! with requests. Lots can admit other stations only; what is no request costs it an audit row, counted and not repeated.
//!
//! Whatever is refused is in the audit first, also where the station has hung up. Not there: connections without a known
//! certificate, and what is no HTTP.

use std::convert::Infallible;
use std::fs::{OpenOptions, TryLockError};
use std::future::Future;
use std::os::unix::fs::OpenOptionsExt as _;
use std::pin::pin;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use factory_proto::{Message, content_type};
use fail_code::FailCode;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::answer::encode;
use crate::fail_point::{self, FailPoint};
use crate::policy::Context;
use crate::{Authority, Error, Refusal, Station};

/// Name of the file in the authority's directory that its one service holds a lock on.
const SERVING: &str = "serving.lock";
/// Connections that are served at a time; more wait.
const MAX_CONNECTIONS: usize = 1024;
/// Longest body, in bytes: a message is at most 8 KiB.
const MAX_BODY: usize = factory_proto::link::MAX_BODY;
/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a connection may be idle, or take to send the head of a request.
const HEAD: Duration = Duration::from_secs(60);
/// How long a request may take, body and answer. With [`AUDIT`] it is less than a station waits.
const REQUEST: Duration = Duration::from_secs(14);
/// How long it may take to write down that a request was refused here.
const AUDIT: Duration = Duration::from_secs(4);
/// How long requests that are under way may take once the service is told to stop.
const GRACE: Duration = Duration::from_secs(10);
/// How long to wait when no connection can be accepted: out of file descriptors, as a rule.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl Authority {
    /// Serves stations until `stop` is done; then finishes what is under way.
    ///
    /// # Errors
    /// [`Error::Serving`]: another service serves these books. Whatever one connection does is its own affair.
    pub async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        tls: Arc<ServerConfig>,
        stop: impl Future<Output = ()>,
    ) -> Result<(), Error> {
        self.claim()?;
        let acceptor = TlsAcceptor::from(tls);
        let router = router(self);
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let (stopping, stopped) = watch::channel(());
        let mut connections = JoinSet::new();
        let mut stop = pin!(stop);
        loop {
            let accepted = async {
                let place = places.clone().acquire_owned().await;
                (listener.accept().await, place)
            };
            let (stream, place) = tokio::select! {
                accepted = accepted => match accepted {
                    (Ok((stream, _)), Ok(place)) => (stream, place),
                    _ => {
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                        continue;
                    }
                },
                () = &mut stop => break,
            };
            let (acceptor, router, stopped) = (acceptor.clone(), router.clone(), stopped.clone());
            connections.spawn(connection(stream, acceptor, router, stopped, place));
            while connections.try_join_next().is_some() {}
        }
        drop(listener);
        drop(stopping);
        let finished = async { while connections.join_next().await.is_some() {} };
        if timeout(GRACE, finished).await.is_err() {
            connections.shutdown().await;
        }
        Ok(())
    }
}

impl Authority {
    /// Takes the place of the one service that may serve these books, for as long as this authority is open.
    ///
    /// # Errors
    /// [`Error::Serving`]: another has it.
    pub fn claim(&self) -> Result<(), Error> {
        let mut claimed = self.serving.lock().unwrap_or_else(PoisonError::into_inner);
        if claimed.is_some() {
            return Ok(());
        }
        let path = self.data.join(SERVING);
        let failed = |error| Error::File { path: path.clone(), error };
        let opened = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let file = opened.map_err(failed)?;
        match file.try_lock() {
            Ok(()) => *claimed = Some(file),
            Err(TryLockError::WouldBlock) => return Err(Error::Serving(self.data.clone())),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        Ok(())
    }
}

/// Serves one connection. Its failures end it, and concern nobody else.
async fn connection(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    router: Router,
    mut stopped: watch::Receiver<()>,
    place: OwnedSemaphorePermit,
) {
    // Answers are short: they must not wait for more.
    let _ = stream.set_nodelay(true);
    let Ok(Ok(stream)) = timeout(HANDSHAKE, acceptor.accept(stream)).await else {
        return;
    };
    let Some(certificate) = stream.get_ref().1.peer_certificates().and_then(<[_]>::first) else {
        return;
    };
    let asker = Asker { station: Station::new(certificate), _place: Arc::new(place) };
    let router = router.layer(Extension(asker));
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
    );
    tokio::select! {
        _ = connection.as_mut() => return,
        // The sender is dropped when the service stops.
        _ = stopped.changed() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

fn router(authority: Arc<Authority>) -> Router {
    Router::new()
        .route("/v1/lots/{lot}/tickets", post(tickets))
        .route("/v1/csrs", post(csrs))
        .route("/v1/closings", post(closings))
        .fallback(elsewhere)
        .method_not_allowed_fallback(elsewhere)
        .with_state(authority)
}

/// Where a station asks from.
#[derive(Clone)]
struct Asker {
    station: Station,
    /// The connection's place among those that are served: also a question that outlives its connection holds it.
    _place: Arc<OwnedSemaphorePermit>,
}

/// Answers a station that asks for what there is not.
async fn elsewhere(
    State(authority): State<Arc<Authority>>,
    Extension(asker): Extension<Asker>,
    request: Request,
) -> Result<Response, Infallible> {
    let detail = format!("there is no {} {}", request.method(), request.uri().path());
    let code = FailCode::RequestMalformed;
    let refused = to_the_end(async move { refuse(&authority, &asker.station, code, detail).await });
    let refused = refused.await.unwrap_or_else(|failed| failed);
    let status = if refused.code == code { StatusCode::NOT_FOUND } else { status(refused.code) };
    Ok(refusal(status, &refused))
}

/// Answers a question also if nobody waits for the answer any more: a station that hangs up leaves its audit row.
async fn to_the_end<T: Send + 'static>(
    answer: impl Future<Output = T> + Send + 'static,
) -> Result<T, Refusal> {
    let failed = |error: JoinError| Refusal::new(FailCode::StorageFailed, error.to_string());
    tokio::spawn(answer).await.map_err(failed)
}

/// Writes a refusal of the service's own down, and returns what is to be told.
async fn refuse(authority: &Authority, station: &Station, code: FailCode, detail: String) -> Refusal {
    let context = Context { station: Some(station.fingerprint), ..Context::default() };
    let refusal = Refusal::new(code, detail);
    let audited = timeout(AUDIT, authority.audited(&context, Err(refusal.clone()))).await;
    // Where it cannot be written down, that is what is told.
    audited
        .ok()
        .and_then(Result::err)
        .unwrap_or_else(|| Refusal::new(FailCode::StorageFailed, refusal.detail))
}

async fn tickets(
    State(authority): State<Arc<Authority>>,
    Extension(asker): Extension<Asker>,
    lot: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Infallible> {
    match lot {
        Ok(Path(lot)) => Ok(answer(authority, asker, lot, Message::Request, request.into_body()).await),
        Err(_) => elsewhere(State(authority), Extension(asker), request).await,
    }
}

async fn csrs(
    State(authority): State<Arc<Authority>>,
    Extension(asker): Extension<Asker>,
    request: Request,
) -> Result<Response, Infallible> {
    Ok(answer(authority, asker, String::new(), Message::Csr, request.into_body()).await)
}

async fn closings(
    State(authority): State<Arc<Authority>>,
    Extension(asker): Extension<Asker>,
    request: Request,
) -> Result<Response, Infallible> {
    Ok(answer(authority, asker, String::new(), Message::ClosingProof, request.into_body()).await)
}

async fn answer(
    authority: Arc<Authority>,
    asker: Asker,
    lot: String,
    question: Message,
    body: Body,
) -> Response {
    let answered = to_the_end(async move {
        let station = &asker.station;
        match timeout(REQUEST, ask(&authority, station, &lot, question, body)).await {
            Ok(Ok(answered)) => answered,
            Ok(Err(unread)) => Err(refuse(&authority, station, FailCode::RequestMalformed, unread).await),
            Err(_) => {
                let late = "the request took too long".into();
                Err(refuse(&authority, station, FailCode::StorageFailed, late).await)
            }
        }
    });
    match answered.await.flatten() {
        Ok(answer) => {
            let message = question.answer().unwrap_or(Message::Refusal);
            fail_point::hit(match question {
                Message::Request => FailPoint::BeforeTicketReply,
                Message::Csr => FailPoint::BeforeReceiptReply,
                _ => FailPoint::BeforeReleaseReply,
            });
            (StatusCode::OK, [(header::CONTENT_TYPE, content_type(message))], answer).into_response()
        }
        Err(refused) => refusal(status(refused.code), &refused),
    }
}

/// Reads a question and answers it; an error is why it cannot be read.
async fn ask(
    authority: &Authority,
    station: &Station,
    lot: &str,
    question: Message,
    body: Body,
) -> Result<Result<Vec<u8>, Refusal>, String> {
    let body = to_bytes(body, MAX_BODY).await.map_err(|error| error.to_string())?;
    Ok(match question {
        Message::Request => authority.ticket(station, lot, &body).await,
        Message::Csr => authority.receipt(station, &body).await,
        _ => authority.release(station, &body).await,
    })
}

fn refusal(status: StatusCode, refusal: &Refusal) -> Response {
    fail_point::hit(FailPoint::BeforeRefusalReply);
    (status, [(header::CONTENT_TYPE, content_type(Message::Refusal))], encode(refusal)).into_response()
}

/// Returns the status of a refusal. Its code says more.
fn status(code: FailCode) -> StatusCode {
    match code {
        FailCode::RequestMalformed | FailCode::VendorMalformed => StatusCode::BAD_REQUEST,
        FailCode::LotUnknown | FailCode::InstallUnknown => StatusCode::NOT_FOUND,
        FailCode::DieClosed | FailCode::DieConflict | FailCode::DieOfOtherLot | FailCode::NonceReplayed => {
            StatusCode::CONFLICT
        }
        FailCode::TicketsExhausted => StatusCode::TOO_MANY_REQUESTS,
        FailCode::StorageFailed => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::FORBIDDEN,
    }
}
