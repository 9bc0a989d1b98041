//! `lab`: a household behind a router, on one machine. `cargo xtask lab` builds and runs it.
#![forbid(unsafe_code)]

use std::{
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
    sync::Mutex,
    time::Instant,
};

use anyhow::{Context as _, bail};
use hearth_e2e::lab::{
    self, FOLDER, Lab, peer, picture,
    scenario::{self, Scenario},
    world,
};

const HELP: &str = "\
lab list                            worlds and scenarios
lab run [--jobs N] all|SCENARIO...  play scenarios, each in a lab of its own
lab pictures FOLDER                 draw the manual's pictures of a terminal (docs/src/images)
lab shell [WORLD]                   a shell on the machine at home; `ip netns exec internet CMD` is elsewhere
";
/// A scenario that takes longer hangs.
const SCENARIO_SECONDS_MAX: &str = "120";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> anyhow::Result<()> {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["list"] => list(),
        ["pictures", folder] if lab::is_inside() => return picture::draw(folder.as_ref()),
        ["pictures", _] => return lab::enter(),
        ["peer", ..] => return peer::run(&args[1..]),
        ["play", name] if lab::is_inside() => return play(name),
        ["run", "--jobs", jobs, names @ ..] => return run_all(jobs.parse()?, names),
        ["run", names @ ..] => return run_all(1, names),
        ["shell"] => return shell("sound"),
        ["shell", world] => return shell(world),
        [] | ["help" | "--help" | "-h"] => print!("{HELP}"),
        _ => bail!("not understood: {}\n{HELP}", words.join(" ")),
    }
    Ok(())
}

fn list() {
    println!("worlds:");
    for world in world::all() {
        println!("  {:<20} {}", world.name, world.about);
    }
    println!("scenarios:");
    for scenario in scenario::all() {
        println!("  {:<20} {}", scenario.name, scenario.about);
    }
}

/// Plays scenarios, several at a time; each in a process whose end is the end of everything it made.
fn run_all(jobs: usize, names: &[&str]) -> anyhow::Result<()> {
    let missing = lab::missing();
    anyhow::ensure!(missing.is_empty(), "missing: {}", missing.join(", "));
    let chosen: Vec<Scenario> = match names {
        [] | ["all"] => scenario::all(),
        names => names.iter().map(|name| named(name)).collect::<Result<_, _>>()?,
    };
    let count = chosen.len();
    let queue = Mutex::new(chosen.into_iter());
    let failed = Mutex::new(0);
    let next = || queue.lock().ok().and_then(|mut queue| queue.next());
    std::thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, count.max(1)) {
            scope.spawn(|| {
                while let Some(scenario) = next() {
                    let start = Instant::now();
                    let result = play_apart(&scenario);
                    let seconds = start.elapsed().as_secs_f64();
                    match result {
                        Ok(said) => {
                            println!(
                                "ok      {:<28} {seconds:>5.1} s  {}",
                                scenario.name,
                                said.trim()
                            );
                        }
                        Err(error) => {
                            println!("FAILED  {:<28} {seconds:>5.1} s  {error:#}", scenario.name);
                            if let Ok(mut failed) = failed.lock() {
                                *failed += 1;
                            }
                        }
                    }
                }
            });
        }
    });
    match failed.into_inner() {
        Ok(0) => Ok(()),
        Ok(failed) => bail!("{failed} of {count} scenarios failed"),
        Err(_) => bail!("a scenario broke the lab"),
    }
}

fn named(name: &str) -> anyhow::Result<Scenario> {
    let found = scenario::all().into_iter().find(|scenario| scenario.name == name);
    found.with_context(|| format!("no scenario named `{name}`; `lab list` shows them"))
}

fn play_apart(scenario: &Scenario) -> anyhow::Result<String> {
    let mut command = lab::isolated("timeout".as_ref());
    command.args(["-k", "5", SCENARIO_SECONDS_MAX]).arg(std::env::current_exe()?);
    let output = command.args(["play", &scenario.name]).stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("{}\n{said}{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(said)
}

fn play(name: &str) -> anyhow::Result<()> {
    let scenario = named(name)?;
    let mut lab = Lab::start(scenario.world)?;
    (scenario.play)(&mut lab)
}

fn shell(name: &str) -> anyhow::Result<()> {
    let world = world::named(name);
    let world = world.with_context(|| format!("no world named `{name}`; `lab list` shows them"))?;
    if !lab::is_inside() {
        let missing = lab::missing();
        anyhow::ensure!(missing.is_empty(), "missing: {}", missing.join(", "));
        return lab::enter();
    }
    let about = world.about;
    let _lab = Lab::start(world)?;
    eprintln!("{name}: {about}\nfiles and logs: {FOLDER}; `exit` ends everything");
    let folder = std::env::current_exe()?.parent().map(PathBuf::from).unwrap_or_default();
    let path = std::env::var("PATH").unwrap_or_default();
    let mut shell = Command::new("ip");
    shell.args(["netns", "exec", "home", "bash", "--norc", "-i"]);
    shell.env("PATH", format!("{}:{path}", folder.display())).env("PS1", "home# ");
    shell.status().context("bash")?;
    Ok(())
}
