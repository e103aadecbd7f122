//! Clients act: they take the steps of their scripts.

use crate::{
    client::Doom,
    request::Message,
    script::Step,
    world::{Due, World},
};
use dataplane_core::limits::MS;

impl World {
    /// Has a client go on with its script in this moment.
    pub(crate) fn wake(&mut self, client: usize) {
        if !self.clients[client].scheduled {
            self.clients[client].scheduled = true;
            self.after(0, Due::Client(client));
        }
    }

    /// A client takes steps until one of them makes it wait.
    pub(crate) fn act(&mut self, client: usize) {
        self.clients[client].scheduled = false;
        while let Some(step) = self.clients[client].script.front().cloned() {
            let socket = self.clients[client].socket;
            let Some(socket) = socket else {
                if step == Step::Reconnect {
                    self.clients[client].script.pop_front();
                }
                if !self.connect(client) {
                    let pause = self.plan.pause_max.max(MS);
                    self.clients[client].scheduled = true;
                    self.after(pause, Due::Client(client));
                    return;
                }
                continue;
            };
            let who = &mut self.clients[client];
            match &step {
                Step::Await if !who.pending.is_empty() => return,
                // The old connection ends first; its end wakes the client.
                Step::Reconnect => return,
                _ => {}
            }
            who.script.pop_front();
            match step {
                Step::Send(message) => {
                    who.sent(self.now, &message);
                    self.write(socket, &message.frame, None);
                }
                Step::Stream(messages, mut pieces, gap) => {
                    let mut bytes = Vec::new();
                    for message in &messages {
                        who.sent(self.now, message);
                        bytes.extend_from_slice(&message.frame);
                    }
                    pieces.push(bytes.len());
                    self.write(socket, &bytes, Some((&pieces, gap)));
                }
                Step::Cancel(id) => {
                    who.cancelled(id);
                    self.write(socket, &Message::cancel(id), None);
                }
                Step::Raw(bytes) => {
                    who.sent_raw(&bytes);
                    self.write(socket, &bytes, None);
                }
                Step::Pause(time) => {
                    who.scheduled = true;
                    self.after(time, Due::Client(client));
                    return;
                }
                Step::Stall(time) => who.stalled_until = self.now + time,
                Step::Fin => {
                    who.fin_sent = true;
                    self.finish_up(socket);
                }
                Step::Reset => {
                    who.doom = Some(Doom::Broken);
                    self.reset(socket);
                    self.leave(client);
                }
                Step::Await | Step::Reconnect => {}
            }
        }
    }

    /// A client's connection is over: it says so too, and skips what it had planned for it.
    pub(crate) fn leave(&mut self, client: usize) {
        let who = &mut self.clients[client];
        let Some(socket) = who.socket.take() else { return };
        who.pending.clear();
        while who.script.front().is_some_and(|step| *step != Step::Reconnect) {
            who.script.pop_front();
        }
        if !who.fin_sent {
            self.finish_up(socket);
        }
        self.wake(client);
    }
}
