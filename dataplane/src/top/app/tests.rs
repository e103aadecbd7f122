use super::*;
use client::{Agent, Cluster};
use overview::{Bar, Gather, Mesh, Node, Overview, Sector, Worker};
use wire::mesh::{AgentClass, AgentState};

/// A node with three sectors, and the agents of one of them.
pub(in crate::top) fn seen() -> Seen {
    let sector = |sector: u16, mean_ms: f64| Sector {
        sector,
        clusters: 2,
        agents: 60,
        active: 59,
        mean_ms,
        p95_ms: mean_ms * 2.0,
        ..Sector::default()
    };
    let cluster = |sector, cluster| Cluster { sector, cluster, count: 30, ..Cluster::default() };
    let agent = |cluster: u16, at: u16| Agent {
        name: format!("S01-C{cluster:02}-A{at:02}"),
        agent_id: [at as u8; 16],
        class: AgentClass::Gpu,
        state: AgentState::Active,
        capabilities: vec!["act".to_owned()],
        impedance: f32::from(at),
        latency_ms: 1.0,
        processing_ms: 2.0,
        queue_depth: 0,
        reliability: 0.99,
        drift: 0.1,
        context_hash: 7,
        silent_ns: 2_000_000_000,
    };
    Seen {
        overview: Overview {
            at_ms: 60_000,
            node: Node { name: "hall-1".to_owned(), ready: true, ..Node::default() },
            bar: Bar::new("agents", [100, 50, 20, 9, 1]),
            workers: vec![Worker { id: "worker-0".to_owned(), up: true, ..Worker::default() }],
            mesh: Mesh { mode: "normal".to_owned(), ..Mesh::default() },
            sectors: vec![sector(0, 5.0), sector(1, 50.0), sector(2, 20.0)],
            gathers: vec![Gather {
                id: "ab".repeat(16),
                at_ms: 58_000,
                decision: "proceed".to_owned(),
                arrivals: vec![(-2.0, 30), (0.0, 10)],
                ..Gather::default()
            }],
            ..Overview::default()
        },
        clusters: vec![cluster(0, 0), cluster(1, 0), cluster(1, 1)],
        agents: Some((1, (0..5).map(|at| agent(1, at)).chain([agent(0, 0)]).collect())),
    }
}

pub(in crate::top) fn press(app: &mut App, keys: &[KeyCode]) -> Act {
    let mut last = Act::None;
    for code in keys {
        last = app.key(KeyEvent::new(*code, KeyModifiers::NONE));
    }
    last
}

pub(in crate::top) fn app() -> App {
    let mut app = App::new("127.0.0.1:7171");
    app.node(Ok(seen()), 60_000);
    app
}

fn under_cursor(app: &App) -> String {
    let table = app.table();
    app.cursor(&table).map(|at| table.rows[at].cells[0].text.clone()).unwrap_or_default()
}

use KeyCode::{BackTab, Backspace, Char, Down, End, Enter, Esc, Home, PageDown, Right, Tab, Up};

#[test]
fn enter_leads_from_sector_to_cluster_to_agents_to_agent_and_esc_back() {
    let mut app = app();
    assert_eq!(under_cursor(&app), "S00");
    let act = press(&mut app, &[Down, Enter]);
    assert_eq!((act, &app.level().place), (Act::Ask(Want::default()), &Place::Clusters(1)));
    let act = press(&mut app, &[End, Enter]);
    assert_eq!(act, Act::Ask(Want { agents_of: Some(1) }));
    assert_eq!((&app.level().place, app.table().rows.len()), (&Place::Agents(1, 1), 5));
    press(&mut app, &[Down, Down, Enter]);
    assert_eq!(app.level().place, Place::Agent(1, 1, "S01-C01-A02".to_owned()));
    assert!(app.table().rows.iter().any(|row| row.cells[1].text == "D"));
    assert_eq!(press(&mut app, &[Enter]), Act::None, "there is nothing below an agent");
    press(&mut app, &[Esc]);
    assert_eq!(under_cursor(&app), "S01-C01-A02", "back where it was");
    let act = press(&mut app, &[Esc, Backspace, Esc, Esc]);
    assert_eq!((act, app.depth()), (Act::Ask(Want::default()), 0));
    assert_eq!(under_cursor(&app), "S01");
}

#[test]
fn the_cursor_stays_with_its_row_and_within_the_rows() {
    let mut app = app();
    press(&mut app, &[Up, PageDown, Down]);
    assert_eq!(under_cursor(&app), "S02");
    let mut other = seen();
    other.overview.sectors.swap(0, 2);
    app.node(Ok(other.clone()), 61_000);
    assert_eq!(under_cursor(&app), "S02", "it moved, the cursor with it");
    other.overview.sectors.retain(|sector| sector.sector != 2);
    app.node(Ok(other), 62_000);
    assert_eq!(under_cursor(&app), "S00");
    app.node(Ok(Seen::default()), 63_000);
    assert_eq!(press(&mut app, &[Down, Home, Enter]), Act::None, "there is no row");
}

#[test]
fn sorting_goes_through_the_columns_and_back_to_none() {
    let mut app = app();
    let columns = app.table().heads.len();
    press(&mut app, &[Char('s'); 6]);
    assert_eq!((app.level().sort, under_cursor(&app).as_str()), (Some(5), "S01"), "by mean");
    press(&mut app, &vec![Char('s'); columns + 1 - 6]);
    assert_eq!(app.level().sort, None);
}

#[test]
fn a_filter_is_typed_kept_and_dropped_and_its_letters_are_no_keys() {
    let mut app = app();
    press(&mut app, &[Char('/'), Char('q'), Backspace, Char('S'), Char('0'), Char('2'), Enter]);
    assert_eq!((app.table().rows.len(), under_cursor(&app).as_str()), (1, "S02"));
    assert!(!app.is_typing);
    press(&mut app, &[Esc]);
    assert_eq!(app.table().rows.len(), 3);
    press(&mut app, &[Char('/')]);
    press(&mut app, &vec![Char('x'); 500]);
    assert_eq!(app.level().filter.len(), 64);
    assert_eq!(app.table().rows.len(), 0);
    press(&mut app, &[Esc]);
    assert_eq!(app.table().rows.len(), 3);
}

#[test]
fn keys_open_lists_pause_help_and_quit() {
    let mut app = app();
    for (key, place) in [
        (Char('w'), Place::Workers),
        (Char('g'), Place::Gathers),
        (Char('b'), Place::Batches),
        (Tab, Place::Sectors),
        (BackTab, Place::Batches),
        (Char('m'), Place::Sectors),
        (Right, Place::Workers),
    ] {
        press(&mut app, &[key]);
        assert_eq!(app.level().place, place);
    }
    press(&mut app, &[Enter]);
    assert_eq!(app.level().place, Place::Worker("worker-0".to_owned()));
    press(&mut app, &[Char('g'), Enter]);
    assert!(app.table().rows.iter().any(|row| row.cells[0].text == "ready before"));
    press(&mut app, &[Char('p')]);
    let mut other = seen();
    other.overview.node.name = "other".to_owned();
    app.node(Ok(other.clone()), 61_000);
    assert_eq!(app.seen.as_ref().map(|seen| &*seen.overview.node.name), Some("hall-1"));
    press(&mut app, &[Char('p')]);
    app.node(Ok(other), 62_000);
    assert_eq!(app.seen.as_ref().map(|seen| &*seen.overview.node.name), Some("other"));
    press(&mut app, &[Char('?')]);
    assert!(app.is_helping);
    assert_eq!(press(&mut app, &[Char('q')]), Act::None, "any key closes the help");
    assert!(!app.is_helping);
    assert_eq!(press(&mut app, &[Char('q')]), Act::Quit);
    app.is_typing = true;
    let with_control = |letter| KeyEvent::new(Char(letter), KeyModifiers::CONTROL);
    assert_eq!(app.key(with_control('l')), Act::Redraw);
    assert_eq!(app.key(with_control('c')), Act::Quit);
}

#[test]
fn a_lost_node_leaves_what_was_seen_and_says_since_when() {
    let mut app = app();
    app.node(Err("no answer".to_owned()), 61_000);
    app.node(Err("refused".to_owned()), 62_000);
    assert_eq!(app.lost, Some(("refused".to_owned(), 61_000)));
    assert!(app.seen.is_some());
    app.node(Ok(seen()), 63_000);
    assert_eq!((app.lost.is_none(), app.past.len()), (true, 2));
    for at in 0..1_000 {
        app.node(Ok(seen()), 64_000 + at);
    }
    assert_eq!(app.past.len(), PAST);
}
