//! What both halves of the protocol take and refuse.

mod answers;
mod cddl;
mod closing;
mod common;
mod csr;
mod every_bit;
mod exact;
mod link;
mod reports;
mod request;
mod samples;
mod session;
mod signed_again;
mod verdict;
