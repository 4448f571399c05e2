//! Authority.
#![forbid(unsafe_code)]
mod anchor;
mod answer;
mod authority;
pub mod bench;
pub mod cli;
pub mod client;
mod error;
pub mod fail_point;
pub mod hex;
mod keys;
mod ledger;
mod lot;
pub mod model;
mod policy;
mod seal;
mod service;
pub mod storage;
mod tls;
pub mod vendor;
mod writer;
pub mod x509;

pub use anchor::{AnchorError, AnchorFile};
pub use authority::{Authority, Config, Station, StationIdentity};
pub use error::{Error, Refusal};
pub use keys::Delegation;
pub use ledger::{AuditInfo, InstallInfo, Ledger, LotInfo, Rollback, Status};
pub use lot::{Fuses, NewLot, Terms};
pub use seal::{KeyEncryption, LocalKey, SealError};
pub use tls::{TlsFiles, station_tls};
