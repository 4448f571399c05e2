//! Everything that a station has seen: what whoever owns it has.

use std::time::Duration;

/// Which way something went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The device said it on the link.
    FromDevice,
    /// The station said it on the link.
    ToDevice,
    /// The authority answered it.
    FromAuthority,
    /// The station asked the authority.
    ToAuthority,
}

/// Something that a station saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Since the station began with the device.
    pub at: Duration,
    /// Which way it went.
    pub way: Way,
    /// All of it.
    pub bytes: Vec<u8>,
}

/// Everything that a station has seen of one device, in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transcript {
    /// It all.
    pub seen: Vec<Seen>,
}

impl Transcript {
    /// Returns all bytes that went one way, one after the other: what is cut between two reads is whole here.
    pub fn bytes(&self, way: Way) -> Vec<u8> {
        self.seen.iter().filter(|seen| seen.way == way).flat_map(|seen| seen.bytes.iter().copied()).collect()
    }

    /// Returns everything as lines of time, way and hex, for a file.
    pub fn to_text(&self) -> String {
        let line = |seen: &Seen| {
            let way = match seen.way {
                Way::FromDevice => "device    >",
                Way::ToDevice => "device    <",
                Way::FromAuthority => "authority >",
                Way::ToAuthority => "authority <",
            };
            let hex: String = seen.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{:>10.3} {way} {hex}\n", seen.at.as_secs_f64())
        };
        self.seen.iter().map(line).collect()
    }
}
