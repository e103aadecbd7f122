//! The program as people start it, against a small node that answers pings.

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    path::PathBuf,
    process::{Command, Output},
    thread,
};
use wire::{HEADER_LEN, Header, Kind, error, frame};
use zerocopy::IntoBytes;

/// A node on a free port: pings are answered, all else is refused.
fn node() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("an address").to_string();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let mut head = [0; HEADER_LEN];
                while stream.read_exact(&mut head).is_ok() {
                    let header = *Header::peek(&head).expect("32 bytes");
                    let mut payload = vec![0; header.payload_len() as usize];
                    let id = header.message_id();
                    let mut refusal = [0; error::FRAME_MAX];
                    let why = error::Refusal::new(wire::ErrorCode::UnservedType, header.raw_kind());
                    let len = error::write_frame(&mut refusal, id, 0, &why);
                    let ping = frame::ping(id, 0);
                    let answer = match header.kind() {
                        Ok(Kind::Heartbeat) => ping.as_bytes(),
                        _ => &refusal[..len],
                    };
                    if stream.read_exact(&mut payload).is_err() || stream.write_all(answer).is_err()
                    {
                        return;
                    }
                }
            });
        }
    });
    addr
}

/// A folder of its own, removed on drop.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("blast-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        Self(folder)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn blast(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_blast")).args(args).output().expect("it starts")
}

fn said(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8_lossy(&both).into_owned()
}

fn json(path: &str) -> serde_json::Value {
    serde_json::from_slice(&fs::read(path).expect("a file")).expect("json")
}

const SHORT: [&str; 10] = [
    "--op",
    "ping",
    "--duration",
    "300ms",
    "--warmup",
    "50ms",
    "--connections",
    "2",
    "--quiet",
    "--addr",
];

#[test]
fn a_run_is_kept_shown_again_and_compared() {
    let (addr, folder) = (node(), Folder::new("run"));
    let (a, page, again) = (folder.file("a.json"), folder.file("a.html"), folder.file("b.html"));
    let run = [&["run"], &SHORT[..], &[&addr, "--rate", "500"]].concat();
    let done = blast(&[&run[..], &["--json", &a, "--html", &page]].concat());
    assert_eq!(done.status.code(), Some(0), "{}", said(&done));
    assert!(said(&done).contains("150 planned, 150 sent"), "{}", said(&done));
    let kept = json(&a);
    assert_eq!((&kept["ok"], &kept["kind"]), (&150.into(), &"run".into()));
    let slices = kept["timeline"]["slices"].as_array().expect("a list");
    let answered = slices.iter().filter_map(|slice| slice["answered"].as_u64()).sum::<u64>();
    assert!(answered > 0 && answered <= 150, "{answered}");
    assert_eq!(kept["origin"]["command"][1], "run");

    let shown = blast(&["report", &a, "--html", &again]);
    assert_eq!(shown.status.code(), Some(0), "{}", said(&shown));
    assert_eq!(shown.stdout, done.stdout, "the same table");
    assert_eq!(fs::read(&page).expect("a page"), fs::read(&again).expect("a page"));

    let same = blast(&["compare", &a, &a]);
    assert_eq!(same.status.code(), Some(0), "{}", said(&same));
    assert!(said(&same).starts_with("no difference"), "{}", said(&same));
    // The same run with every latency four times as long.
    let slow = folder.file("slow.json");
    fs::write(&slow, slowed(kept).to_string()).expect("written");
    let compared = folder.file("compare.html");
    let worse = blast(&["compare", &a, &slow, "--html", &compared]);
    assert_eq!(worse.status.code(), Some(1), "{}", said(&worse));
    assert!(said(&worse).contains("B is slower"), "{}", said(&worse));
    assert!(fs::read_to_string(&compared).expect("a page").contains("B is slower"));
    assert_eq!(blast(&["compare", &slow, &a]).status.code(), Some(0), "faster is no failure");
    let several = blast(&["compare", "--a", &a, &a, "--b", &slow, &slow]);
    assert_eq!(several.status.code(), Some(1), "{}", said(&several));
}

fn slowed(mut run: serde_json::Value) -> serde_json::Value {
    for slice in run["timeline"]["slices"].as_array_mut().expect("a list") {
        let text = slice["latency_ns"].as_str().expect("text");
        let pairs = text.split(' ').filter_map(|pair| pair.split_once('x'));
        let longer = pairs.map(|(ns, n)| format!("{}x{n}", ns.parse::<u64>().expect("ns") * 4));
        slice["latency_ns"] = longer.collect::<Vec<_>>().join(" ").into();
    }
    run
}

#[test]
fn a_sweep_runs_every_rate_and_a_search_ends_where_it_may_go_no_further() {
    let (addr, folder) = (node(), Folder::new("sweep"));
    let (kept, page) = (folder.file("s.json"), folder.file("s.html"));
    let sweep = [&["sweep"], &SHORT[..], &[&addr, "--json", &kept, "--html", &page]].concat();
    let done = blast(&[&sweep[..], &["--rates", "100,400,200"]].concat());
    assert_eq!(done.status.code(), Some(0), "{}", said(&done));
    let found = json(&kept);
    let planned: Vec<_> =
        found["points"].as_array().expect("a list").iter().map(|p| p["planned"].as_u64()).collect();
    assert_eq!(planned, [Some(30), Some(120), Some(60)]);
    assert!(fs::read_to_string(&page).expect("a page").contains("Latency by rate"));

    // Everything is within an hour: the highest rate holds, twice.
    let bounds = ["--slo", "p99=3600s", "--from", "100", "--to", "400", "--confirm", "2"];
    let done = blast(&[&sweep[..], &bounds].concat());
    assert_eq!(done.status.code(), Some(0), "{}", said(&done));
    let found = json(&kept);
    assert_eq!((&found["slo"]["rate"], &found["slo"]["settled"]), (&400.0.into(), &true.into()));
    let rates: Vec<_> =
        found["points"].as_array().expect("a list").iter().map(|p| p["rate"].as_f64()).collect();
    assert_eq!(rates, [Some(200.0), Some(400.0), Some(400.0)]);
    // Nothing is within a microsecond: not even the lowest.
    let bounds = ["--slo", "p50=0.001us", "--from", "100", "--to", "400"];
    let done = blast(&[&sweep[..], &bounds].concat());
    assert_eq!(done.status.code(), Some(1), "{}", said(&done));
    assert!(said(&done).contains("not even 100/s"), "{}", said(&done));
    let several = blast(&["compare", &kept, &kept]);
    assert_eq!(several.status.code(), Some(2));
    assert!(said(&several).contains("of blast sweep: only runs"), "{}", said(&several));
}

#[test]
fn a_line_is_printed_for_each_run_of_a_sweep_without_a_terminal() {
    let addr = node();
    let args = [
        "sweep",
        "--op",
        "ping",
        "--addr",
        &addr,
        "--rates",
        "100,200",
        "--duration",
        "50ms",
        "--warmup",
        "0",
        "--json",
        "-",
    ];
    let done = blast(&args);
    assert_eq!(done.status.code(), Some(0), "{}", said(&done));
    let told = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(told.contains("1 of 2: 100/s offered") && told.contains("2 of 2: 200/s"), "{told}");
    assert!(!told.contains('\u{1b}'), "no colours, no cursor: {told}");
    let found: serde_json::Value = serde_json::from_slice(&done.stdout).expect("json alone");
    assert_eq!(found["kind"], "sweep");
}

#[test]
fn bad_input_is_refused_before_anything_is_sent() {
    let folder = Folder::new("bad");
    let (text, none) = (folder.file("text.json"), folder.file("none.json"));
    fs::write(&text, "hello").expect("written");
    let away = folder.file("no/folder/page.html");
    let to = ["--op", "ping", "--addr", "127.0.0.1:1"];
    let cases: &[(&[&str], &str)] = &[
        (&["run", "--rate", "0"], "--rate must be over 0"),
        (&["run", "--html", &away], "a folder that is there"),
        (&["run", "--html", "x", "--json", "x"], "would both go to"),
        (&["sweep", "--rates", "0,5"], "--rates 0 must be over 0"),
        (&["sweep", "--from", "9", "--to", "5"], "--from 9 must be below --to 5"),
        (&["sweep", "--from", "9"], "together"),
        (&["sweep", "--slo", "p99=5"], "a latency has a unit"),
        (&["sweep", "--slo", "p99=5ms,p99=6ms"], "bounds p99 twice"),
        (&["sweep", "--slo", "p99=5ms", "--step", "0"], "--step is between"),
        (&["sweep", "--slo", "p99=5ms", "--from", "9", "--to", "5"], "must be below"),
    ];
    for (args, part) in cases {
        let done = blast(&[args, &to[..]].concat());
        assert_eq!(done.status.code(), Some(2), "{args:?}: {}", said(&done));
        assert!(said(&done).contains(part), "{args:?}: {}", said(&done));
    }
    for (args, part) in [
        (vec!["report", &text], "is no JSON"),
        (vec!["report", &none], "cannot be read"),
        (vec!["compare", &text], "give two files"),
        (vec!["compare", &text, &text], "is no JSON"),
        (vec!["compare", "--tolerance=-1%", &text, &text], "is no share"),
    ] {
        let done = blast(&args);
        assert_eq!(done.status.code(), Some(2), "{args:?}: {}", said(&done));
        assert!(said(&done).contains(part), "{args:?}: {}", said(&done));
    }
}
