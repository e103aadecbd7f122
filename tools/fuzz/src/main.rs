//! `fuzz TARGET SECONDS FOLDER...`: mutates what the folders hold, without a guide, and says how
//! many inputs ran. An input that fails is written beside them, and ends the process.
//!
//! `fuzz --seeds FOLDER`: writes every target's seeds into a folder of its name in there, and says
//! the names.
#![forbid(unsafe_code)]

use fuzz::{TARGETS, Target, mutate::Random};
use std::{
    fs, io, panic,
    path::Path,
    process::{ExitCode, abort},
    sync::Mutex,
    time::{Duration, Instant, SystemTime},
};

/// The input under way, for the hook that writes it down.
static CURRENT: Mutex<Vec<u8>> = Mutex::new(Vec::new());

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (name, seconds, folders) = match words.as_slice() {
        [flag, folder] if flag == "--seeds" => return write_seeds(Path::new(folder)),
        [name, seconds, folders @ ..] => (name, seconds, folders),
        _ => return refuse("fuzz TARGET SECONDS FOLDER..., or fuzz --seeds FOLDER"),
    };
    let target = match (fuzz::find(name), seconds.parse()) {
        (Ok(target), Ok(seconds)) => (target, Duration::from_secs(seconds)),
        (Err(names), _) => return refuse(&names),
        (_, Err(error)) => return refuse(&format!("{seconds}: {error}")),
    };
    let folders: Vec<&Path> = folders.iter().map(Path::new).collect();
    write_down_failures(target.0, folders.first().copied().unwrap_or_else(|| Path::new(".")));
    let runs = run(target.0, target.1, &corpus(target.0, &folders));
    // As libFuzzer says it.
    println!("stat::number_of_executed_units: {runs}");
    ExitCode::SUCCESS
}

fn refuse(why: &str) -> ExitCode {
    eprintln!("fuzz: {why}");
    ExitCode::from(2)
}

fn write_seeds(folder: &Path) -> ExitCode {
    for target in TARGETS {
        let own = folder.join(target.name);
        let written = fs::create_dir_all(&own).and_then(|()| {
            let mut seeds = (target.seeds)().into_iter().enumerate();
            seeds.try_for_each(|(at, seed)| fs::write(own.join(format!("seed-{at}")), seed))
        });
        if let Err(error) = written {
            return refuse(&format!("{}: {error}", own.display()));
        }
        println!("{}", target.name);
    }
    ExitCode::SUCCESS
}

/// The target's own seeds, and every file of the folders.
fn corpus(target: &Target, folders: &[&Path]) -> Vec<Vec<u8>> {
    let read = |folder: &&Path| -> io::Result<Vec<Vec<u8>>> {
        fs::read_dir(folder)?.map(|entry| fs::read(entry?.path())).collect()
    };
    let files = folders.iter().filter_map(|folder| read(folder).ok()).flatten();
    (target.seeds)().into_iter().chain(files).collect()
}

fn run(target: &Target, time: Duration, corpus: &[Vec<u8>]) -> u64 {
    let began = Instant::now();
    let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let mut random = Random(clock.as_nanos() as u64);
    let mut runs = 0;
    let mut one = |input: &[u8]| {
        if let Ok(mut current) = CURRENT.lock() {
            current.clear();
            current.extend_from_slice(input);
        }
        (target.run)(input);
        runs += 1;
    };
    corpus.iter().for_each(|input| one(input));
    while began.elapsed() < time {
        let mut input = corpus[random.below(corpus.len())].clone();
        let other = random.below(corpus.len());
        random.mutate(&mut input, &corpus[other]);
        one(&input);
    }
    runs
}

/// An input that panics is kept: the test of tomorrow.
fn write_down_failures(target: &Target, folder: &Path) {
    let (name, folder) = (target.name, folder.to_owned());
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |what| {
        usual(what);
        let path = folder.with_file_name(format!("{name}-crash"));
        let input = CURRENT.lock().map(|input| input.clone()).unwrap_or_default();
        match fs::write(&path, input) {
            Ok(()) => eprintln!("the input is {}", path.display()),
            Err(error) => eprintln!("the input is lost: {}: {error}", path.display()),
        }
        abort();
    }));
}
