//! The one writer: decisions of many requests become durable together.
//!
//! A disk syncs a few hundred to a few thousand times a second; so requests that arrive while one commit is under
//! way share the next. A request is answered only once the commit that holds its decision has returned. A
//! decision that fails takes none of the others with it: the batch is undone and each is decided alone.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::fail_point;
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
    pub(crate) fn start(storage: Arc<dyn Storage>) -> Self {
        let (sender, receiver) = mpsc::channel(4 * BATCH);
        tokio::spawn(run(storage, receiver));
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

async fn run(storage: Arc<dyn Storage>, mut receiver: mpsc::Receiver<Box<dyn Waiting>>) {
    let mut batch = Vec::with_capacity(BATCH);
    while receiver.recv_many(&mut batch, BATCH).await > 0 {
        match commit(&*storage, &mut batch).await {
            Ok(()) => {
                fail_point::hit("after-commit");
                batch.drain(..).for_each(Waiting::answer);
            }
            Err(error) if batch.len() == 1 => batch.drain(..).for_each(|one| one.fail(retold(&error))),
            Err(_) => {
                for one in batch.drain(..) {
                    let mut alone = vec![one];
                    let outcome = commit(&*storage, &mut alone).await;
                    for one in alone {
                        match &outcome {
                            Ok(()) => one.answer(),
                            Err(error) => one.fail(retold(error)),
                        }
                    }
                }
            }
        }
    }
}

async fn commit(storage: &dyn Storage, batch: &mut [Box<dyn Waiting>]) -> Result<(), StorageError> {
    fail_point::hit("before-transaction");
    let mut tx = storage.write().await?;
    for one in batch {
        one.decide(&mut *tx).await?;
        fail_point::hit("in-transaction");
    }
    fail_point::hit("before-commit");
    tx.commit().await
}

/// Tells an error once more: those of the database cannot be copied.
fn retold(error: &StorageError) -> StorageError {
    match error {
        StorageError::Constraint(rule) => StorageError::Constraint(rule.clone()),
        StorageError::Row { table } => StorageError::Row { table },
        other => StorageError::Constraint(other.to_string()),
    }
}
