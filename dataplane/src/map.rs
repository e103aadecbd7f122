//! `butterfly map`: the sectors and clusters of a node's agents, and how each fares.

use crate::{
    agents::real, arrivals::duration, cli::MapArgs, failure::Failure, reach::Reach, say,
    say::grouped, table,
};
use client::{Cluster, Global, Map, Sector};
use serde_json::{Value, json};
use std::{fmt::Write as _, io::IsTerminal as _};

/// From cool to hot.
const HEAT: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Sectors in a line of the strip.
const STRIP: usize = 50;

/// Runs the command.
pub(crate) fn run(args: &MapArgs) -> Result<(), Failure> {
    let map = Reach::new(&args.addr, &args.security)?.ask(|node| node.map(args.sector))?;
    if args.json {
        say::out(format!("{:#}", as_json(&map)));
    } else {
        say::out(as_text(&map, args.clusters, std::io::stdout().is_terminal()));
    }
    Ok(())
}

fn as_json(map: &Map) -> Value {
    let global = &map.global;
    let sectors: Vec<Value> = map.sectors.iter().map(sector_json).collect();
    let clusters: Vec<Value> = map.clusters.iter().map(cluster_json).collect();
    json!({
        "timestamp_ns": global.timestamp_ns,
        "global": {
            "sectors": global.sectors,
            "sectors_healthy": global.sectors_healthy,
            "sectors_degraded": global.sectors_degraded,
            "clusters": global.clusters,
            "agents": global.count,
            "active": global.active,
            "impedance_ms": { "mean": real(global.mean), "p95": real(global.p95) },
        },
        "sectors": sectors,
        "clusters": clusters,
    })
}

fn sector_json(sector: &Sector) -> Value {
    json!({
        "sector": sector.sector,
        "node": sector.node,
        "clusters": sector.clusters,
        "agents": sector.count,
        "active": sector.active,
        "impedance_ms": { "mean": real(sector.mean), "p95": real(sector.p95) },
        "healthiest": sector.healthiest,
        "sickest": sector.sickest,
    })
}

fn cluster_json(cluster: &Cluster) -> Value {
    json!({
        "sector": cluster.sector,
        "cluster": cluster.cluster,
        "lead": cluster.lead,
        "slowest": cluster.slowest,
        "fastest": cluster.fastest,
        "agents": cluster.count,
        "active": cluster.active,
        "degraded": cluster.degraded,
        "unstable": cluster.unstable,
        "impedance_ms": { "mean": real(cluster.mean), "p95": real(cluster.p95) },
        "age_ms": cluster.age_ns / 1_000_000,
    })
}

fn global_line(global: &Global) -> String {
    format!(
        "{} in {} and {}, {} active; impedance mean {:.1} ms, p95 {:.1} ms; \
         {} healthy, {} degraded",
        say::count(global.count, "agent"),
        say::count(global.clusters, "cluster"),
        say::count(global.sectors, "sector"),
        grouped(global.active.into()),
        global.mean,
        global.p95,
        say::count(global.sectors_healthy, "sector"),
        grouped(global.sectors_degraded.into()),
    )
}

fn as_text(map: &Map, with_clusters: bool, is_terminal: bool) -> String {
    let mut text = global_line(&map.global);
    if is_terminal && map.sectors.len() > 1 {
        let _ = write!(text, "\n\n{}", heat(&map.sectors));
    }
    if !map.sectors.is_empty() {
        let _ = write!(text, "\n\n{}", sectors(&map.sectors));
    }
    if with_clusters && !map.clusters.is_empty() {
        let _ = write!(text, "\n\n{}", clusters(&map.clusters));
    }
    text
}

/// Mean impedance of each sector as a bar, the highest as a full one.
fn heat(sectors: &[Sector]) -> String {
    let hottest = sectors.iter().map(|sector| sector.mean).fold(0.0_f32, f32::max);
    let mark = |sector: &Sector| {
        let share = if hottest > 0.0 { sector.mean / hottest } else { 0.0 };
        // A cast of what is not a number, or negative, is 0.
        HEAT[((share * HEAT.len() as f32) as usize).min(HEAT.len() - 1)]
    };
    let line = |line: &[Sector]| {
        let marks: String = line.iter().map(mark).collect();
        format!("S{:02}  {marks}", line.first().map_or(0, |sector| sector.sector))
    };
    let lines: Vec<String> = sectors.chunks(STRIP).map(line).collect();
    format!("impedance by sector, up to {hottest:.1} ms\n{}", lines.join("\n"))
}

fn sectors(sectors: &[Sector]) -> String {
    let heads =
        ["sector", "node", "clusters", "agents", "active", "mean", "p95", "healthiest", "sickest"];
    let row = |sector: &Sector| {
        [
            format!("S{:02}", sector.sector),
            if sector.node.is_empty() { "this".to_owned() } else { sector.node.clone() },
            grouped(sector.clusters.into()),
            grouped(sector.count.into()),
            grouped(sector.active.into()),
            format!("{:.1} ms", sector.mean),
            format!("{:.1} ms", sector.p95),
            format!("C{:02}", sector.healthiest),
            format!("C{:02}", sector.sickest),
        ]
    };
    let mut rows = vec![heads.map(str::to_owned)];
    rows.extend(sectors.iter().map(row));
    table::plain(&rows)
}

fn clusters(clusters: &[Cluster]) -> String {
    let heads = [
        "cluster", "lead", "agents", "active", "degraded", "unstable", "mean", "p95", "fastest",
        "slowest", "age",
    ];
    let row = |cluster: &Cluster| {
        [
            format!("S{:02}-C{:02}", cluster.sector, cluster.cluster),
            cluster.lead.clone(),
            grouped(cluster.count.into()),
            grouped(cluster.active.into()),
            grouped(cluster.degraded.into()),
            grouped(cluster.unstable.into()),
            format!("{:.1} ms", cluster.mean),
            format!("{:.1} ms", cluster.p95),
            cluster.fastest.clone(),
            cluster.slowest.clone(),
            duration(cluster.age_ns),
        ]
    };
    let mut rows = vec![heads.map(str::to_owned)];
    rows.extend(clusters.iter().map(row));
    table::plain(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map() -> Map {
        let sector = |sector: u16, mean: f32| Sector {
            sector,
            clusters: 10,
            count: 300,
            active: 299,
            mean,
            p95: mean * 2.0,
            healthiest: 3,
            sickest: 4,
            ..Sector::default()
        };
        let cluster = Cluster {
            sector: 7,
            cluster: 4,
            lead: "S07-C04-A00".to_owned(),
            count: 30,
            ..Cluster::default()
        };
        Map {
            global: Global { sectors: 100, clusters: 1_000, count: 30_000, ..Global::default() },
            sectors: (0..100).map(|at| sector(at, f32::from(at))).collect(),
            clusters: vec![cluster],
        }
    }

    #[test]
    fn gmap_03_the_whole_comes_first_and_clusters_when_asked_for() {
        let text = as_text(&map(), false, false);
        assert!(text.starts_with("30000 agents in 1000 clusters and 100 sectors"), "{text}");
        assert!(text.contains("S99") && !text.contains("S07-C04-A00"), "{text}");
        assert!(as_text(&map(), true, false).contains("S07-C04-A00"));
        let value = as_json(&map());
        assert_eq!(value["sectors"][7]["impedance_ms"]["p95"], 14.0);
        assert_eq!(
            (&value["clusters"][0]["agents"], &value["global"]["agents"]),
            (&json!(30), &json!(30_000))
        );
    }

    #[test]
    fn the_strip_has_a_mark_for_each_sector() {
        let text = heat(&map().sectors);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(lines[1].starts_with("S00  ▁") && lines[2].starts_with("S50  "), "{text}");
        assert!(lines[2].ends_with('█'), "{text}");
        let marks = text.chars().filter(|mark| HEAT.contains(mark)).count();
        assert_eq!(marks, 100);
        let odd = [f32::NAN, -1.0, 0.0].map(|mean| Sector { mean, ..Sector::default() });
        assert!(heat(&odd).ends_with("▁▁▁"));
    }
}
