//! A home, its router and the internet, in network namespaces of this machine: nothing leaves it.

use std::{
    fs::{self, File},
    os::fd::AsFd,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The machine at home, and its router.
pub(crate) const HOME: &str = "192.168.77.10";
pub(crate) const OTHER_HOME: &str = "192.168.77.11";
pub(crate) const ROUTER: &str = "192.168.77.1";
pub(crate) const HOME_V6: &str = "2a0b:77::10";
/// The router's address in the internet. Routers refuse to map ports of documentation addresses.
pub(crate) const PUBLIC: &str = "11.1.0.10";
/// Somebody in the internet.
pub(crate) const STRANGER: &str = "11.1.0.1";

/// Three machines, gone when it is dropped.
pub(crate) struct World {
    home: String,
    router: String,
    internet: String,
    folder: tempfile::TempDir,
    daemon: Mutex<Option<Child>>,
}

impl World {
    /// `None` where this machine cannot play it, which `E2E_NO_SKIP` makes a failure.
    pub(crate) fn new() -> Option<Self> {
        let missing: Vec<_> =
            ["ip", "nft", "miniupnpd"].into_iter().filter(|name| !is_there(name)).collect();
        let is_root = rustix::process::geteuid().is_root();
        if !missing.is_empty() || !is_root {
            let text = format!(
                "SKIPPED: needs root and the programs ip, nft, miniupnpd; missing: {missing:?}"
            );
            assert!(std::env::var_os("E2E_NO_SKIP").is_none(), "{text}");
            eprintln!("{text}");
            return None;
        }
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let id = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let world = Self {
            home: format!("home-{id}"),
            router: format!("router-{id}"),
            internet: format!("internet-{id}"),
            folder: tempfile::tempdir().unwrap(),
            daemon: Mutex::new(None),
        };
        world.build();
        Some(world)
    }

    fn build(&self) {
        let (home, router, internet) = (&*self.home, &*self.router, &*self.internet);
        for machine in [home, router, internet] {
            ip(&["netns", "add", machine]);
            ip(&["-n", machine, "link", "set", "lo", "up"]);
        }
        wire(
            (router, "lan0", &[ROUTER, "2a0b:77::1"]),
            (home, "eth0", &[HOME, OTHER_HOME, HOME_V6]),
        );
        wire(
            (router, "wan0", &[PUBLIC, "2a0b:1::10"]),
            (internet, "isp0", &[STRANGER, "2a0b:1::1"]),
        );
        ip(&["-n", home, "route", "add", "default", "via", ROUTER]);
        ip(&["-n", home, "-6", "route", "add", "default", "via", "2a0b:77::1"]);
        ip(&["-n", router, "route", "add", "default", "via", STRANGER]);
        ip(&["-n", internet, "-6", "route", "add", "2a0b:77::/64", "via", "2a0b:1::10"]);
        let rules = self.write("rules.nft", RULES);
        self.exec(router, &["nft", "-f", &rules]);
        for file in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            self.exec(router, &["sh", "-c", &format!("echo 1 > /proc/sys/net/{file}")]);
        }
    }

    /// Starts miniupnpd with these settings besides the necessary ones, or starts it again, which
    /// makes it forget.
    pub(crate) fn start_router(&self, settings: &str) {
        self.stop_router();
        let _ = fs::remove_file(self.folder.path().join("leases"));
        let rules = self.write("rules.nft", RULES);
        self.exec(&self.router, &["nft", "flush", "ruleset"]);
        self.exec(&self.router, &["nft", "-f", &rules]);
        let file = self.write("miniupnpd.conf", &format!("{settings}\n{SETTINGS}"));
        let pid_file = self.folder.path().join("miniupnpd.pid").display().to_string();
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.router, "miniupnpd", "-d", "-f", &file]);
        command.args(["-P", &pid_file]);
        let log = File::create(self.folder.path().join("miniupnpd.log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        *self.daemon.lock().unwrap() = Some(command.spawn().unwrap());
        let limit = Instant::now() + Duration::from_secs(10);
        // It listens once the log says so; there is no other sign.
        let sign = if settings.contains("enable_natpmp=yes") {
            "Listening for NAT-PMP"
        } else {
            "HTTP listening"
        };
        while !self.log().contains(sign) {
            assert!(Instant::now() < limit, "miniupnpd does not start: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn stop_router(&self) {
        if let Some(mut daemon) = self.daemon.lock().unwrap().take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("miniupnpd.log")).unwrap_or_default()
    }

    /// The rules that the router has now.
    pub(crate) fn router_rules(&self) -> String {
        let output = Command::new("ip")
            .args(["netns", "exec", &self.router, "nft", "list", "ruleset"])
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs `work` on the machine at home, in a runtime of its own.
    pub(crate) fn at_home<T: Send>(&self, work: impl Future<Output = T> + Send) -> T {
        within(&self.home, work)
    }

    /// Runs `work` in the internet.
    pub(crate) fn in_internet<T: Send>(&self, work: impl Future<Output = T> + Send) -> T {
        within(&self.internet, work)
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        let text = text.replace("FOLDER", &self.folder.path().display().to_string());
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    fn exec(&self, machine: &str, command: &[&str]) {
        ip(&[&["netns", "exec", machine], command].concat());
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop_router();
        for machine in [&self.home, &self.router, &self.internet] {
            let _ = Command::new("ip").args(["netns", "del", machine]).status();
        }
    }
}

/// A thread that moves into the namespace, and everything that its runtime opens with it.
fn within<T: Send>(machine: &str, work: impl Future<Output = T> + Send) -> T {
    let namespace = File::open(format!("/run/netns/{machine}")).unwrap();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(work)
        });
        match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

fn wire(one: (&str, &str, &[&str]), other: (&str, &str, &[&str])) {
    let pair = ["link", "add", one.1, "netns", one.0, "type", "veth", "peer", "name", other.1];
    ip(&[&pair[..], &["netns", other.0]].concat());
    for (machine, interface, addresses) in [one, other] {
        for address in addresses {
            let bits = if address.contains(':') { 64 } else { 24 };
            let address = format!("{address}/{bits}");
            let mut args = vec!["-n", machine, "addr", "add", &address, "dev", interface];
            // Nobody else is there who could have the same address.
            args.extend(address.contains(':').then_some("nodad"));
            ip(&args);
        }
        ip(&["-n", machine, "link", "set", interface, "up"]);
    }
}

#[track_caller]
fn ip(args: &[&str]) {
    let output = Command::new("ip").args(args).output().unwrap();
    assert!(output.status.success(), "ip {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    folders.map(|folder| folder.join(program)).any(|file| Path::is_file(&file))
}

/// The chains of miniupnpd are the only way in.
const RULES: &str = r#"table inet filter {
  chain forward {
    type filter hook forward priority 0; policy drop;
    ct state established,related accept;
    iifname "lan0" accept;
    icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept;
    jump miniupnpd;
  }
  chain miniupnpd { }
  chain prerouting_miniupnpd { }
  chain postrouting_miniupnpd { }
  chain prerouting {
    type nat hook prerouting priority -100;
    jump prerouting_miniupnpd;
  }
  chain postrouting {
    type nat hook postrouting priority 100;
    jump postrouting_miniupnpd;
    meta nfproto ipv4 oifname "wan0" masquerade;
  }
}
"#;

const SETTINGS: &str = "ext_ifname=wan0
ext_ifname6=wan0
listening_ip=lan0
http_port=5000
enable_upnp=yes
secure_mode=yes
system_uptime=no
notify_interval=60
ipv6_disable=no
lease_file=FOLDER/leases
uuid=5f0a1c1e-0000-4000-8000-000000000001
min_lifetime=120
max_lifetime=86400
upnp_table_name=filter
upnp_nat_table_name=filter
upnp_forward_chain=miniupnpd
upnp_nat_chain=prerouting_miniupnpd
upnp_nat_postrouting_chain=postrouting_miniupnpd
";
