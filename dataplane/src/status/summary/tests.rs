use super::*;
use overview::{Bar, Check, Gather, Mesh, Node};

fn screen(width: usize, unicode: bool) -> Screen {
    Screen { width, colour: false, unicode }
}

fn sample() -> Overview {
    let workers = ["worker-0", "worker-1"].map(|id| Worker {
        id: id.to_owned(),
        up: true,
        busy: 0.31,
        healthy: true,
        checks: vec![Check { name: "reachable".to_owned(), holds: true, ..Check::default() }],
        ..Worker::default()
    });
    let mut seen = Overview {
        at_ms: 100_000,
        node: Node {
            name: "hall-名前-\u{1b}[31m1".to_owned(),
            version: "0.1.0".to_owned(),
            ready: true,
            backend: "cpu-avx512".to_owned(),
            fallbacks: vec!["small pages in place of huge ones".to_owned()],
            ..Node::default()
        },
        bar: Bar::new("agents", [15_000, 9_000, 5_871, 100, 29]),
        workers: workers.into(),
        mesh: Mesh {
            agents: 30_000,
            active: 29_871,
            sectors: 100,
            sectors_healthy: 99,
            impedance_mean_ms: 12.5,
            conflicts_last_hour: 4,
            mode: "partly frozen".to_owned(),
            last_gather_ms: 97_000,
            ..Mesh::default()
        },
        gathers: vec![Gather {
            at_ms: 97_000,
            decision: "proceed".to_owned(),
            in_time: 29_800,
            sent: 29_850,
            took_ms: 412.0,
            ..Gather::default()
        }],
        ..Overview::default()
    };
    seen.refusals.insert("bad_k".to_owned(), 2);
    seen
}

#[test]
fn cons_01_the_box_has_agents_sectors_impedance_conflicts_mode_and_the_last_cascade() {
    let text = as_text(&sample(), screen(72, true));
    for part in [
        "29,871 of 30,000 active (99.6%)",
        "99 of 100 healthy",
        "mean 12.5 ms",
        "4 in the last hour",
        "partly frozen",
        "3 s ago: proceed, 29,800 of 29,850 in time",
        "ready 50.0% (15,000)",
        "offline 0.1% (29)",
        "worker-1 ███░░░░░░░ 31.0% busy, 1 check holds",
        "fallback   small pages",
        "refused    bad k 2",
    ] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    assert!(!text.contains('\u{1b}'), "what a name says is not obeyed");
}

#[test]
fn cons_01_no_line_is_wider_than_the_terminal_and_the_box_stays_whole() {
    let mut empty = Overview::default();
    for unicode in [true, false] {
        for width in 20..=100 {
            for seen in [&sample(), &empty] {
                let text = as_text(seen, screen(width, unicode));
                let lines: Vec<&str> = text.lines().collect();
                let wide = lines.iter().find(|line| columns(line) > width);
                assert_eq!(wide, None, "at {width}");
                let corner = |line: &&str| line.starts_with(['╰', '+']);
                let low = 1 + lines[1..].iter().position(corner).expect("a lower edge");
                let side = if unicode { '│' } else { '|' };
                for line in &lines[1..low] {
                    assert_eq!(columns(line), width);
                    assert!(line.starts_with(side) && line.ends_with(side), "{line:?}");
                }
                assert_eq!((columns(lines[0]), columns(lines[low])), (width, width));
                assert!(low >= 7, "six lines of facts");
            }
        }
    }
    empty.node.insecure = true;
    let text = as_text(&empty, screen(60, false));
    assert!(text.contains("insecure") && text.is_ascii(), "{text}");
}

#[test]
fn bar_01_the_bar_fills_the_line_and_is_told_without_colour() {
    let text = as_text(&sample(), screen(60, false));
    let bar = text.lines().find(|line| line.starts_with("##")).expect("a bar");
    assert_eq!(bar.len(), 60);
    for mark in ['#', '+', '=', '?', '.'] {
        assert!(bar.contains(mark), "{mark} in {bar}");
    }
    let painted = as_text(&sample(), Screen { width: 60, colour: true, unicode: true });
    assert!(painted.contains("\u{1b}[32m█") && painted.contains("\u{1b}[31m▒"), "{painted}");
}
