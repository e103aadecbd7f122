//! What agents do: they take orders, work for as long as the model says, act at their moment,
//! beat.

use super::leave::Letter;
use super::{ARM, Arrival, Asked, Crowd, Item, Life, Member, SPIN, STAMP_EVERY, TIMERS_PER_TURN};
use dataplane_core::driver::{Driver, Time};
use fleet::Outcome;
use mesh::agent::{Dropped, Order, Output, Verdict};
use wire::payload::mesh::AgentHeartbeat;

/// What agents say when the model has them know better.
const CONFLICT: &str = "conflict of the model";
/// Agents whose acts are followed up between two looks at who is due, and in one turn.
const ACTS_AT_ONCE: usize = 32;
const ACTS_PER_TURN: usize = 2_048;
/// Heartbeats of the plan that leave in one turn.
const BEATS_PER_TURN: usize = 4_096;

impl Crowd {
    /// A COORDINATE reaches its agent at true time `now`.
    pub(super) fn order(&mut self, at: usize, order: &Order, now: Time) {
        let member = &mut self.members[at];
        if member.life != Life::Here {
            self.truth.count("orders_unheard", 1);
            return;
        }
        if member.manners.vanishes {
            self.truth.count("agents_vanished", 1);
            self.depart(at);
            return;
        }
        let index = member.index;
        self.truth.classes[usize::from(self.fleet.class(index).code())].orders += 1;
        member.asked = Asked {
            id: order.message_id,
            target: order.target_ns,
            weight: order.weight,
            expected_us: order.expected_us,
            hold: order.hold,
        };
        let (own, queue) = (self.fleet.clock(index, now), self.fleet.queue(index, now));
        member.agent.order(own, order, queue, &mut self.out);
        self.digest(at, now);
    }

    /// The answer to a heartbeat reaches its agent.
    pub(super) fn answer(&mut self, at: usize, answer: &AgentHeartbeat, now: Time) {
        let member = &mut self.members[at];
        if member.life != Life::Here {
            return;
        }
        let own = self.fleet.clock(member.index, now);
        if member.agent.answered(own, answer) {
            self.truth.beat_ns.saturating_record(now.saturating_sub(member.planned));
            self.truth.count("beat_answers", 1);
        } else {
            self.truth.count("beat_answers_ignored", 1);
        }
    }

    /// Does what an agent wants done, until it wants nothing more.
    fn digest(&mut self, at: usize, now: Time) {
        let mut next = 0;
        while let Some(output) = self.out.get(next).copied() {
            next += 1;
            match output {
                Output::Begin { weight, queue } => self.serve(at, now, weight, queue),
                Output::Ack(ack) => {
                    let Member { index, asked, .. } = &self.members[at];
                    self.truth.answer(&self.fleet, *index, asked, &ack);
                    self.truth.count("acks", 1);
                    self.send(at, Letter::Ack(ack), now);
                    if self.members[at].manners.twice {
                        self.send(at, Letter::Ack(ack), now);
                    }
                }
                Output::Beat(beat) => {
                    self.members[at].planned = now;
                    self.truth.count("beats", 1);
                    self.send(at, Letter::Beat(beat), now);
                }
                Output::Dropped(_, why) => self.truth.count(
                    match why {
                        Dropped::Expired => "orders_expired",
                        Dropped::Stale => "orders_stale",
                        Dropped::Repeated => "orders_repeated",
                        Dropped::Unverified => "orders_unverified",
                    },
                    1,
                ),
            }
        }
        self.out.clear();
        self.rearm(at);
    }

    fn serve(&mut self, at: usize, now: Time, weight: f32, queue: u32) {
        let member = &mut self.members[at];
        let service = self.fleet.sample_service(member.index, now, weight, queue, &mut member.rng);
        if service == 0 {
            self.done(at, now);
        } else if self.wheel.insert(now + service, 0, Item::Done(at as u32)).is_err() {
            self.truth.count("overflows", 1);
            self.done(at, now);
        }
    }

    /// A service is over: appends to what the agent wants done.
    fn done(&mut self, at: usize, now: Time) {
        let member = &mut self.members[at];
        if member.life != Life::Here {
            return;
        }
        let verdict = match self.fleet.sample_outcome(member.index, &mut member.rng) {
            Outcome::Ready => Verdict::Ready,
            Outcome::Conflict => Verdict::Conflict(CONFLICT),
            Outcome::Crash => {
                self.crash(at);
                return;
            }
        };
        let index = member.index;
        let (own, queue) = (self.fleet.clock(index, now), self.fleet.queue(index, now));
        member.agent.finished(own, verdict, queue, &mut self.out);
    }

    /// The agent ends without an answer, and its connection with it where nobody else uses it.
    fn crash(&mut self, at: usize) {
        self.truth.count("agents_crashed", 1);
        let place = self.members[at].conn as usize;
        if self.carried[place].1 == 1 {
            self.hang_up(place);
        } else {
            self.depart(at);
        }
    }

    /// Puts the agent's next timer and its next release where they belong.
    pub(super) fn rearm(&mut self, at: usize) {
        let member = &mut self.members[at];
        if member.life != Life::Here {
            return;
        }
        // The conversion between clocks rounds by two nanoseconds.
        let true_time = |own: Time| match own {
            Time::MAX => Time::MAX,
            own => self.fleet.true_time(member.index, own).saturating_add(2),
        };
        let (timer, release) = (member.agent.next_timer(), member.agent.next_release());
        let hold = release.map_or(Time::MAX, true_time);
        if hold < member.hold_at {
            member.hold_at = hold;
            if self.holds.insert(hold, 0, at as u32).is_err() {
                self.truth.count("overflows", 1);
            }
        }
        if release == Some(timer) {
            return;
        }
        let timer = true_time(timer);
        if timer < member.timer_at {
            member.timer_at = timer;
            if self.wheel.insert(timer, 0, Item::Timer(at as u32)).is_err() {
                self.truth.count("overflows", 1);
            }
        }
    }

    /// Handles what is due in the wheel. Returns how much that was.
    pub(super) fn run_timers(&mut self, now: Time) -> usize {
        if now < self.wheel_runs() {
            return 0;
        }
        let mut count = 0;
        while count < TIMERS_PER_TURN
            && let Some((due, item)) = self.wheel.pop(now)
        {
            count += 1;
            // Model times are exact, however late this thread is.
            let time = if self.modelled { due } else { now };
            match item {
                Item::Arrives(number) => {
                    let arrival: Arrival = self.arrivals.take(number);
                    self.arrive(arrival, time);
                }
                Item::Done(at) => {
                    self.done(at as usize, time);
                    self.digest(at as usize, time);
                }
                Item::Timer(at) => self.timer(at as usize, due, time),
                Item::Leaves(number) => {
                    let letter = self.letters.take(number);
                    self.ready.push(letter);
                }
            }
        }
        if count > 0 && count < TIMERS_PER_TURN {
            self.wheel_ran = now;
        }
        count
    }

    fn timer(&mut self, at: usize, due: Time, now: Time) {
        let member = &mut self.members[at];
        if member.timer_at != due {
            // An earlier one was put in meanwhile.
            return;
        }
        member.timer_at = Time::MAX;
        self.wake(at, now);
    }

    fn wake(&mut self, at: usize, now: Time) {
        let member = &mut self.members[at];
        if member.life != Life::Here {
            return;
        }
        let index = member.index;
        let (own, queue) = (self.fleet.clock(index, now), self.fleet.queue(index, now));
        member.agent.timer(own, queue, &mut self.out);
        self.digest(at, now);
    }

    /// Heartbeats of the plan that are due. Returns how many.
    pub(super) fn run_plan(&mut self, now: Time) -> usize {
        let Some(schedule) = self.schedule else { return 0 };
        let mut count = 0;
        while count < BEATS_PER_TURN && self.here > 0 {
            let planned = schedule.planned(self.departed);
            if planned > now {
                break;
            }
            count += 1;
            self.departed += 1;
            let Some(at) = self.next_here() else { break };
            let member = &mut self.members[at];
            member.planned = planned;
            let index = member.index;
            let (own, queue) = (self.fleet.clock(index, now), self.fleet.queue(index, now));
            let beat = member.agent.beat(own, queue);
            self.truth.count("beats", 1);
            self.send(at, Letter::Beat(beat), now);
        }
        count
    }

    /// The next member in turn that is there.
    fn next_here(&mut self) -> Option<usize> {
        for _ in 0..self.members.len() {
            let at = self.next_member;
            self.next_member = if at + 1 == self.members.len() { 0 } else { at + 1 };
            if self.members[at].life == Life::Here {
                return Some(at);
            }
        }
        None
    }

    /// Sorts what is to be released soon into one list.
    pub(super) fn arm(&mut self, now: Time) {
        if self.holds.next_due().is_none_or(|due| due > now + ARM) {
            return;
        }
        while let Some((due, at)) = self.holds.pop(now + ARM) {
            self.armed.push_back((due, at));
        }
        self.armed.make_contiguous().sort_unstable();
    }

    /// Acts for all agents whose moment has come or is about to: waits for each moment with an eye
    /// on the clock and notes when it was. Everything else that acting brings comes behind that, a
    /// few agents at a time with a look at who is due in between, so that those who act at about
    /// the same moment are not kept apart by it.
    pub(super) fn release<D: Driver>(&mut self, driver: &mut D) {
        for _ in 0..ACTS_PER_TURN / ACTS_AT_ONCE {
            self.stamp(driver);
            if self.acted.is_empty() {
                return;
            }
            for _ in 0..ACTS_AT_ONCE {
                let Some((due, acted, at)) = self.acted.pop_front() else { break };
                let member = &mut self.members[at as usize];
                if member.hold_at == due {
                    member.hold_at = Time::MAX;
                }
                self.wake(at as usize, acted);
            }
        }
    }

    /// Notes when those act who are due now or within [`SPIN`], and those who follow them closely.
    fn stamp<D: Driver>(&mut self, driver: &mut D) {
        let Some((first, _)) = self.armed.front() else { return };
        let mut now = driver.now();
        if *first > now + SPIN {
            return;
        }
        let mut number = 0;
        while let Some((due, at)) = self.armed.front().copied() {
            if due > now {
                now = driver.now();
                if due > now + SPIN {
                    return;
                }
                while due > now {
                    core::hint::spin_loop();
                    now = driver.now();
                }
            } else if number % STAMP_EVERY == 0 {
                now = driver.now();
            }
            number += 1;
            self.armed.pop_front();
            self.acted.push_back((due, now, at));
        }
    }
}
