//! An answer under way, frame by frame.

use crate::{
    Answer, ClientError,
    aio::{conn::Flight, keeper::Slot},
};
use std::time::{Duration, Instant};
use tokio::time::timeout_at;

/// A try and its place. In this order: the call is taken back before its place is free.
#[derive(Debug)]
pub(crate) struct UnderWay {
    flight: Flight,
    slot: Slot,
}

impl UnderWay {
    pub(crate) const fn new(flight: Flight, slot: Slot) -> Self {
        Self { flight, slot }
    }

    /// The next frame of the answer. Only until the last one.
    pub(crate) async fn next(&mut self) -> Result<Answer, ClientError> {
        let answer = self.flight.next().await?;
        self.slot.answered = true;
        Ok(answer)
    }
}

/// The chunks of a streamed answer. Dropped before the last one, it takes the request back.
#[derive(Debug)]
pub struct Chunks {
    first: Option<Answer>,
    under_way: Option<UnderWay>,
    deadline: Instant,
    time: Duration,
}

impl Chunks {
    pub(crate) const fn new(
        first: Answer,
        under_way: UnderWay,
        deadline: Instant,
        time: Duration,
    ) -> Self {
        Self { first: Some(first), under_way: Some(under_way), deadline, time }
    }

    /// The next chunk, in order; `None` behind the last one and behind an error. No chunk is lost
    /// where the future is dropped.
    ///
    /// # Errors
    /// [`ClientError::Refused`], [`ClientError::Io`] and [`ClientError::Protocol`]: the answer ends
    /// here; [`ClientError::DeadlineExceeded`].
    pub async fn next(&mut self) -> Option<Result<Answer, ClientError>> {
        if let Some(first) = self.first.take() {
            return Some(self.checked(first));
        }
        let under_way = self.under_way.as_mut()?;
        match timeout_at(self.deadline.into(), under_way.next()).await {
            Ok(Ok(answer)) => Some(self.checked(answer)),
            Ok(Err(why)) => {
                self.under_way = None;
                Some(Err(why))
            }
            Err(_) => {
                self.under_way = None;
                Some(Err(ClientError::DeadlineExceeded { after: self.time, last: None }))
            }
        }
    }

    /// Shows a chunk, and ends with the last one.
    fn checked(&mut self, answer: Answer) -> Result<Answer, ClientError> {
        let is_final = answer.response().map(|response| response.root.streaming_chunk.is_final);
        if !matches!(is_final, Ok(false)) {
            self.under_way = None;
        }
        is_final.map(|_| answer)
    }
}
