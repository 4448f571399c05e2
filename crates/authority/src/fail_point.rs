//! Places at which a test ends the process, as a power cut would.
//!
//! Only with the feature `fail-points`, which nothing but the tests of this crate turns on, and only where
//! `KILN_FAIL_POINT=NAME:N` is set: the process aborts when it comes to that place for the N-th time.

/// Ends the process here if a test asked for it.
#[cfg(feature = "fail-points")]
pub(crate) fn hit(name: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static WANTED: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static HITS: AtomicU64 = AtomicU64::new(0);

    let wanted = WANTED.get_or_init(|| {
        let setting = std::env::var("KILN_FAIL_POINT").ok()?;
        let (name, count) = setting.split_once(':')?;
        Some((name.into(), count.parse().ok()?))
    });
    if let Some((place, count)) = wanted
        && place == name
        && HITS.fetch_add(1, Ordering::SeqCst) + 1 == *count
    {
        std::process::abort();
    }
}

/// Does nothing.
#[cfg(not(feature = "fail-points"))]
pub(crate) const fn hit(_name: &str) {}
