//! Requests out on one thread, answers in on another, a bounded number between them.

use super::{
    Setup,
    job::{self, Job},
    outcome::Outcome,
};
use crate::{basis, failure::Failure, plan::Limits, reach::Reach};
use client::{Client, ClientError, Receiver, Refusal, Sender};
use std::{
    collections::{HashMap, VecDeque},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};
use wire::{HEADER_LEN, payload::QueryRequest};

/// Shortest and longest pause before something is tried again.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// How a connection's life ended.
enum End {
    /// Every row has its answer.
    Done,
    /// Worth another connection after a pause.
    Again(Duration, String),
}

/// What is still to do, across connections.
struct Ledger {
    fresh: Box<dyn Iterator<Item = Job>>,
    again: VecDeque<Job>,
    in_flight: HashMap<u64, Job>,
    last_progress: Instant,
}

impl Ledger {
    /// The next job. New ones only where `more` allows them; what is asked for again is what others
    /// may be waiting for.
    fn next(&mut self, more: bool) -> Option<Job> {
        self.again.pop_front().or_else(|| if more { self.fresh.next() } else { None })
    }

    /// A retry is due; an error once nothing has moved for as long as the user is patient.
    fn check_patience(&self, patience: Duration, why: &str) -> Result<(), Failure> {
        if self.last_progress.elapsed() > patience {
            let waited = format!("nothing moved for {patience:?}; the last word was: {why}");
            return Err(Failure::run(waited));
        }
        Ok(())
    }
}

/// What a node says of itself that a run depends on.
pub(super) struct Facts {
    /// The longest payload that it accepts.
    pub(super) payload_max: u64,
    /// Its basis.
    pub(super) basis: basis::Known,
}

/// Asks the node. A refusal that may pass is waited out.
pub(super) fn facts(reach: &Reach, patience: Duration) -> Result<Facts, Failure> {
    let started = Instant::now();
    loop {
        let asked = reach.connect().and_then(|mut client| client.metrics());
        match asked {
            Ok(metrics) => {
                let limit = metrics.fact("max_payload").and_then(|text| text.parse().ok());
                let payload_max = limit.unwrap_or(Limits::PAYLOAD_MIN);
                return Ok(Facts { payload_max, basis: basis::known(&metrics) });
            }
            Err(ClientError::Refused(refusal))
                if refusal.code.retryable() && started.elapsed() < patience =>
            {
                thread::sleep(pause(&refusal));
            }
            Err(error) => return Err(Failure::run(error)),
        }
    }
}

/// How long a refusal wants to be waited for, within reason.
fn pause(refusal: &Refusal) -> Duration {
    refusal.retry_after.unwrap_or(PAUSE_MIN).clamp(PAUSE_MIN, PAUSE_MAX)
}

/// Gets every row answered.
pub(super) fn run(setup: &Setup<'_>, outcome: &mut Outcome<'_>) -> Result<(), Failure> {
    let mut ledger = Ledger {
        fresh: Box::new(job::jobs(setup.tensor.rows, setup.per_request)),
        again: VecDeque::new(),
        in_flight: HashMap::new(),
        last_progress: Instant::now(),
    };
    loop {
        let end = match setup.reach.connect() {
            Ok(client) => connection(setup, client, &mut ledger, outcome)?,
            Err(error) => End::Again(PAUSE_MAX, error.to_string()),
        };
        match end {
            End::Done => return Ok(()),
            End::Again(pause, why) => {
                outcome.retries += ledger.in_flight.len() as u64;
                let lost = ledger.in_flight.drain().map(|(_, job)| job);
                ledger.again.extend(lost);
                ledger.check_patience(setup.args.patience.0, &why)?;
                setup.progress.set_message(format!(" ({why})"));
                thread::sleep(pause);
            }
        }
    }
}

/// Drives one connection until all is done, or until it ends.
fn connection(
    setup: &Setup<'_>,
    client: Client,
    ledger: &mut Ledger,
    outcome: &mut Outcome<'_>,
) -> Result<End, Failure> {
    let (sender, mut receiver) = client.into_halves();
    thread::scope(|scope| {
        let (orders, to_send) = mpsc::channel();
        let sending = scope.spawn(move || send_all(setup, sender, &to_send));
        // The sender numbers its requests from 1 in the order in which they are ordered.
        let mut next_id = 1;
        let end = loop {
            while ledger.in_flight.len() < setup.args.depth {
                let Some(job) = ledger.next(outcome.has_room()) else { break };
                ledger.in_flight.insert(next_id, job);
                // A sender that is gone has a reason, which it returns; the receiver sees the end
                // of the stream.
                let _ = orders.send(job);
                next_id += 1;
            }
            if ledger.in_flight.is_empty() {
                break Ok(End::Done);
            }
            match answer(setup, &mut receiver, ledger, outcome) {
                Ok(None) => {}
                Ok(Some(end)) => break Ok(end),
                Err(failure) => break Err(failure),
            }
        };
        drop(orders);
        drop(receiver);
        match sending.join() {
            // The file failed, not the node: that is what the user must hear.
            Ok(Err(failure)) => Err(failure),
            Ok(Ok(())) => end,
            Err(_) => Err(Failure::run("the sending thread panicked")),
        }
    })
}

/// Takes in one frame.
fn answer(
    setup: &Setup<'_>,
    receiver: &mut Receiver,
    ledger: &mut Ledger,
    outcome: &mut Outcome<'_>,
) -> Result<Option<End>, Failure> {
    let reply = match receiver.receive() {
        Ok(reply) => reply,
        Err(error @ ClientError::Protocol { .. }) => return Err(Failure::run(error)),
        Err(error) => return Ok(Some(End::Again(PAUSE_MAX, error.to_string()))),
    };
    let id = reply.header.message_id();
    match reply.response() {
        Ok(response) => {
            let Some(job) = ledger.in_flight.remove(&id) else {
                return Err(Failure::run(format!("an answer to {id}, which was not asked")));
            };
            outcome.take(setup, job, &response, HEADER_LEN + reply.payload.len())?;
            ledger.last_progress = Instant::now();
            setup.progress.set_message("");
            setup.progress.inc(job.rows.into());
            Ok(None)
        }
        Err(ClientError::Refused(refusal)) if refusal.code.retryable() => {
            let pause = pause(&refusal);
            if refusal.code.closes() {
                return Ok(Some(End::Again(pause, refusal.to_string())));
            }
            if let Some(job) = ledger.in_flight.remove(&id) {
                ledger.again.push_back(job);
                outcome.retries += 1;
            }
            ledger.check_patience(setup.args.patience.0, &refusal.to_string())?;
            thread::sleep(pause);
            Ok(None)
        }
        Err(error) => Err(Failure::run(error)),
    }
}

/// Reads and sends the rows that are ordered, until there are no more orders.
fn send_all(
    setup: &Setup<'_>,
    mut sender: Sender,
    orders: &mpsc::Receiver<Job>,
) -> Result<(), Failure> {
    let mut rows = Vec::new();
    for job in orders {
        if let Err(error) = setup.tensor.read(job.first, job.rows.into(), &mut rows) {
            // Ends the receiver's wait; its own error gives way to this one.
            let _ = sender.finish();
            return Err(Failure::run(error));
        }
        let work = setup.ask.work(setup.tensor.dtype, job.rows, setup.tensor.cols);
        let priority = setup.args.priority.code();
        let mut request = QueryRequest { work, priority, ..QueryRequest::default() };
        // The receiver tells why a connection failed, better than a broken pipe could.
        if sender.send_request(&mut request, &rows).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn while_answers_wait_for_one_before_them_only_that_one_is_asked_for() {
        let job = |first| Job { first, rows: 1 };
        let mut ledger = Ledger {
            fresh: Box::new((5..).map(job)),
            again: VecDeque::from([job(2)]),
            in_flight: HashMap::new(),
            last_progress: Instant::now(),
        };
        assert_eq!(ledger.next(false), Some(job(2)));
        assert_eq!(ledger.next(false), None);
        assert_eq!(ledger.next(true), Some(job(5)));
    }
}
