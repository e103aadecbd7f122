//! The screen of `top`, drawn from its state.

use super::{
    app::{App, Place, TABS},
    rows::Table,
};
use crate::{
    glance::{self, bytes, milliseconds, rate, span},
    screen::{Screen, clean, columns, cut, fit, wrap},
};
use overview::{Overview, Rates, Standing};
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Block, Clear, Paragraph, Row as DrawnRow, Table as DrawnTable, TableState},
};

/// The smallest terminal that holds it.
pub(super) const LEAST: (u16, u16) = (60, 15);
/// From these widths on the legend has two lines, and one.
const WIDE: [u16; 2] = [80, 112];
/// Columns of a curve's label and value.
const LABEL: usize = 28;

const HELP: &str = "\
up down, j k     move            PgUp PgDn Home End   further
Enter            open            Esc                  back
Tab, left right  other list      m w g b              sectors, workers, gathers, batches
s                sort by the next column
/                filter (Enter keeps it, Esc drops it)
p                pause           Ctrl-L   draw again    q, Ctrl-C   quit

sector - cluster - agents - agent; a gather shows when agents were ready";

/// Colours where they are wanted, and grey for what is old.
struct Look {
    screen: Screen,
    is_old: bool,
}

impl Look {
    fn of(&self, colour: Color) -> Style {
        match (self.screen.colour, self.is_old) {
            (false, _) => Style::new(),
            (true, true) => Style::new().fg(Color::DarkGray),
            (true, false) => Style::new().fg(colour),
        }
    }

    fn plain(&self) -> Style {
        if self.is_old { self.of(Color::Reset) } else { Style::new() }
    }
}

/// Draws all of it.
pub(super) fn draw(frame: &mut Frame<'_>, app: &App, screen: Screen, now_ms: u64) {
    let area = frame.area();
    if area.width < LEAST.0 || area.height < LEAST.1 {
        let text = format!(
            "{} x {} is too small: top needs {} x {}; `butterfly status` fits less",
            area.width, area.height, LEAST.0, LEAST.1
        );
        let lines = wrap(&text, usize::from(area.width).max(1));
        frame.render_widget(Paragraph::new(lines.join("\n")), area);
        return;
    }
    let look = Look { screen, is_old: app.lost.is_some() };
    let legend = 3 - WIDE.iter().filter(|width| area.width >= **width).count() as u16;
    let warning = app.seen.as_ref().and_then(|seen| warning(&seen.overview));
    let [head, bar, words, warned, curves, tabs, table, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(legend),
        Constraint::Length(u16::from(warning.is_some())),
        Constraint::Length(3),
        Constraint::Length(1),
        Constraint::Min(3),
        Constraint::Length(1),
    ])
    .areas(area);
    frame.render_widget(header(app, &look, now_ms, area.width), head);
    if let Some(seen) = &app.seen {
        frame.render_widget(status_bar(&seen.overview, &look, bar.width), bar);
        frame.render_widget(Paragraph::new(legend_lines(&seen.overview, &look, legend)), words);
        let rows = curve_lines(app, &seen.overview.now, &look, usize::from(curves.width));
        frame.render_widget(Paragraph::new(rows), curves);
    }
    if let Some(text) = warning {
        let text = cut(&clean(&text), usize::from(area.width));
        frame.render_widget(Line::styled(text, look.of(Color::Yellow)), warned);
    }
    frame.render_widget(tab_line(app, &look), tabs);
    list(frame, app, &look, table);
    frame.render_widget(footer(app, &look, usize::from(area.width)), foot);
    if app.is_helping {
        help(frame, area);
    }
}

/// Who it is, and whether what is shown is of now.
fn header(app: &App, look: &Look, now_ms: u64, width: u16) -> Line<'static> {
    let mut text = match &app.seen {
        None => format!("butterfly {}", app.addr),
        Some(seen) => {
            let node = &seen.overview.node;
            format!("butterfly {} {}  up {}", node.name, node.version, span(node.uptime_ms))
        }
    };
    if let Some(seen) = &app.seen {
        let node = &seen.overview.node;
        let ready = if node.ready { "ready" } else { "NOT READY" };
        text.push_str(&format!("  {ready}"));
        if !seen.overview.mesh.mode.is_empty() {
            text.push_str(&format!("  mesh {}", seen.overview.mesh.mode));
        }
    }
    let state = match (&app.lost, app.is_paused) {
        (Some((_, since)), _) => {
            format!(" LOST for {}, trying again ", span(now_ms.saturating_sub(*since)))
        }
        (None, true) => " PAUSED ".to_owned(),
        (None, false) => String::new(),
    };
    let room = usize::from(width).saturating_sub(columns(&state));
    let text = Span::styled(fit(&clean(&text), room), look.plain().add_modifier(Modifier::BOLD));
    let loud = Style::new().add_modifier(Modifier::REVERSED);
    Line::from(vec![text, Span::styled(state, loud)])
}

const fn colour(standing: Standing) -> Color {
    match standing {
        Standing::Ready => Color::Green,
        Standing::Trusted => Color::White,
        Standing::Busy => Color::Red,
        Standing::Unknown => Color::Yellow,
        Standing::Offline => Color::DarkGray,
    }
}

fn mark(standing: Standing, look: &Look) -> char {
    let (unicode, ascii, _) = glance::mark(standing);
    look.screen.mark(unicode, ascii)
}

/// The status bar (BAR-01).
fn status_bar(all: &Overview, look: &Look, width: u16) -> Line<'static> {
    let cells = all.bar.cells(usize::from(width));
    let section = |standing: Standing| {
        let text = mark(standing, look).to_string().repeat(cells[standing as usize]);
        Span::styled(text, look.of(colour(standing)))
    };
    Line::from_iter(Standing::ALL.iter().copied().map(section))
}

/// What its sections mean, with share and count (BAR-02).
fn legend_lines(all: &Overview, look: &Look, lines: u16) -> Vec<Line<'static>> {
    let entries = glance::legend(&all.bar).into_iter().map(|(standing, text)| {
        let mark = Span::styled(mark(standing, look).to_string(), look.of(colour(standing)));
        vec![mark, Span::styled(format!(" {text}  "), look.plain())]
    });
    let entries: Vec<Vec<Span<'static>>> = entries.collect();
    let per_line = match lines {
        1 => 5,
        2 => 3,
        _ => 2,
    };
    entries.chunks(per_line).map(|line| Line::from(line.concat())).collect()
}

/// What somebody has to know first.
fn warning(all: &Overview) -> Option<String> {
    let node = &all.node;
    if !node.ready {
        return Some(format!("! not ready: {}", node.not_ready_because));
    }
    let insecure = node.insecure.then(|| "plaintext beyond this host".to_owned());
    let all: Vec<String> = insecure.into_iter().chain(node.fallbacks.iter().cloned()).collect();
    (!all.is_empty()).then(|| format!("! {}", all.join("; ")))
}

/// Rates with their past.
fn curve_lines(app: &App, now: &Rates, look: &Look, width: usize) -> Vec<Line<'static>> {
    let both = |rates: &Rates| rates.bytes_in_per_s + rates.bytes_out_per_s;
    type Curve<'a> = (&'a str, String, &'a dyn Fn(&Rates) -> f64);
    let curves: [Curve<'_>; 3] = [
        ("queries/s", rate(now.queries_per_s), &|rates| rates.queries_per_s),
        ("bytes", bytes(both(now)), &both),
        (
            "p50, p99",
            format!("{} {}", milliseconds(now.p50_ms), milliseconds(now.p99_ms)),
            &|rates| rates.p99_ms,
        ),
    ];
    let room = width.saturating_sub(LABEL);
    let line = |(label, value, of): Curve<'_>| {
        let values: Vec<f64> = app.past.iter().map(of).collect();
        let recent = &values[values.len().saturating_sub(room)..];
        Line::from(vec![
            Span::styled(format!("{} ", fit(label, 10)), look.plain()),
            Span::styled(fit(&value, LABEL - 11), look.plain().add_modifier(Modifier::BOLD)),
            Span::styled(curve(recent, look.screen), look.of(Color::Cyan)),
        ])
    };
    curves.map(line).to_vec()
}

/// Heights of values, the highest as a full cell.
pub(super) fn curve(values: &[f64], screen: Screen) -> String {
    const FINE: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    const PLAIN: [char; 9] = [' ', '.', '.', ':', ':', '-', '=', '+', '#'];
    let marks = if screen.unicode { FINE } else { PLAIN };
    let most = values.iter().copied().fold(0.0, f64::max);
    let mark = |value: &f64| {
        let share = if most > 0.0 { value / most } else { 0.0 };
        // A cast of what is not a number, or negative, is 0.
        marks[((share * 8.0).ceil() as usize).min(8)]
    };
    values.iter().map(mark).collect()
}

/// The lists, and the way below the one that is open.
fn tab_line(app: &App, look: &Look) -> Line<'static> {
    let mut spans = Vec::new();
    for (at, (_, name)) in TABS.iter().enumerate() {
        let style = if at == app.tab() {
            look.plain().add_modifier(Modifier::REVERSED)
        } else {
            look.plain()
        };
        spans.push(Span::styled(format!(" {name} "), style));
    }
    let way = match &app.level().place {
        Place::Clusters(sector) => format!("  S{sector:02}"),
        Place::Agents(sector, cluster) => format!("  S{sector:02} > C{cluster:02}"),
        Place::Agent(sector, cluster, name) => {
            format!("  S{sector:02} > C{cluster:02} > {}", clean(name))
        }
        Place::Gather(id) | Place::Worker(id) => format!("  > {}", clean(id)),
        _ => String::new(),
    };
    spans.push(Span::styled(way, look.plain().add_modifier(Modifier::BOLD)));
    let filter = &app.level().filter;
    if !filter.is_empty() && !app.is_typing {
        spans.push(Span::styled(format!("  /{filter}"), look.of(Color::Yellow)));
    }
    Line::from(spans)
}

/// What a place without rows has to say.
const fn nothing(place: &Place, is_first: bool) -> &'static str {
    match place {
        _ if is_first => "asking the node ...",
        Place::Sectors => "no agents yet: `blast agents` plays some",
        Place::Gathers => "no gather yet: `butterfly gather --targets all --verb act` makes one",
        Place::Agents(..) => "asking for the agents ...",
        Place::Agent(..) | Place::Gather(_) | Place::Worker(_) => "gone",
        _ => "nothing here",
    }
}

fn list(frame: &mut Frame<'_>, app: &App, look: &Look, area: Rect) {
    let table = app.table();
    if table.rows.is_empty() {
        let text = match app.level().filter.as_str() {
            "" => nothing(&app.level().place, app.seen.is_none()).to_owned(),
            filter => format!("nothing with `{filter}`; Esc drops the filter"),
        };
        frame.render_widget(Line::styled(text, look.plain()), area);
        return;
    }
    let widths = widths(&table, usize::from(area.width));
    let sorted = app.level().sort;
    let head = |(at, head): (usize, &&str)| {
        let by = if sorted == Some(at) { "*" } else { "" };
        format!("{head}{by}")
    };
    let heads = DrawnRow::new(table.heads.iter().enumerate().map(head))
        .style(look.plain().add_modifier(Modifier::UNDERLINED));
    let rows = table.rows.iter().map(|row| {
        let cells = row.cells.iter().zip(&widths).map(|(cell, width)| cut(&cell.text, *width));
        DrawnRow::new(cells).style(look.plain())
    });
    let drawn = DrawnTable::new(rows, widths.iter().map(|width| Constraint::Length(*width as u16)))
        .header(heads)
        .column_spacing(2)
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut state = TableState::default().with_selected(app.cursor(&table));
    frame.render_stateful_widget(drawn, area, &mut state);
}

/// As wide as the widest cell of each column; the widest columns give where it is too much.
fn widths(table: &Table, room: usize) -> Vec<usize> {
    let widest = |at: usize| {
        let cells = table.rows.iter().filter_map(|row| row.cells.get(at));
        let cells = cells.map(|cell| columns(&cell.text)).max().unwrap_or(0);
        // A head has a mark where its column is sorted by.
        cells.max(table.heads[at].len() + 1)
    };
    let mut widths: Vec<usize> = (0..table.heads.len()).map(widest).collect();
    let room = room.saturating_sub(2 * widths.len().saturating_sub(1));
    loop {
        let over = widths.iter().sum::<usize>().saturating_sub(room);
        let Some(widest) = widths.iter_mut().max().filter(|widest| over > 0 && **widest > 1) else {
            return widths;
        };
        *widest -= 1;
    }
}

fn footer(app: &App, look: &Look, width: usize) -> Line<'static> {
    let text = if app.is_typing {
        format!("/{}_   Enter keeps it, Esc drops it", app.level().filter)
    } else if let Some((why, _)) = &app.lost {
        clean(why)
    } else if app.depth() > 0 {
        "Esc back  Enter open  s sort  / filter  ? help  q quit".to_owned()
    } else {
        "Tab list  Enter open  s sort  / filter  ? help  q quit".to_owned()
    };
    Line::styled(cut(&text, width), look.of(Color::Cyan))
}

fn help(frame: &mut Frame<'_>, area: Rect) {
    let lines: Vec<&str> = HELP.lines().collect();
    let width = (area.width - 2).min(82);
    let height = (lines.len() as u16 + 2).min(area.height);
    let at = Rect { x: (area.width - width) / 2, y: (area.height - height) / 2, width, height };
    let cut_lines: Vec<Line<'_>> =
        lines.iter().map(|line| Line::from(cut(line, usize::from(width) - 2))).collect();
    frame.render_widget(Clear, at);
    frame.render_widget(Paragraph::new(cut_lines).block(Block::bordered().title(" keys ")), at);
}

#[cfg(test)]
mod tests;
