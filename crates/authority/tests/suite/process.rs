//! The real service, as a process of its own, and stations that speak to it.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;

use authority::client::Client;
use authority::{Authority, station_tls};
use rustls::ClientConfig;

use crate::common::{KEK, config, hex};

/// What a station holds to speak to an authority.
pub(crate) async fn credentials(authority: &Authority) -> Arc<ClientConfig> {
    let station = authority.issue_station("a station").await.unwrap();
    station_tls(&authority.tls_ca_pem(), &station.certificate, &station.key).unwrap()
}

/// A running service. It is killed when it is dropped.
pub(crate) struct Service {
    child: Child,
    pub(crate) address: SocketAddr,
    /// What it says of rollbacks.
    pub(crate) rollback: String,
}

/// Makes the command that serves the authority in a folder, on any port.
pub(crate) fn serve(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kiln-authority"));
    command.args(["serve", "--port", "0", "--kek-env", "TEST_KEK", "--data"]).arg(config(folder).data);
    command.env("TEST_KEK", hex(&KEK));
    for variable in ["KILN_FAIL_POINT", "KILN_MAX_PAGES", "KILN_AUTHORITY_ANCHOR"] {
        command.env_remove(variable);
    }
    command
}

impl Service {
    /// Starts the service of the authority in a folder, and waits until it listens.
    pub(crate) fn start(folder: &Path) -> Self {
        Self::launch(&mut serve(folder)).unwrap_or_else(|status| panic!("the service ended: {status}"))
    }

    /// Starts a service, and waits until it listens; an error is how it ended before.
    pub(crate) fn launch(command: &mut Command) -> Result<Self, ExitStatus> {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        if line.is_empty() {
            return Err(child.wait().unwrap());
        }
        let said: serde_json::Value = serde_json::from_str(&line).unwrap();
        let address = said["listening"].as_str().unwrap().parse().unwrap();
        Ok(Self { child, address, rollback: said["rollback"].as_str().unwrap().to_owned() })
    }

    /// Kills it, as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Returns how it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Tells it to stop, and waits until it has.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap()
    }

    pub(crate) async fn connect(&self, tls: &Arc<ClientConfig>) -> Result<Client, authority::Error> {
        Client::connect(self.address, tls.clone()).await
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
