//! Places at which a test ends the process, as a power cut would.
//!
//! Only with the feature `fail-points`, which nothing but the tests of this crate turns on, and only where
//! `KILN_FAIL_POINT=NAME:N` is set: the process kills itself with SIGKILL when it comes to that place for the N-th time.
//! The places are one list, which the tests read: one that is added is killed at, and one that no code comes to fails
//! them.

use sqlx::sqlite::SqliteConnectOptions;

macro_rules! fail_points {
    ($($(#[$doc:meta])* $point:ident = $name:literal,)*) => {
        /// A place at which a test may end the process.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum FailPoint {
            $($(#[$doc])* $point,)*
        }

        #[cfg(feature = "fail-points")]
        impl FailPoint {
            /// Every place.
            pub const ALL: &[Self] = &[$(Self::$point,)*];

            /// Returns its name.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$point => $name,)*
                }
            }
        }
    };
}

fail_points! {
    /// Before a batch of decisions begins its transaction.
    BeforeTransaction = "before-transaction",
    /// Before an install is reserved.
    BeforeReserve = "before-reserve",
    /// Between the lot's count and the install.
    InReserve = "in-reserve",
    /// After an install was reserved.
    AfterReserve = "after-reserve",
    /// Before a ticket is written.
    BeforeTicket = "before-ticket",
    /// After a ticket was written.
    AfterTicket = "after-ticket",
    /// Before a receipt is written.
    BeforeReceipt = "before-receipt",
    /// After a receipt was written.
    AfterReceipt = "after-receipt",
    /// Before an install is changed that stays open.
    BeforeUpdate = "before-update",
    /// After an install was changed that stays open.
    AfterUpdate = "after-update",
    /// Before an install is closed.
    BeforeClose = "before-close",
    /// After an install was closed.
    AfterClose = "after-close",
    /// Before what happened is written down.
    BeforeAudit = "before-audit",
    /// After what happened was written down.
    AfterAudit = "after-audit",
    /// Before the transaction's link of the hash chain is written.
    BeforeChain = "before-chain",
    /// Before the transaction is committed.
    BeforeCommit = "before-commit",
    /// After the transaction was committed.
    AfterCommit = "after-commit",
    /// Before the new anchor is written.
    BeforeAnchor = "before-anchor",
    /// After the new anchor was written next to the old one.
    AnchorWritten = "anchor-written",
    /// After the new anchor has taken the old one's place, and before the folder is synced.
    AnchorRenamed = "anchor-renamed",
    /// After the anchor is durable, and before a decision is told.
    AfterAnchor = "after-anchor",
    /// Before a ticket is sent.
    BeforeTicketReply = "before-ticket-reply",
    /// Before a receipt is sent.
    BeforeReceiptReply = "before-receipt-reply",
    /// Before a release is sent.
    BeforeReleaseReply = "before-release-reply",
    /// Before a refusal is sent.
    BeforeRefusalReply = "before-refusal-reply",
}

/// Ends the process here if a test asked for it.
#[cfg(feature = "fail-points")]
pub(crate) fn hit(point: FailPoint) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use rustix::process::{Signal, getpid, kill_process};

    static WANTED: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static HITS: AtomicU64 = AtomicU64::new(0);

    let wanted = WANTED.get_or_init(|| {
        let setting = std::env::var("KILN_FAIL_POINT").ok()?;
        let (name, count) = setting.split_once(':')?;
        Some((name.into(), count.parse().ok()?))
    });
    if let Some((place, count)) = wanted
        && place == point.name()
        && HITS.fetch_add(1, Ordering::SeqCst) + 1 == *count
    {
        kill_process(getpid(), Signal::KILL).expect("a process may kill itself");
    }
}

/// Does nothing.
#[cfg(not(feature = "fail-points"))]
pub(crate) const fn hit(_point: FailPoint) {}

/// Limits the pages of the database if a test asked for it with `KILN_MAX_PAGES`: then the disk is full for SQLite.
#[cfg(feature = "fail-points")]
pub(crate) fn limited(options: SqliteConnectOptions) -> SqliteConnectOptions {
    match std::env::var("KILN_MAX_PAGES") {
        Ok(pages) => options.pragma("max_page_count", pages),
        Err(_) => options,
    }
}

/// Does nothing.
#[cfg(not(feature = "fail-points"))]
pub(crate) const fn limited(options: SqliteConnectOptions) -> SqliteConnectOptions {
    options
}
