//! The one writer: decisions of many requests become durable together.
//!
//! A disk syncs a few hundred to a few thousand times a second; so requests that arrive while one commit is under
//! way share the next. A request is answered only once the commit that holds its decision has returned, and the anchor,
//! if there is one, has followed: once for all of them. A decision that fails takes none of the others with it: the batch
//! is undone and each is decided alone.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::anchor::Anchor;
use crate::fail_point::{self, FailPoint};
use crate::storage::{Later, Storage, StorageError, Transaction};

/// Most decisions in one transaction.
const BATCH: usize = 256;

/// What a request wants decided. It may be decided again after a failure, and leaves all effects to the
/// transaction.
pub(crate) trait Decision: Send + Sync + 'static {
    /// What is answered.
    type Answer: Send + 'static;

    /// Decides: checks first, writes last.
    fn decide<'a>(&'a self, tx: &'a mut dyn Transaction) -> Later<'a, Self::Answer>;
}

/// A decision on its way, whatever its type.
trait Waiting: Send {
    fn decide<'a>(&'a mut self, tx: &'a mut dyn Transaction) -> Later<'a, ()>;
    /// Answers, after the commit.
    fn answer(self: Box<Self>);
    /// Answers that nothing was stored.
    fn fail(self: Box<Self>, error: StorageError);
}

struct Pending<D: Decision> {
    decision: D,
    answer: Option<D::Answer>,
    reply: oneshot::Sender<Result<D::Answer, StorageError>>,
}

impl<D: Decision> Waiting for Pending<D> {
    fn decide<'a>(&'a mut self, tx: &'a mut dyn Transaction) -> Later<'a, ()> {
        Box::pin(async move {
            self.answer = Some(self.decision.decide(tx).await?);
            Ok(())
        })
    }

    // Whoever asked may have left: then nobody waits for the answer, and a retry will find it stored.
    fn answer(self: Box<Self>) {
        let _ = self.reply.send(self.answer.ok_or(StorageError::Stopped));
    }

    fn fail(self: Box<Self>, error: StorageError) {
        let _ = self.reply.send(Err(error));
    }
}

/// The way to the writer.
#[derive(Clone)]
pub(crate) struct Writer(mpsc::Sender<Box<dyn Waiting>>);

impl Writer {
    /// Starts the writer; it stops when the last of its handles is gone and all is answered.
    pub(crate) fn start(storage: Arc<dyn Storage>, anchor: Option<Arc<Anchor>>) -> Self {
        let (sender, receiver) = mpsc::channel(4 * BATCH);
        tokio::spawn(run(storage, anchor, receiver));
        Self(sender)
    }

    /// Has something decided, and returns once it is durable.
    ///
    /// # Errors
    /// Nothing was stored.
    pub(crate) async fn decide<D: Decision>(&self, decision: D) -> Result<D::Answer, StorageError> {
        let (reply, answer) = oneshot::channel();
        let pending = Box::new(Pending { decision, answer: None, reply });
        self.0.send(pending).await.map_err(|_| StorageError::Stopped)?;
        answer.await.map_err(|_| StorageError::Stopped)?
    }
}

async fn run(
    storage: Arc<dyn Storage>,
    anchor: Option<Arc<Anchor>>,
    mut receiver: mpsc::Receiver<Box<dyn Waiting>>,
) {
    let mut batch = Vec::with_capacity(BATCH);
    while receiver.recv_many(&mut batch, BATCH).await > 0 {
        if decide(&*storage, anchor.as_ref(), &mut batch).await.is_ok() {
            batch.drain(..).for_each(Waiting::answer);
            continue;
        }
        for one in batch.drain(..) {
            let mut alone = [one];
            let outcome = decide(&*storage, anchor.as_ref(), &mut alone).await;
            let [one] = alone;
            match outcome {
                Ok(()) => one.answer(),
                Err(error) => one.fail(error),
            }
        }
    }
}

/// Makes decisions durable: in the database, then in the anchor. Where only the latter fails nothing is told either;
/// whoever asks again finds what is stored, and waits for the anchor again.
async fn decide(
    storage: &dyn Storage,
    anchor: Option<&Arc<Anchor>>,
    batch: &mut [Box<dyn Waiting>],
) -> Result<(), StorageError> {
    fail_point::hit(FailPoint::BeforeTransaction);
    let mut tx = storage.write().await?;
    for one in batch {
        one.decide(&mut *tx).await?;
    }
    let head = tx.commit().await?;
    match anchor {
        Some(anchor) => anchor.follow(storage, head).await,
        None => Ok(()),
    }
}
