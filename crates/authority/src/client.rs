//! A station's end of the service, as far as measurements and tests need one.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::{Body, Bytes, to_bytes};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::Error;

/// Longest answer that is taken, in bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// One connection to an authority.
pub struct Client {
    sender: SendRequest<Body>,
    host: String,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// [`Error::Measurement`]: nobody listens, or the certificates are not accepted.
    pub async fn connect(address: SocketAddr, tls: Arc<ClientConfig>) -> Result<Self, Error> {
        let stream = TcpStream::connect(address).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let name = ServerName::IpAddress(address.ip().into());
        let stream = TlsConnector::from(tls).connect(name, stream).await.map_err(failed)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(failed)?;
        tokio::spawn(connection);
        Ok(Self { sender, host: address.to_string() })
    }

    /// Posts a message and returns status and answer.
    ///
    /// # Errors
    /// [`Error::Measurement`]: the connection ended before the answer.
    pub async fn post(&mut self, path: &str, body: Vec<u8>) -> Result<(StatusCode, Bytes), Error> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(header::HOST, &self.host)
            .body(Body::from(body))
            .map_err(failed)?;
        self.sender.ready().await.map_err(failed)?;
        let answer = self.sender.send_request(request).await.map_err(failed)?;
        let status = answer.status();
        let body = to_bytes(Body::new(answer.into_body()), MAX_ANSWER).await.map_err(failed)?;
        Ok((status, body))
    }
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Measurement(error.to_string())
}
