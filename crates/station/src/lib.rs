#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod authority;
mod chip;
mod command;
mod error;
pub mod link;
mod progress;
mod record;
mod session;
mod transcript;

pub use authority::{Authorise, Authority, Credentials, Failure};
pub use command::Station;
pub use error::Error;
pub use link::{Link, Socket};
pub use progress::Display;
pub use record::{Outcome, Record, Refused, Step, step_name};
pub use session::{Event, Patience, Watch, serve};
pub use transcript::{Seen, Transcript, Way};

/// A device by its name, and the link to it.
pub type Linked = (String, Box<dyn Link>);

/// Serves several devices at once, each in a thread of its own, and hands each record to `ended` as soon as it is
/// made. Returns what `ended` made of them with the records, in the order of the devices.
pub fn serve_all<E: Send>(
    devices: Vec<Linked>,
    authority: &dyn Authorise,
    patience: Patience,
    watch: Watch<'_>,
    ended: &(dyn Fn(&Record, &Transcript) -> Result<(), E> + Sync),
) -> Vec<Result<Record, E>> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = devices
            .into_iter()
            .map(|(name, mut link)| {
                scope.spawn(move || {
                    let (record, transcript) = serve(&name, link.as_mut(), authority, patience, watch);
                    ended(&record, &transcript).map(|()| record)
                })
            })
            .collect();
        // A panic of one thread is one of this function, as it would be without threads.
        let joined = threads.into_iter().map(|thread| thread.join());
        joined.map(|record| record.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}
