//! The command: a station next to one or more programming sockets.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use crate::{
    Authority, Credentials, Display, Error, Linked, Outcome, Patience, Record, Transcript, link, serve_all,
};

/// Relays between devices and the authority until each device is closed or refused.
///
/// Ends each device with one record: pass, or the code and cause of the refusal. The station decides nothing and learns
/// nothing secret: device and authority speak end to end, and the records are all that a factory needs.
#[derive(Args, Clone, Debug)]
pub struct Station {
    /// A device and its link: `NAME=/dev/ttyUSB0` for a serial line, `NAME=unix:PATH` for a socket of QEMU; several
    /// may be given
    #[arg(long = "device", value_name = "NAME=LINK", required = true)]
    devices: Vec<String>,
    /// Address of the authority, such as `https://authority.example:8443`
    #[arg(long, value_name = "URL")]
    authority: String,
    /// The lot that this station works for
    #[arg(long, value_name = "LOT")]
    lot: String,
    /// PEM file of the certificate that the authority's own has to lead to
    #[arg(long, value_name = "FILE")]
    ca: PathBuf,
    /// PEM file of this station's certificate
    #[arg(long, value_name = "FILE")]
    certificate: PathBuf,
    /// PEM file of this station's private key
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Speed of serial lines in baud
    #[arg(long, value_name = "BAUD", default_value_t = 115_200)]
    baud: u32,
    /// How long a device may be silent, in seconds
    #[arg(long, value_name = "S", default_value_t = 60)]
    silence: u64,
    /// Print each record as one line of JSON, and show no progress
    #[arg(long)]
    json: bool,
    /// Write everything that was seen of each device into FOLDER, as NAME.txt
    #[arg(long, value_name = "FOLDER")]
    transcripts: Option<PathBuf>,
}

impl Station {
    /// Runs the command; `Ok(false)` if a device was refused.
    ///
    /// # Errors
    /// If the station cannot work: a file, a link or the address is wrong. No device is touched then.
    pub fn run(&self) -> Result<bool, Error> {
        let credentials = Credentials {
            authority_ca: read(&self.ca)?,
            certificate: read(&self.certificate)?,
            key: read(&self.key)?,
        };
        let authority = Authority::new(&self.authority, &self.lot, &credentials)?;
        if let Some(folder) = &self.transcripts {
            fs::create_dir_all(folder).map_err(|source| Error::Write { path: folder.clone(), source })?;
        }
        let devices = self.open()?;
        let display = if self.json { Display::quiet() } else { Display::new() };
        let patience = Patience { device: Duration::from_secs(self.silence), ..Patience::default() };
        let show = |device: &str, event: &crate::Event| display.show(device, event);
        let ended = |record: &Record, transcript: &Transcript| self.ended(record, transcript);
        let records = serve_all(devices, &authority, patience, &show, &ended);
        let mut all = true;
        for record in records {
            all &= record?.result == Outcome::Pass;
        }
        Ok(all)
    }

    fn open(&self) -> Result<Vec<Linked>, Error> {
        let (mut names, mut links) = (BTreeSet::new(), BTreeSet::new());
        let mut devices = Vec::new();
        for device in &self.devices {
            let (name, link) = named(device)?;
            for (set, what) in [(&mut names, name), (&mut links, link)] {
                if !set.insert(what) {
                    return Err(Error::Twice { what: what.into() });
                }
            }
            devices.push((name.to_owned(), link::open(link, self.baud)?));
        }
        Ok(devices)
    }

    /// Shows the record of a device at once: the others may take longer.
    fn ended(&self, record: &Record, transcript: &Transcript) -> Result<(), Error> {
        if self.json {
            println!("{}", serde_json::to_string(record).unwrap_or_default());
        } else {
            println!("{}", line(record));
        }
        let Some(folder) = &self.transcripts else { return Ok(()) };
        let path = folder.join(format!("{}.txt", record.device));
        fs::write(&path, transcript.to_text()).map_err(|source| Error::Write { path, source })
    }
}

/// Splits `NAME=LINK`.
fn named(device: &str) -> Result<(&str, &str), Error> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    match device.split_once('=') {
        Some((name, link)) if !name.is_empty() && name.chars().all(plain) && !link.is_empty() => {
            Ok((name, link))
        }
        _ => Err(Error::Link {
            link: device.into(),
            reason: "a device is given as NAME=LINK; letters, digits, `-`, `_` and `.` make a name".into(),
        }),
    }
}

/// Says in one line how a device ended.
fn line(record: &Record) -> String {
    let die = record.chip_id.as_deref().unwrap_or("unknown");
    match (record.result, &record.code, &record.cause) {
        (Outcome::Pass, ..) => format!("PASS {} die {die}", record.device),
        (Outcome::Refused, code, cause) => {
            let (code, cause) = (code.as_deref().unwrap_or_default(), cause.as_deref().unwrap_or_default());
            format!("FAIL {} die {die}: {code} {cause}", record.device)
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|source| Error::Read { path: path.into(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_has_a_name_and_a_link() {
        assert_eq!(named("d1=/dev/ttyUSB0").unwrap(), ("d1", "/dev/ttyUSB0"));
        assert_eq!(named("a.b=unix:/run/x=y").unwrap(), ("a.b", "unix:/run/x=y"));
        for bad in ["", "d1", "=x", "d1=", "d/1=x", "../d=x"] {
            assert!(named(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_record_is_one_line_for_a_person() {
        let mut record = Record {
            device: "d1".into(),
            chip_id: Some("00ff".into()),
            result: Outcome::Pass,
            code: None,
            cause: None,
            steps: Vec::new(),
        };
        assert_eq!(line(&record), "PASS d1 die 00ff");
        record.result = Outcome::Refused;
        (record.code, record.cause) =
            (Some("K1121".into()), Some("every install of the lot is taken".into()));
        assert_eq!(line(&record), "FAIL d1 die 00ff: K1121 every install of the lot is taken");
    }
}
