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
//! with well-formed requests; revoke it by making lots admit other stations only.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
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
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::answer::encode;
use crate::policy::Context;
use crate::{Authority, Error, Refusal, Station};

/// Connections that are served at a time; more wait.
const MAX_CONNECTIONS: usize = 1024;
/// Longest body, in bytes: a message is at most 8 KiB.
const MAX_BODY: usize = factory_proto::link::MAX_BODY;
/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a connection may be idle, or take to send the head of a request.
const HEAD: Duration = Duration::from_secs(60);
/// How long a request may take, body and answer.
const REQUEST: Duration = Duration::from_secs(30);
/// How long requests that are under way may take once the service is told to stop.
const GRACE: Duration = Duration::from_secs(10);
/// How long to wait when no connection can be accepted: out of file descriptors, as a rule.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl Authority {
    /// Serves stations until `stop` is done; then finishes what is under way.
    ///
    /// # Errors
    /// None in practice: whatever one connection does is its own affair.
    pub async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        tls: Arc<ServerConfig>,
        stop: impl Future<Output = ()>,
    ) -> Result<(), Error> {
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
                (accepted, place) = accepted => match accepted {
                    Ok((stream, _)) => (stream, place),
                    Err(_) => {
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                        continue;
                    }
                },
                () = &mut stop => break,
            };
            let (acceptor, router, stopped) = (acceptor.clone(), router.clone(), stopped.clone());
            connections.spawn(async move {
                connection(stream, acceptor, router, stopped).await;
                drop(place);
            });
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

/// Serves one connection. Its failures end it, and concern nobody else.
async fn connection(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    router: Router,
    mut stopped: watch::Receiver<()>,
) {
    // Answers are short: they must not wait for more.
    let _ = stream.set_nodelay(true);
    let Ok(Ok(stream)) = timeout(HANDSHAKE, acceptor.accept(stream)).await else {
        return;
    };
    let Some(certificate) = stream.get_ref().1.peer_certificates().and_then(<[_]>::first) else {
        return;
    };
    let router = router.layer(Extension(Station::new(certificate)));
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

/// Answers a station that asks for what there is not.
async fn elsewhere(
    State(authority): State<Arc<Authority>>,
    Extension(station): Extension<Station>,
    request: Request,
) -> Result<Response, Infallible> {
    let detail = format!("there is no {} {}", request.method(), request.uri().path());
    let refused = refuse(&authority, &station, FailCode::RequestMalformed, detail).await;
    Ok((StatusCode::NOT_FOUND, [(header::CONTENT_TYPE, content_type(Message::Refusal))], encode(&refused))
        .into_response())
}

/// Writes a refusal of the service's own down, and returns what is to be told.
async fn refuse(authority: &Authority, station: &Station, code: FailCode, detail: String) -> Refusal {
    let context = Context { station: Some(station.fingerprint), ..Context::default() };
    let refusal = Refusal::new(code, detail);
    let audited = timeout(REQUEST, authority.audited(&context, Err(refusal.clone()))).await;
    // Where it cannot be written down, that is what is told.
    audited
        .ok()
        .and_then(Result::err)
        .unwrap_or_else(|| Refusal::new(FailCode::StorageFailed, refusal.detail))
}

async fn tickets(
    State(authority): State<Arc<Authority>>,
    Extension(station): Extension<Station>,
    lot: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Infallible> {
    match lot {
        Ok(Path(lot)) => Ok(answer(authority, station, lot, Message::Request, request.into_body()).await),
        Err(_) => elsewhere(State(authority), Extension(station), request).await,
    }
}

async fn csrs(
    State(authority): State<Arc<Authority>>,
    Extension(station): Extension<Station>,
    request: Request,
) -> Result<Response, Infallible> {
    Ok(answer(authority, station, String::new(), Message::Csr, request.into_body()).await)
}

async fn closings(
    State(authority): State<Arc<Authority>>,
    Extension(station): Extension<Station>,
    request: Request,
) -> Result<Response, Infallible> {
    Ok(answer(authority, station, String::new(), Message::ClosingProof, request.into_body()).await)
}

async fn answer(
    authority: Arc<Authority>,
    station: Station,
    lot: String,
    question: Message,
    body: Body,
) -> Response {
    let answer = async {
        let body = match to_bytes(body, MAX_BODY).await {
            Ok(body) => body,
            Err(error) => {
                let code = FailCode::RequestMalformed;
                return Err(refuse(&authority, &station, code, error.to_string()).await);
            }
        };
        match question {
            Message::Request => authority.ticket(&station, &lot, &body).await,
            Message::Csr => authority.receipt(&station, &body).await,
            _ => authority.release(&station, &body).await,
        }
    };
    let answered = match timeout(REQUEST, answer).await {
        Ok(answered) => answered,
        Err(_) => {
            let late = "the request took too long".into();
            Err(refuse(&authority, &station, FailCode::StorageFailed, late).await)
        }
    };
    let (status, message, body) = match answered {
        Ok(answer) => (StatusCode::OK, question.answer().unwrap_or(Message::Refusal), answer),
        Err(refusal) => (status(refusal.code), Message::Refusal, encode(&refusal)),
    };
    (status, [(header::CONTENT_TYPE, content_type(message))], body).into_response()
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
