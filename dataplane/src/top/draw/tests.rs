use super::*;
use crate::top::app::tests::{app, press, seen};
use ratatui::{Terminal, backend::TestBackend, crossterm::event::KeyCode};

fn drawn(app: &App, width: u16, height: u16, screen: Screen) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
    terminal.draw(|frame| draw(frame, app, screen, 70_000)).expect("drawn");
    let buffer = terminal.backend().buffer();
    let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
    (0..height).map(line).collect()
}

fn plain(width: u16) -> Screen {
    Screen { width: width.into(), colour: false, unicode: false }
}

#[test]
fn cons_01_bar_01_the_smallest_terminal_holds_bar_curves_rows_and_keys() {
    let lines = drawn(&app(), 60, 15, plain(60));
    let text = lines.join("\n");
    assert!(lines[0].starts_with("butterfly hall-1") && lines[0].contains("ready"), "{text}");
    assert!(lines[0].contains("mesh normal"), "{text}");
    assert!(lines[1].starts_with("####") && lines[1].trim_end().ends_with('.'), "{text}");
    assert!(text.contains("ready 55.5% (100)") || text.contains("ready 55.6% (100)"), "{text}");
    assert!(text.contains("offline") && text.contains("queries/s"), "{text}");
    assert!(text.contains(" sectors ") && text.contains("S00") && text.contains("S02"), "{text}");
    assert!(lines[14].contains("q quit"), "{text}");
}

#[test]
fn a_smaller_terminal_is_told_and_none_breaks_it() {
    let mut helping = app();
    helping.is_helping = true;
    for (width, height) in [(1, 1), (59, 15), (60, 14), (60, 15), (61, 16), (112, 40), (300, 80)] {
        for unicode in [false, true] {
            let screen = Screen { width: width.into(), colour: true, unicode };
            let text = drawn(&app(), width, height, screen).join("\n");
            let small = width < 60 || height < 15;
            if width > 20 {
                assert_eq!(text.contains("too small"), small, "{width} x {height}: {text}");
            }
            drawn(&App::new("a"), width, height, screen);
            drawn(&helping, width, height, screen);
        }
    }
}

#[test]
fn what_is_lost_is_said_and_what_was_seen_stays() {
    let mut app = app();
    app.node(Err("127.0.0.1:7171: connection refused".to_owned()), 61_000);
    let text = drawn(&app, 80, 20, plain(80)).join("\n");
    assert!(text.contains("LOST for 9 s, trying again"), "{text}");
    assert!(text.contains("connection refused") && text.contains("S01"), "{text}");
}

#[test]
fn each_place_is_drawn_with_its_way_and_hostile_names_are_harmless() {
    let mut app = app();
    press(&mut app, &[KeyCode::Down, KeyCode::Enter]);
    assert!(drawn(&app, 80, 20, plain(80)).join("\n").contains("S01"));
    press(&mut app, &[KeyCode::End, KeyCode::Enter, KeyCode::Enter]);
    let text = drawn(&app, 80, 30, plain(80)).join("\n");
    assert!(text.contains("S01 > C01 > S01-C01-A00") && text.contains("reliability"), "{text}");
    press(&mut app, &[KeyCode::Char('g'), KeyCode::Enter]);
    let text = drawn(&app, 80, 40, plain(80)).join("\n");
    assert!(text.contains("ready before") && text.contains(&"#".repeat(30)), "{text}");
    press(&mut app, &[KeyCode::Char('?')]);
    assert!(drawn(&app, 80, 20, plain(80)).join("\n").contains("Enter keeps it"), "help");
    let mut hostile = seen();
    hostile.overview.node.name = "\u{1b}]0;gone\u{7}\n名前".repeat(50);
    hostile.overview.sectors[0].node = "\u{1b}[2J".to_owned();
    app.node(Ok(hostile), 71_000);
    press(&mut app, &[KeyCode::Char('x'), KeyCode::Char('m')]);
    let text = drawn(&app, 80, 20, plain(80)).join("\n");
    assert!(text.contains("?[2J") && !text.contains('\u{1b}'), "{text}");
}

#[test]
fn a_curve_has_a_cell_for_each_value_and_no_number_breaks_it() {
    let fine = Screen { unicode: true, ..plain(80) };
    assert_eq!(curve(&[0.0, 1.0, 4.0, 8.0], fine), " ▁▄█");
    assert_eq!(curve(&[f64::NAN, -1.0, 0.0], fine), "   ");
    assert_eq!(curve(&[1.0, 2.0], plain(80)), ":#");
    assert_eq!(curve(&[], fine), "");
}

#[test]
fn columns_give_way_where_there_is_no_room() {
    let table = app().table();
    for room in 0..120 {
        let widths = widths(&table, room);
        let all = widths.iter().sum::<usize>() + 2 * (widths.len() - 1);
        assert!(all <= room.max(widths.len() + 2 * (widths.len() - 1)), "{room}: {widths:?}");
    }
}
