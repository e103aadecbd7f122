//! Pictures of the page, light and dark, narrow to wide, of a large node and of one that just
//! started; and how long each took to its first paint.
//!
//! ```sh
//! cargo run -p web --example screenshot -- --out /tmp/shots
//! cargo run -p web --example screenshot -- --out /tmp/shots --addr http://127.0.0.1:7180/
//! ```
#![forbid(unsafe_code)]
#![allow(dead_code, reason = "the tests use the rest of these modules")]

#[path = "../tests/page/chromium.rs"]
mod chromium;
#[path = "../tests/page/fixture.rs"]
mod fixture;
#[path = "../tests/page/server.rs"]
mod server;

use chromium::{Chromium, Look, Tab};
use serde_json::json;
use server::Server;
use std::{env, fs, path::PathBuf, sync::Arc};

/// Width and height of each window.
const SIZES: [(u32, u32); 5] =
    [(360, 740), (800, 1_200), (1_280, 800), (1_920, 1_080), (3_840, 2_160)];

fn main() -> Result<(), String> {
    let Arguments { out, address, width: only } = arguments()?;
    fs::create_dir_all(&out).map_err(|what| format!("{}: {what}", out.display()))?;
    let Some(browser) = Chromium::start() else { return Ok(()) };
    let mut nodes = Vec::new();
    let servers = [
        ("rich", Server::start(&fixture::rich(30_000, 24), &fixture::history())),
        ("sectors", Server::start(&fixture::rich(30_000, 256), &fixture::history())),
        ("empty", Server::start(&fixture::empty(), &[])),
    ];
    match address {
        Some(address) => nodes.push(("node", address)),
        None => nodes.extend(servers.iter().map(|(name, server)| (*name, server.address()))),
    }
    for (name, address) in nodes {
        for (width, height) in
            SIZES.into_iter().filter(|(width, _)| only.is_none_or(|w| w == *width))
        {
            for dark in [false, true] {
                let theme = if dark { "dark" } else { "light" };
                let file = out.join(format!("{name}-{theme}-{width}.png"));
                let look = Look { dark, width, height };
                let paint = shoot(&browser, &address, &look, &file)?;
                println!("{}: first paint after {paint:.0} ms", file.display());
            }
        }
    }
    Ok(())
}

struct Arguments {
    out: PathBuf,
    address: Option<String>,
    width: Option<u32>,
}

fn arguments() -> Result<Arguments, String> {
    let (mut out, mut address, mut width) = (None, None, None);
    let mut words = env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
        match word.as_str() {
            "--out" => out = Some(PathBuf::from(value)),
            "--addr" => address = Some(value),
            "--width" => width = Some(value.parse().map_err(|what| format!("{value}: {what}"))?),
            _ => return Err(format!("{word}: there are --out DIR, --addr URL and --width PIXELS")),
        }
    }
    Ok(Arguments { out: out.ok_or("--out DIR says where the pictures go")?, address, width })
}

/// One picture of the whole page. Gives the milliseconds to the first paint.
fn shoot(
    browser: &Arc<Chromium>,
    address: &str,
    look: &Look,
    file: &PathBuf,
) -> Result<f64, String> {
    let tab: Tab = browser.open_as(address, look);
    tab.until("document.documentElement.dataset.drawn");
    // Sizes settle with the frame after the one that drew.
    tab.eval("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))");
    let height = tab.eval("document.documentElement.scrollHeight");
    let clip = json!({"x": 0, "y": 0, "width": look.width, "height": height, "scale": 1});
    let params = json!({"format": "png", "captureBeyondViewport": true, "clip": clip});
    let shot = tab.ask("Page.captureScreenshot", &params);
    let bytes = decode(shot["data"].as_str().unwrap_or_default());
    fs::write(file, bytes).map_err(|what| format!("{}: {what}", file.display()))?;
    let paint = tab.eval("performance.getEntriesByName('first-paint')[0]?.startTime ?? -1");
    Ok(paint.as_f64().unwrap_or(-1.0))
}

/// Base64, as the browser sends pictures.
fn decode(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut many) = (0_u32, 0);
    for letter in text.bytes() {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => break,
        };
        bits = bits << 6 | u32::from(value);
        many += 6;
        if many >= 8 {
            many -= 8;
            bytes.push((bits >> many) as u8);
        }
    }
    bytes
}
