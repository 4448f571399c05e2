//! Decrypting an object on all cores.
//!
//! Chunks are independent, so that each core takes the next one that is left: it checks the tag, decrypts, checks
//! the signed digest and writes the cache lines back, while the chunk is still in its cache.

use alloc::vec::Vec;

use hal::{Coherency, Cores};
use sealed_image::{Error, Opened, Opener, Tally};
use spin::Mutex;

/// A chunk to open: in place, or from where it was staged to its place.
struct Job<'a> {
    index: u32,
    place: &'a mut [u8],
    staged: Option<&'a mut [u8]>,
}

/// Opens every chunk of an object into `place`, which has the size of the payload. `staged` holds the ciphertext of
/// a compressed object; that of a plain one is in `place` already. What was opened is added up in `tally`, for a second look.
///
/// # Errors
/// The first error that a core met; `place` then holds a mixture that must be wiped.
pub(crate) fn open(
    cores: &mut impl Cores,
    caches: &impl Coherency,
    opener: &Opener<'_>,
    place: &mut [u8],
    staged: Option<&mut [u8]>,
    tally: &mut Tally,
) -> Result<Opened, Error> {
    let jobs = Mutex::new(jobs(opener, place, staged).into_iter());
    let outcome = Mutex::new(Ok(()));
    let all = Mutex::new(tally);
    cores.run(&|_| {
        let mut tally = Tally::default();
        while outcome.lock().is_ok() {
            let Some(job) = jobs.lock().next() else { break };
            let opened = match job.staged {
                None => opener.open_chunk(job.index, job.place),
                Some(staged) => opener.open_chunk_into(job.index, staged, job.place),
            };
            match opened {
                Ok(chunk) => {
                    caches.clean(job.place);
                    tally.add(&chunk);
                }
                Err(error) => *outcome.lock() = Err(error),
            }
        }
        all.lock().add(&tally);
    });
    outcome.into_inner().and_then(|()| opener.finish(all.into_inner()))
}

/// Cuts the memory into one job for each chunk. Lengths that do not fit end the list early, and `finish` then
/// refuses the object.
fn jobs<'a>(opener: &Opener<'_>, place: &'a mut [u8], staged: Option<&'a mut [u8]>) -> Vec<Job<'a>> {
    let in_place = staged.is_none();
    let (mut place, mut staged) = (place, staged.unwrap_or_default());
    let mut jobs = Vec::with_capacity(opener.chunk_count() as usize);
    for chunk in opener.chunks() {
        let Some((mine, rest)) = place.split_at_mut_checked(chunk.plain_len as usize) else { break };
        place = rest;
        let staged_chunk = if in_place {
            None
        } else {
            let Some((mine, rest)) = staged.split_at_mut_checked(chunk.stored_len as usize) else { break };
            staged = rest;
            Some(mine)
        };
        jobs.push(Job { index: chunk.index, place: mine, staged: staged_chunk });
    }
    jobs
}
