//! `butterfly top`: a node at a glance, again each second, and a way down to each agent. It only
//! reads.

mod app;
mod draw;
mod feed;
mod rows;

use crate::{cli::TopArgs, failure::Failure, reach::Reach, screen::Screen, status};
use app::{Act, App};
use crossbeam_channel::{Sender, unbounded};
use feed::Seen;
use ratatui::{DefaultTerminal, crossterm::event};
use std::{
    env,
    io::IsTerminal as _,
    thread,
    time::{Duration, SystemTime},
};
use tokio::signal::unix::{SignalKind, signal};

/// How often ages on the screen are counted on where nothing else happens.
const TICK: Duration = Duration::from_secs(1);

/// What the screen waits for.
enum Event {
    /// A key, or another size.
    Terminal(event::Event),
    /// The node said something, or did not.
    Node(Box<Result<Seen, String>>),
    /// A signal, or the end of the terminal.
    End,
}

/// Runs the command.
pub(crate) fn run(args: &TopArgs) -> Result<(), Failure> {
    let is_dumb = env::var("TERM").is_ok_and(|term| term == "dumb");
    if is_dumb || !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
        return Err(Failure::setup("top needs a terminal; `butterfly status --json` for programs"));
    }
    let reach = Reach::new(&args.addr, &args.security)?;
    // A wrong address is said on the screen that the person looks at, not on one that goes away.
    reach.ask(status::look)?;
    let pool = reach.pool(feed::PATIENCE)?;
    let (tell, told) = unbounded();
    signals(tell.clone())?;
    let wants = feed::start(pool, {
        let tell = tell.clone();
        move |seen| tell.send(Event::Node(Box::new(seen))).is_ok()
    });
    let mut terminal = ratatui::try_init()
        .map_err(|error| Failure::setup(format!("cannot take over the terminal: {error}")))?;
    keys(tell);
    let shown = show(&mut terminal, &told, &wants, &reach.to_string());
    ratatui::restore();
    shown.map_err(|error| Failure::run(format!("cannot draw: {error}")))
}

/// Draws until it is time to go.
fn show(
    terminal: &mut DefaultTerminal,
    told: &crossbeam_channel::Receiver<Event>,
    wants: &Sender<feed::Want>,
    addr: &str,
) -> std::io::Result<()> {
    let screen = Screen { colour: env::var("NO_COLOR").is_err(), ..Screen::of_output() };
    let mut app = App::new(addr);
    loop {
        terminal.draw(|frame| draw::draw(frame, &app, screen, now_ms()))?;
        let act = match told.recv_timeout(TICK) {
            Ok(Event::Terminal(event::Event::Key(key))) => app.key(key),
            Ok(Event::Terminal(_)) | Err(crossbeam_channel::RecvTimeoutError::Timeout) => Act::None,
            Ok(Event::Node(seen)) => {
                app.node(*seen, now_ms());
                Act::None
            }
            Ok(Event::End) | Err(crossbeam_channel::RecvTimeoutError::Disconnected) => Act::Quit,
        };
        match act {
            Act::None => {}
            Act::Ask(want) => {
                // A feed that has ended has a panic to show.
                let _ = wants.send(want);
            }
            Act::Redraw => terminal.clear()?,
            Act::Quit => return Ok(()),
        }
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Reads keys on a thread of its own, which ends with the process.
fn keys(tell: Sender<Event>) {
    thread::spawn(move || {
        while let Ok(event) = event::read() {
            if tell.send(Event::Terminal(event)).is_err() {
                return;
            }
        }
        let _ = tell.send(Event::End);
    });
}

/// Signals that end the program end it by the way that gives the terminal back.
fn signals(tell: Sender<Event>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(Failure::setup)?;
    let listen = |kind| {
        let _entered = runtime.enter();
        signal(kind).map_err(Failure::setup)
    };
    let (mut terminate, mut hangup) =
        (listen(SignalKind::terminate())?, listen(SignalKind::hangup())?);
    let mut interrupt = listen(SignalKind::interrupt())?;
    thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
                _ = interrupt.recv() => {}
            }
        });
        let _ = tell.send(Event::End);
    });
    Ok(())
}
