//! What the authority answers, what it refuses, and what survives when it does not.

mod anchor;
mod cli;
mod closing;
mod common;
mod concurrency;
mod csr;
mod faults;
mod fire;
mod lots;
mod process;
mod refusals;
mod secrets;
mod service;
mod story;
mod vendor;
