//! The servers that are compared: each is given one core and the same site.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

use crate::{process, programs, workspace};

/// Where everything lies that the servers share.
pub(super) struct Site {
    pub(super) folder: PathBuf,
    pub(super) port: u16,
    pub(super) tls_port: u16,
}

/// One server: what it can do and how it is started.
pub(super) struct Server {
    pub(super) name: &'static str,
    /// Of `text json param static tls h2 gzip br zstd`.
    pub(super) can: &'static str,
    command: fn(&Site) -> anyhow::Result<Command>,
}

/// Every server, ours first.
pub(super) const SERVERS: &[Server] = &[
    Server { name: "hearth", can: "text json param static tls h2 gzip br zstd", command: hearth },
    Server { name: "nginx", can: "text json param static tls h2 gzip br", command: nginx },
    Server { name: "lighttpd", can: "static tls h2 gzip", command: lighttpd },
    Server { name: "floor", can: "text", command: |_| peer("peer-floor") },
    Server { name: "hyper", can: "text json param tls h2", command: |_| peer("peer-hyper") },
    Server {
        name: "axum",
        can: "text json param static tls h2 gzip br zstd",
        command: |_| peer("peer-axum"),
    },
    Server {
        name: "actix",
        can: "text json param static tls h2 gzip br zstd",
        command: |_| peer("peer-actix"),
    },
];

impl Site {
    /// Writes the files, the same bytes every time, and a certificate.
    pub(super) fn prepare(port: u16) -> anyhow::Result<Self> {
        let folder = workspace::target_folder().join("bench-http");
        let root = folder.join("site");
        fs::create_dir_all(root.join("s"))?;
        fs::create_dir_all(root.join("z"))?;
        let page = format!("<html>{}</html>", "a".repeat(1011));
        fs::write(root.join("s/1k.html"), page)?;
        fs::write(root.join("s/100k.bin"), noise(100 << 10))?;
        fs::write(root.join("s/10m.bin"), noise(10 << 20))?;
        fs::write(root.join("z/data.json"), records(100 << 10))?;
        fs::write(root.join("plaintext"), super::http::TEXT)?;
        let site = Self { folder, port, tls_port: port + 1 };
        if !site.certificate().is_file() {
            let mut openssl = Command::new("openssl");
            openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
            openssl.args(["-nodes", "-days", "3650", "-subj", "/CN=localhost", "-addext"]);
            openssl.args(["subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout"]);
            openssl.arg(site.key()).arg("-out").arg(site.certificate());
            process::run(openssl.stderr(Stdio::null()))?;
            let both = fs::read_to_string(site.certificate())? + &fs::read_to_string(site.key())?;
            fs::write(site.folder.join("both.pem"), both)?;
        }
        Ok(site)
    }

    pub(super) fn root(&self) -> PathBuf {
        self.folder.join("site")
    }

    fn certificate(&self) -> PathBuf {
        self.folder.join("cert.pem")
    }

    fn key(&self) -> PathBuf {
        self.folder.join("key.pem")
    }
}

/// A server that runs; ended when dropped.
pub(super) struct Running(Child);

impl Running {
    pub(super) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.pid().to_string()).status();
        let end = Instant::now() + Duration::from_secs(3);
        while Instant::now() < end {
            if matches!(self.0.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Server {
    /// Whether the server has what a workload needs.
    pub(super) fn can_all(&self, needs: &str) -> bool {
        needs.split(' ').all(|need| self.can.split(' ').any(|can| can == need))
    }

    /// Whether its program is here; builds ours and our peers where needed.
    pub(super) fn is_here(&self) -> anyhow::Result<bool> {
        match self.name {
            "nginx" | "lighttpd" => Ok(programs::find(self.name).is_some()),
            "hearth" if std::env::var_os("HEARTH_REFEREE").is_some() => Ok(true),
            "hearth" => {
                let mut build = process::cargo(&["build", "--profile", "dist"]);
                process::run(build.args(["--package", "example-referee"])).map(|()| true)
            }
            _ => {
                let manifest = workspace::root().join("benches/http/Cargo.toml");
                let mut build = process::cargo(&["build", "--release", "--manifest-path"]);
                build.arg(manifest).args(["--package", &format!("peer-{}", self.name)]);
                process::run(build.arg("--target-dir").arg(peers_target())).map(|()| true)
            }
        }
    }

    /// Starts it on core 0 and waits until it answers.
    pub(super) fn start(&self, site: &Site) -> anyhow::Result<(Running, Duration)> {
        let command = (self.command)(site)?;
        let mut pinned = pin(0, &command);
        pinned.env("PORT", site.port.to_string()).env("TPORT", site.tls_port.to_string());
        pinned.env("ROOT", site.root()).env("CERT", site.certificate()).env("KEY", site.key());
        pinned.env("WORKERS", "1").stdout(Stdio::null());
        let log = fs::File::create(site.folder.join(format!("{}.log", self.name)))?;
        let begin = Instant::now();
        let running = Running(pinned.stderr(log).spawn().context("cannot start a server")?);
        let address = ("127.0.0.1", site.port);
        while begin.elapsed() < Duration::from_secs(10) {
            if super::http::answers(address) {
                return Ok((running, begin.elapsed()));
            }
            std::thread::sleep(Duration::from_micros(500));
        }
        bail!("{} does not answer on port {}", self.name, site.port)
    }
}

/// The command, on one core; ahead of everything else on it where that is allowed.
pub(super) fn pin(core: u32, command: &Command) -> Command {
    let mut pinned = Command::new("taskset");
    pinned.args(["-c", &core.to_string()]);
    let may_hurry = Command::new("chrt").args(["-r", "1", "true"]).stderr(Stdio::null()).status();
    if may_hurry.is_ok_and(|status| status.success()) {
        pinned.args(["chrt", "-r", "1"]);
    }
    pinned.arg(command.get_program()).args(command.get_args());
    pinned
}

fn hearth(_: &Site) -> anyhow::Result<Command> {
    let built = workspace::target_folder().join("dist/referee");
    Ok(Command::new(std::env::var_os("HEARTH_REFEREE").map_or(built, PathBuf::from)))
}

fn peer(name: &str) -> anyhow::Result<Command> {
    Ok(Command::new(peers_target().join("release").join(name)))
}

fn peers_target() -> PathBuf {
    workspace::target_folder().join("bench-peers")
}

fn nginx(site: &Site) -> anyhow::Result<Command> {
    let Site { folder, port, tls_port } = site;
    let dir = folder.display();
    let module = Path::new("/usr/lib/nginx/modules/ngx_http_brotli_filter_module.so");
    let (load, brotli) = match module.is_file() {
        true => (
            format!("load_module {};", module.display()),
            "brotli on; brotli_comp_level 4; brotli_types application/json;",
        ),
        false => (String::new(), ""),
    };
    let text = format!(
        r#"{load}
worker_processes 1; daemon off; user root; pid {dir}/nginx.pid; error_log {dir}/nginx.err crit;
events {{ worker_connections 20000; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_timeout 300s; keepalive_requests 1000000000;
  open_file_cache max=1000 inactive=60s; open_file_cache_valid 60s;
  types {{ text/html html; application/json json; application/octet-stream bin; }}
  client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f;
  uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/c;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    listen 127.0.0.1:{tls_port} ssl http2 backlog=4096;
    ssl_certificate {dir}/cert.pem; ssl_certificate_key {dir}/key.pem; ssl_protocols TLSv1.2 TLSv1.3;
    root {dir}/site;
    location = /plaintext {{ default_type text/plain; return 200 "Hello, World!"; }}
    location = /json {{ default_type application/json; return 200 '{{"message":"Hello, World!"}}'; }}
    location ~ ^/users/(.+)$ {{ default_type text/plain; return 200 $1; }}
    location /z/ {{ gzip on; gzip_comp_level 5; gzip_types application/json; {brotli} }}
  }}
}}
"#
    );
    let path = folder.join("nginx.conf");
    fs::write(&path, text)?;
    let mut command = Command::new(programs::find("nginx").context("nginx is not installed")?);
    command.arg("-c").arg(path).arg("-e").arg(folder.join("nginx.err"));
    Ok(command)
}

fn lighttpd(site: &Site) -> anyhow::Result<Command> {
    let Site { folder, port, tls_port } = site;
    let dir = folder.display();
    let text = format!(
        r#"server.modules = ("mod_openssl", "mod_deflate")
server.document-root = "{dir}/site"
server.bind = "127.0.0.1"
server.port = {port}
server.event-handler = "linux-sysepoll"
server.network-backend = "sendfile"
server.max-fds = 20000
server.max-connections = 9000
server.listen-backlog = 4096
server.max-keep-alive-requests = 4294967
server.max-keep-alive-idle = 300
server.errorlog = "{dir}/lighttpd.err"
mimetype.assign = (".html" => "text/html", ".json" => "application/json", "" => "application/octet-stream")
$SERVER["socket"] == "127.0.0.1:{tls_port}" {{ ssl.engine = "enable" ssl.pemfile = "{dir}/both.pem" }}
$HTTP["url"] =~ "^/z/" {{ deflate.mimetypes = ("application/json") deflate.allowed-encodings = ("gzip") deflate.params = ("compression-level" => 5) }}
"#
    );
    let path = folder.join("lighttpd.conf");
    fs::write(&path, text)?;
    let mut command = Command::new(programs::find("lighttpd").context("no lighttpd")?);
    command.arg("-D").arg("-f").arg(path);
    Ok(command)
}

/// Bytes that do not compress, the same every time.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(&mut next).flatten().take(len).collect()
}

/// JSON records, as an API would answer them.
fn records(len: usize) -> String {
    let words = ["server", "worker", "request", "header", "stream", "frame", "window", "cache"];
    let mut noise = noise(len).into_iter();
    let mut word = || words[usize::from(noise.next().unwrap_or_default()) % words.len()];
    let mut rows = Vec::new();
    let mut size = 0;
    while size < len {
        let id = rows.len();
        let row = format!(
            r#"{{"id":{id},"name":"{} {} {}","score":0.{},"tags":["{}","{}"],"active":{}}}"#,
            word(),
            word(),
            word(),
            id * 7919 % 99991,
            word(),
            word(),
            id % 3 == 0
        );
        size += row.len() + 1;
        rows.push(row);
    }
    format!("[{}]", rows.join(","))
}
