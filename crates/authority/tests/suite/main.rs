//! What the authority answers, what it refuses, and what survives when it does not.

mod common;
mod story;
