//! A household behind a router, and an internet, on one machine: network namespaces joined by wires.
//!
//! `home` is the machine that serves, behind `router` (NAT; miniupnpd answers UPnP, NAT-PMP and PCP), and in some
//! worlds behind a second router `isp`. In `internet` there are two name servers (BIND; the zone takes updates), a
//! certification authority (Pebble), and stand-ins for services that tell an address or the time. Nothing leaves the
//! machine: no wire leads out.
//!
//! It needs root and the programs of [`PROGRAMS`]. The program `lab` of this package is its command line.

mod authorities;
mod isolate;
mod keeping;
mod network;
mod one_shots;
pub mod peer;
pub mod picture;
pub mod scenario;
mod services;
mod site;
pub mod world;

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};

use self::world::World;
pub use self::{
    isolate::{FOLDER, enter, is_inside, isolated},
    network::{FORMER, HOME, NAME_SERVERS, PUBLIC, ROUTER, address_of},
    services::{
        DOMAIN, EAB_KEY, EAB_KEY_ID, TSIG_NAME, TSIG_SECRET, settings, settings_of_second,
        settings_without_ddns, web_root,
    },
};

/// What the lab is made of, and the Debian package that brings it.
pub const PROGRAMS: [(&str, &str); 9] = [
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("miniupnpd", "miniupnpd-nftables"),
    ("upnpc", "miniupnpc"),
    ("named", "bind9"),
    ("dig", "bind9-dnsutils"),
    ("pebble", "pebble"),
    ("faketime", "faketime"),
    ("curl", "curl"),
];
/// Lays a clock of our own over the system's; the loader puts the machine's folder in the place of `$LIB`.
const FAKE_CLOCK: &str = "LD_PRELOAD=/usr/$LIB/faketime/libfaketime.so.1";
/// How long a service may take until it answers.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// A running lab. Its services end when it is dropped.
#[derive(Debug)]
pub struct Lab {
    /// What it is like.
    pub world: World,
    services: Vec<(String, Child)>,
}

impl Lab {
    /// Builds the network and starts every service. Only in a world of its own: see [`isolated`].
    ///
    /// # Errors
    /// When something is missing or does not start; with what it printed.
    pub fn start(world: World) -> anyhow::Result<Self> {
        isolate::mount(NAME_SERVERS[0])?;
        network::build(&world).context("the network of the lab")?;
        services::write_settings(&world)?;
        let mut lab = Self { world, services: Vec::new() };
        lab.start_services()?;
        lab.wait_for_services()?;
        Ok(lab)
    }

    fn start_services(&mut self) -> anyhow::Result<()> {
        for server in ["ns1", "ns2"] {
            let settings = format!("{FOLDER}/{server}/named.conf");
            let named = self.host("internet", "named", &["-g", "-4", "-n", "1", "-c", &settings]);
            self.spawn(server, named)?;
        }
        let settings = format!("{FOLDER}/pebble.json");
        let resolver = format!("{}:53", NAME_SERVERS[0]);
        let args = ["-strict", "-config", &settings, "-dnsserver", &resolver];
        let mut pebble = self.host("internet", "pebble", &args);
        pebble.env("PEBBLE_VA_NOSLEEP", "1");
        self.spawn("pebble", pebble)?;
        let ourselves = std::env::current_exe()?;
        let ourselves = ourselves.to_string_lossy();
        let peers = self.host("internet", &ourselves, &["peer", "internet"]);
        self.spawn("peers", peers)?;
        self.start_router()?;
        if self.world.mapping == world::Mapping::Forgotten {
            let forget = "while sleep 0.1; do echo flush chain inet filter miniupnpd; \
                          echo flush chain inet filter prerouting_miniupnpd; done | nft -i";
            let forget = self.host("router", "sh", &["-c", forget]);
            self.spawn("forgetting", forget)?;
        }
        if self.world.is_port_taken {
            let taken = self.host("home", &ourselves, &["peer", "web", "0.0.0.0:80"]);
            self.spawn("taken", taken)?;
        }
        Ok(())
    }

    /// Starts what answers wishes for mappings, where the router has that.
    fn start_router(&mut self) -> anyhow::Result<()> {
        let settings = format!("{FOLDER}/miniupnpd.conf");
        if fs::exists(&settings)? {
            let pid = format!("{FOLDER}/miniupnpd.pid");
            let upnp = self.host("router", "miniupnpd", &["-d", "-f", &settings, "-P", &pid]);
            self.spawn("miniupnpd", upnp)?;
        }
        Ok(())
    }

    fn wait_for_services(&mut self) -> anyhow::Result<()> {
        for server in NAME_SERVERS {
            let at = format!("@{server}");
            let args = ["+short", "+timeout=1", "+tries=1", &at, DOMAIN, "SOA"];
            self.wait("a name server", |lab| {
                let answer = lab.run("internet", "dig", &args)?;
                Ok(answer.status.success() && answer.stdout.starts_with(b"ns1"))
            })?;
        }
        for url in ["https://ca.example/dir", "https://echo1.example/"] {
            self.wait(url, |lab| Ok(lab.fetch("home", &["--cacert", &web_root(), url]).is_ok()))?;
        }
        let root = self.fetch("internet", &["--insecure", "https://ca.example:15000/roots/0"])?;
        fs::write(self.site_root(), root)?;
        self.start_probe()?;
        if self.world.mapping != world::Mapping::Off {
            let url = format!("http://{ROUTER}:5000/rootDesc.xml");
            self.wait("miniupnpd", |lab| Ok(lab.fetch("home", &[&url]).is_ok()))?;
        }
        Ok(())
    }

    /// A `hearth probe` on a machine in the internet.
    fn start_probe(&mut self) -> anyhow::Result<()> {
        let address = format!("{}:8080", address_of("probe"));
        let root = self.site_root();
        let args = ["probe", "--listen", &address, "--ca-file", &root];
        let probe = self.host("internet", &hearth()?.to_string_lossy(), &args);
        self.spawn("probe", probe)?;
        let url = format!("http://{address}/");
        self.wait("the probe", |lab| {
            // It has no pages; that it says so is enough.
            let args = ["--silent", "--noproxy", "*", "--max-time", "2", &url];
            Ok(lab.run("home", "curl", &args)?.status.success())
        })
    }

    /// The root of the certificates that the site gets.
    #[must_use]
    pub fn site_root(&self) -> String {
        format!("{FOLDER}/site-root.pem")
    }

    /// A command on one of the machines.
    #[must_use]
    pub fn host(&self, machine: &str, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", machine, program]).args(args).stdin(Stdio::null());
        command
    }

    /// Runs a command on one of the machines to its end, at most a minute.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn run(&self, machine: &str, program: &str, args: &[&str]) -> anyhow::Result<Output> {
        let args = [&["-k", "5", "60", program], args].concat();
        Ok(self.host(machine, "timeout", &args).output()?)
    }

    /// What curl on one of the machines gets.
    ///
    /// # Errors
    /// When it gets nothing, or no status of success.
    pub fn fetch(&self, machine: &str, args: &[&str]) -> anyhow::Result<String> {
        let common = ["--silent", "--show-error", "--fail", "--max-time", "5", "--noproxy", "*"];
        let output = self.run(machine, "curl", &[&common, args].concat())?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}", complaint.trim());
        Ok(String::from_utf8(output.stdout)?)
    }

    /// The `hearth` binary on the machine at home, by the clock it has there.
    ///
    /// # Errors
    /// When the binary is not beside this program.
    pub fn hearth(&self, args: &[&str]) -> anyhow::Result<Command> {
        let binary = hearth()?;
        let binary = binary.to_string_lossy();
        let mut command = match self.world.clock_days {
            0 => self.host("home", &binary, args),
            days => {
                // Not by its wrapper, which would get the signals that are for the server.
                let ahead = format!("FAKETIME=+{days}d");
                self.host("home", "env", &[&[FAKE_CLOCK, &ahead, &binary], args].concat())
            }
        };
        command.env("STATE_DIRECTORY", format!("{FOLDER}/state"));
        Ok(command)
    }

    /// How many certificates the authority has issued.
    #[must_use]
    pub fn issued(&self) -> usize {
        self.log("pebble").matches("Issued certificate serial").count()
    }

    /// Starts a service; what it prints goes to a file of the lab.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&mut self, name: &str, mut command: Command) -> anyhow::Result<()> {
        let log = File::create(format!("{FOLDER}/{name}.log"))?;
        let child = command.stdout(log.try_clone()?).stderr(log).spawn();
        self.services.push((name.to_owned(), child.with_context(|| format!("{command:?}"))?));
        Ok(())
    }

    /// Tells a service to end, and waits until it has.
    ///
    /// # Errors
    /// When there is none of this name, or it does not end in time.
    pub fn stop(&mut self, name: &str) -> anyhow::Result<std::process::ExitStatus> {
        let at = self.services.iter().position(|(known, _)| known == name);
        let (_, mut child) = self.services.remove(at.context("no such service")?);
        Command::new("kill").args(["-s", "TERM", &child.id().to_string()]).status()?;
        let start = Instant::now();
        while start.elapsed() < START_TIMEOUT {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = child.kill();
        bail!("{name} does not end:\n{}", self.log(name))
    }

    /// Ends a service as a power cut does.
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn kill(&mut self, name: &str) -> anyhow::Result<()> {
        let at = self.services.iter().position(|(known, _)| known == name);
        let (_, mut child) = self.services.remove(at.context("no such service")?);
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// What a service printed so far.
    #[must_use]
    pub fn log(&self, name: &str) -> String {
        fs::read_to_string(format!("{FOLDER}/{name}.log")).unwrap_or_default()
    }

    /// Waits until something is so.
    ///
    /// # Errors
    /// When it is not so in time, or a service ended; with what the services printed.
    pub fn wait(
        &mut self,
        what: &str,
        mut is_so: impl FnMut(&Self) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let start = Instant::now();
        while !is_so(self)? {
            for at in 0..self.services.len() {
                let (name, child) = &mut self.services[at];
                if let Some(status) = child.try_wait()? {
                    let name = name.clone();
                    bail!("{name} ended ({status}):\n{}", self.log(&name));
                }
            }
            if start.elapsed() > START_TIMEOUT {
                let logs = self.services.iter().map(|(name, _)| self.log(name));
                bail!("no answer from {what}:\n{}", logs.collect::<String>());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for (_, child) in self.services.iter_mut().rev() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The programs of [`PROGRAMS`] that are missing here, each with its package; and whether we may make namespaces.
#[must_use]
pub fn missing() -> Vec<String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<_> =
        std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]).collect();
    let is_here = |name: &str| folders.iter().any(|folder| folder.join(name).is_file());
    let absent = PROGRAMS.iter().filter(|(name, _)| !is_here(name));
    let mut missing: Vec<_> =
        absent.map(|(name, package)| format!("{name} (Debian: {package})")).collect();
    let may = isolated("true".as_ref()).stderr(Stdio::null()).status();
    if !may.is_ok_and(|status| status.success()) {
        missing.push("the right to make namespaces (root)".to_owned());
    }
    missing
}

/// The `hearth` binary: `$E2E_BIN_DIR`, or beside this program.
fn hearth() -> anyhow::Result<PathBuf> {
    let ourselves = std::env::current_exe()?;
    let folder = std::env::var_os("E2E_BIN_DIR").map(PathBuf::from);
    let folder = folder.or_else(|| Some(ourselves.parent()?.to_path_buf()));
    let binary = folder.context("a program is in a folder")?.join("hearth");
    ensure!(binary.is_file(), "{} is not built", binary.display());
    Ok(binary)
}
