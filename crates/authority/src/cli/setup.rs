//! Making an authority and running it.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::{Place, Shown};
use crate::bench;
use crate::{Authority, Delegation, Error, LocalKey, Rollback, StationIdentity, TlsFiles, hex};

/// Makes an authority: keys, certificate authorities, and certificates for the service and one station
///
/// Makes a key-encryption key too where the file is not there yet. Keep it elsewhere than the database: who has both
/// has every secret.
#[derive(Args, Debug)]
pub(super) struct Init {
    /// A name or address under which stations reach the service; may be given more than once
    #[arg(long, value_name = "NAME", default_values = ["localhost", "127.0.0.1", "::1"])]
    name: Vec<String>,
    /// Sign answers with this key, PKCS#8 in PEM [default: a fresh one]
    #[arg(long, value_name = "FILE")]
    signing_key: Option<PathBuf>,
}

impl Init {
    pub(super) async fn run(&self, place: &Place) -> Result<Shown, Error> {
        let signing = match &self.signing_key {
            Some(path) => Some(read_key(path)?),
            None => None,
        };
        let kek_path = place.kek_path();
        if place.data.join(crate::ledger::DATABASE).exists() {
            return Err(Error::AlreadyInitialised(place.data.clone()));
        }
        if place.kek_env.is_none() && !kek_path.exists() {
            if let Some(folder) = kek_path.parent() {
                std::fs::create_dir_all(folder)
                    .map_err(|error| Error::File { path: folder.into(), error })?;
            }
            LocalKey::create(&kek_path)?;
        }
        let authority = Authority::init(place.config()?, &self.name, signing).await?;
        write(&place.data.join("tls-ca.pem"), authority.tls_ca_pem().as_bytes(), 0o644)?;
        write(&place.data.join("device-ca.pem"), authority.device_ca_pem().as_bytes(), 0o644)?;
        let sealing = authority.sealing_key();
        write_sealing_key(&place.data.join("sealing.pub.pem"), &sealing)?;
        let station = authority.issue_station("station").await?;
        write_station(&place.data, "station", &station)?;
        let rollback = authority.ledger().rollback();
        authority.close().await;
        Ok(Shown::facts(
            "A new authority:",
            [
                ("data", json!(place.data)),
                ("kek", json!(place.kek_env.clone().unwrap_or_else(|| kek_path.display().to_string()))),
                ("signing key", json!(hex::encode(&authority.signing_key()))),
                ("sealing key", json!(place.data.join("sealing.pub.pem"))),
                ("sealing key thumbprint", json!(hex::encode(&sealing.thumbprint()))),
                ("tls ca", json!(place.data.join("tls-ca.pem"))),
                ("device ca", json!(place.data.join("device-ca.pem"))),
                ("station", json!(place.data.join("station.pem"))),
                ("station fingerprint", json!(hex::encode(&station.station.fingerprint))),
                ("rollback", json!(rollback)),
            ],
        ))
    }
}

/// Serves stations until it is told to stop (SIGTERM, or Ctrl-C)
///
/// Prints one line of JSON on stdout once it listens: {"listening":"127.0.0.1:8443","rollback":"rollback-protected"}, or
/// "rollback-unprotected" without --anchor: then nobody notices when the database is set back to an older copy.
#[derive(Args, Debug)]
pub(super) struct Serve {
    /// The address to listen at
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    address: IpAddr,
    /// The port; 0 for any
    #[arg(long, value_name = "PORT", default_value_t = 8443)]
    port: u16,
    /// A certificate chain in PEM for the service, instead of the one that `init` made
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// The key of that certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
}

impl Serve {
    pub(super) async fn run(&self, place: &Place) -> Result<Shown, Error> {
        let authority = Arc::new(place.authority().await?);
        authority.claim()?;
        let files = self.tls_certificate.clone().zip(self.tls_key.clone());
        let tls = authority.tls(files.map(|(certificate, key)| TlsFiles { certificate, key }).as_ref())?;
        let address = SocketAddr::new(self.address, self.port);
        let listen = |error| Error::Listen { address, error };
        let listener = TcpListener::bind(address).await.map_err(listen)?;
        let bound = listener.local_addr().map_err(listen)?;
        let mut stops = [SignalKind::terminate(), SignalKind::interrupt()]
            .map(signal)
            .into_iter()
            .collect::<Result<Vec<_>, _>>()
            .map_err(Error::Runtime)?;
        let rollback = authority.ledger().rollback();
        if rollback == Rollback::Unprotected {
            eprintln!(
                "warning: rollback-unprotected: whoever sets the database back to an older copy is not noticed\n  cure  Name a file elsewhere with --anchor, and make it with --anchor-new."
            );
        }
        println!("{}", json!({ "listening": bound.to_string(), "rollback": rollback }));
        io::stdout().flush().map_err(Error::Runtime)?;
        let stop = async move {
            let (first, second) = stops.split_at_mut(1);
            tokio::select! {
                _ = first[0].recv() => {}
                _ = second[0].recv() => {}
            }
        };
        authority.clone().serve(listener, tls, stop).await?;
        authority.close().await;
        Ok(Shown::Nothing)
    }
}

/// Shows the key that an owner root delegates to, and exports the one that content keys are sealed to
#[derive(Subcommand, Debug)]
pub(super) enum Key {
    Show(KeyShow),
    Export(KeyExport),
}

/// Prints the public half of the signing key, the thumbprint of the sealing key, and the certificates of the two CAs
#[derive(Args, Debug)]
pub(super) struct KeyShow {}

/// Writes the public sealing key, for those who make releases: `authority-key` in their kiln.toml
///
/// Have them compare the thumbprint that this prints with what `kiln inspect` and `kiln release` show them.
#[derive(Args, Debug)]
pub(super) struct KeyExport {
    /// The file
    file: PathBuf,
}

impl Key {
    pub(super) async fn run(&self, place: &Place) -> Result<Shown, Error> {
        let authority = place.authority().await?;
        let sealing = authority.sealing_key();
        if let Self::Export(KeyExport { file }) = self {
            write_sealing_key(file, &sealing)?;
            let thumbprint = json!(hex::encode(&sealing.thumbprint()));
            return Ok(Shown::facts("Sealing key:", [("file", json!(file)), ("thumbprint", thumbprint)]));
        }
        Ok(Shown::facts(
            "Public keys:",
            [
                ("signing key", json!(hex::encode(&authority.signing_key()))),
                ("sealing key thumbprint", json!(hex::encode(&sealing.thumbprint()))),
                ("tls ca", json!(authority.tls_ca_pem())),
                ("device ca", json!(authority.device_ca_pem())),
            ],
        ))
    }
}

/// Has an owner root delegate to the authority
#[derive(Subcommand, Debug)]
pub(super) enum DelegationCommand {
    Sign(DelegationSign),
    Add(DelegationAdd),
}

/// Signs a delegation with an owner root key, where that key is: nothing of the authority is needed but its key
#[derive(Args, Debug)]
pub(super) struct DelegationSign {
    /// The owner root key: PKCS#8 in PEM, or a file with the pkcs11: URI of the key on a token
    #[arg(long, value_name = "FILE")]
    root_key: PathBuf,
    /// The authority's signing key, as `init` printed it
    #[arg(long, value_name = "KEY", value_parser = hex::argument::<64>)]
    key: [u8; 64],
    /// The board that the devices are
    #[arg(long, value_name = "NAME")]
    board: String,
    /// Write the delegation here
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Takes a delegation: lots under that owner root can then be made
#[derive(Args, Debug)]
pub(super) struct DelegationAdd {
    /// The delegation
    delegation: PathBuf,
    /// The board that the devices are
    #[arg(long, value_name = "NAME")]
    board: String,
}

impl DelegationCommand {
    pub(super) async fn run(&self, place: &Place) -> Result<Shown, Error> {
        match self {
            Self::Sign(command) => {
                let path = &command.root_key;
                let root = release::OwnerKey::read(path).map_err(|error| unusable(path, &error))?;
                let delegation = Delegation::sign(&root, &command.key, &command.board)?;
                let text = serde_json::to_string_pretty(&delegation)
                    .map_err(|error| Error::Delegation(error.to_string()))?;
                write(&command.out, text.as_bytes(), 0o644)?;
                let root = json!(hex::encode(&delegation.root_digest()));
                Ok(Shown::facts("Delegated:", [("owner root", root), ("file", json!(command.out))]))
            }
            Self::Add(command) => {
                let path = &command.delegation;
                let text = std::fs::read(path).map_err(|error| Error::File { path: path.clone(), error })?;
                let delegation: Delegation = serde_json::from_slice(&text)
                    .map_err(|error| Error::Delegation(format!("{}: {error}", path.display())))?;
                place.authority().await?.delegate(&delegation, &command.board).await?;
                let root = json!(hex::encode(&delegation.root_digest()));
                Ok(Shown::facts("Delegation taken:", [("owner root", root)]))
            }
        }
    }
}

/// Makes certificates for stations
#[derive(Subcommand, Debug)]
pub(super) enum StationCommand {
    Add(StationAdd),
}

/// Makes a key and a certificate for a station
#[derive(Args, Debug)]
pub(super) struct StationAdd {
    /// Its name
    name: String,
    /// Write NAME.pem and NAME.key.pem into this folder
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

impl StationCommand {
    pub(super) async fn run(&self, place: &Place) -> Result<Shown, Error> {
        let Self::Add(command) = self;
        let station = place.authority().await?.issue_station(&command.name).await?;
        write_station(&command.out, &command.name, &station)?;
        Ok(Shown::facts(
            "A new station:",
            [
                ("certificate", json!(command.out.join(format!("{}.pem", command.name)))),
                ("fingerprint", json!(hex::encode(&station.station.fingerprint))),
            ],
        ))
    }
}

/// Measures
#[derive(Subcommand, Debug)]
pub(super) enum Bench {
    Tickets(BenchTickets),
}

/// Measures durable tickets per second over HTTPS on loopback, against the fsync rate of the same disk
#[derive(Args, Debug)]
pub(super) struct BenchTickets {
    /// How many clients ask at a time
    #[arg(long, value_name = "N", default_value_t = 200)]
    clients: u32,
    /// How many tickets are asked for
    #[arg(long, value_name = "N", default_value_t = 5000)]
    tickets: u32,
    /// Measure on the disk that holds this folder
    #[arg(long, value_name = "DIR", default_value = "target")]
    folder: PathBuf,
}

impl Bench {
    pub(super) async fn run(&self) -> Result<Shown, Error> {
        let Self::Tickets(command) = self;
        let plan = bench::Plan { clients: command.clients, tickets: command.tickets };
        let figures = bench::tickets(&command.folder, plan).await?;
        Ok(Shown::facts("Tickets:", figures.facts()))
    }
}

fn read_key(path: &Path) -> Result<boot_crypto::host::Es256Key, Error> {
    release::read_key(path).map_err(|error| unusable(path, &error))
}

fn unusable(path: &Path, error: &release::Error) -> Error {
    Error::Invalid { what: path.display().to_string(), why: error.to_string() }
}

fn write_sealing_key(path: &Path, key: &release::AuthorityKey) -> Result<(), Error> {
    let text = key.to_text().map_err(|error| unusable(path, &error))?;
    write(path, text.as_bytes(), 0o644)
}

fn write_station(folder: &Path, name: &str, station: &StationIdentity) -> Result<(), Error> {
    std::fs::create_dir_all(folder).map_err(|error| Error::File { path: folder.into(), error })?;
    write(&folder.join(format!("{name}.key.pem")), station.key.as_bytes(), 0o600)?;
    write(&folder.join(format!("{name}.pem")), station.certificate.as_bytes(), 0o644)
}

/// Writes a new file; nothing is ever written over.
fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|error| Error::File { path: path.into(), error })
}
