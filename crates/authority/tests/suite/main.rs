//! What the authority answers, what it refuses, and what survives when it does not.

mod closing;
mod common;
mod csr;
mod lots;
mod refusals;
mod story;
mod vendor;
