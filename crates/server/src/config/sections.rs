//! Every section but the limits.

use std::{collections::BTreeMap, path::PathBuf};

use hearth_config::{ByteSize, HumanDuration, Spanned};

use super::{
    connections::Connections,
    describe::{entry, section, words},
    limits::Limits,
    network::{Acme, Address, Ddns, Outside, PortMap},
    site_tls::SiteTls,
};

fn own<T>(value: T) -> Spanned<T> {
    Spanned::unknown(value)
}

section! {
    /// A whole configuration. Relative paths are relative to the file they stand in.
    pub struct Config {
        /// Threads that serve; 0 is one for each core.
        workers: Spanned<u16> = own(0),
        /// How threads wait for their connections.
        io: Spanned<Io> = own(Io::Epoll),
        /// How long requests may go on after the server was told to stop.
        shutdown_timeout: Spanned<HumanDuration> = own(HumanDuration::from_secs(30)),
        /// Where the server listens. Without any: 127.0.0.1:8080, or 0.0.0.0 and the port in `PORT`.
        listeners: Option<Spanned<Vec<Spanned<Listener>>>> = None,
        /// Moves the only listener to 0.0.0.0 and this port; the variable `PORT` sets it too.
        port: Option<Spanned<u16>> = None,
        /// What is served, by host name.
        sites: Vec<Spanned<Site>> = Vec::new(),
        /// Bounds on what a client may make the server hold, and for how long.
        limits: Limits = Limits::default(),
        /// Bounds on what clients may take together.
        connections: Connections = Connections::default(),
        /// What holds for every TLS listener.
        tls: Tls = Tls::default(),
        /// The service that keeps the sites' names at this machine's address.
        ddns: Option<Spanned<Ddns>> = None,
        /// How the router leads ports to this machine.
        port_map: PortMap = PortMap::default(),
        /// Who is asked for the public address.
        address: Address = Address::default(),
        /// Who looks from outside.
        outside: Outside = Outside::default(),
        /// A line for each request.
        access_log: AccessLog = AccessLog::default(),
        /// What the server says about itself.
        log: Log = Log::default(),
    }
}

entry! {
    /// An address that is listened on.
    pub struct Listener {
        required {
            /// IP address and port, such as `127.0.0.1:8080` or `[::]:443`; `:80` is port 80 of every
            /// IPv4 address.
            address: Spanned<String>,
        }
        optional {
            /// Whether clients speak TLS here; the certificates are those of the sites.
            tls: bool,
            /// What is spoken; all but `h2c-upgrade` by default.
            protocols: Option<Spanned<Vec<Spanned<Protocol>>>>,
        }
    }
}

words! {
    /// A way to wait for connections.
    pub enum Io {
        /// `io_uring` where the kernel has what is needed, which is Linux 6.1, and allows it, which containers often do
        /// not; `epoll` elsewhere.
        Auto = "auto",
        /// A system call for each read and write; on other systems than Linux what they have in its place.
        Epoll = "epoll",
        /// One system call for what many connections read and write; no start where it cannot be had.
        IoUring = "io_uring",
    }
}

words! {
    /// A protocol.
    pub enum Protocol {
        /// HTTP/1.1 and HTTP/1.0.
        H1 = "h1",
        /// HTTP/2: by ALPN over TLS, by prior knowledge in the clear.
        H2 = "h2",
        /// HTTP/2 in the clear by `Upgrade: h2c`, which HTTP/2 itself has given up.
        H2cUpgrade = "h2c-upgrade",
    }
}

section! {
    /// What is served for some hosts.
    pub struct Site {
        /// The host names: `example.com`, or `*.example.com` for every name beneath that, of which certificates
        /// cover those one label longer. A site without any answers for all hosts that no other site names.
        hosts: Vec<Spanned<String>> = Vec::new(),
        /// The folder whose files are served.
        root: Option<Spanned<PathBuf>> = None,
        /// The files that stand for their folder, best first.
        index: Vec<Spanned<String>> = vec![own("index.html".to_owned())],
        /// Whether a path without a file gets the first index file of the root, as applications with
        /// routes of their own in the browser need it.
        spa: bool = false,
        /// Whether a folder without an index file shows a list of its files.
        listing: bool = false,
        /// Whether files are served whose name, or whose folder's name, begins with a dot.
        dotfiles: bool = false,
        /// Which symbolic links are followed.
        symlinks: Symlinks = Symlinks::WithinRoot,
        /// Whether `app.js.br`, `app.js.zst` and `app.js.gz` are sent in the place of `app.js`.
        precompressed: bool = true,
        /// How long caches may keep which files; the first rule that matches counts.
        cache: Vec<Spanned<CacheRule>> = Vec::new(),
        /// Other folders, under paths of their own.
        mounts: Vec<Spanned<Mount>> = Vec::new(),
        /// Paths that lead elsewhere.
        redirects: Vec<Spanned<Redirect>> = Vec::new(),
        /// Whether requests in the clear are sent to the same address over TLS.
        redirect_to_https: Spanned<bool> = own(false),
        /// Fields that every response gets; an empty value removes the field.
        headers: BTreeMap<Spanned<String>, Spanned<String>> = BTreeMap::new(),
        /// Files of the root that are the content of errors, by status (`404`) or class (`5xx`).
        error_pages: BTreeMap<Spanned<String>, Spanned<String>> = BTreeMap::new(),
        /// Compression of what is not compressed on disk.
        compression: Compression = Compression::default(),
        /// The certificate of these hosts, and who may visit them.
        tls: Option<Spanned<SiteTls>> = None,
    }
}

words! {
    /// Which symbolic links are followed.
    pub enum Symlinks {
        /// None.
        Deny = "deny",
        /// Those that stay within the root.
        WithinRoot = "within-root",
        /// All: whoever can make a link can publish any file that the server may read.
        Follow = "follow",
    }
}

entry! {
    /// How long caches may keep some files.
    pub struct CacheRule {
        required {
            /// A glob over the path (`assets/**`), over the name (`*.css`), or a media type (`image/*`).
            files: Spanned<String>,
            /// The value of `cache-control`, such as `public, max-age=3600`.
            value: Spanned<String>,
        }
        optional {}
    }
}

entry! {
    /// A folder under a path of its own.
    pub struct Mount {
        required {
            /// The path, such as `/downloads`; what follows it is looked for in `root`.
            path: Spanned<String>,
            /// The folder.
            root: Spanned<PathBuf>,
        }
        optional {
            /// Whether a folder without an index file shows a list of its files.
            listing: bool,
            /// Whether a path without a file gets the index file of this folder.
            spa: bool,
        }
    }
}

entry! {
    /// A path that leads elsewhere.
    pub struct Redirect {
        required {
            /// A path or a pattern, such as `/old`, `/user/{name}` or `/docs/{*rest}`.
            from: Spanned<String>,
            /// A path or a whole address, in which `{name}` stands for what the pattern took.
            to: Spanned<String>,
        }
        optional {
            /// 301, 302, 303, 307 or 308; default 308, which keeps the method.
            status: Option<Spanned<u16>>,
        }
    }
}

section! {
    /// Compression of what is not compressed on disk.
    pub struct Compression {
        /// Whether responses are compressed.
        enabled: bool = true,
        /// The encodings, the preferred first.
        encodings: Spanned<Vec<Spanned<Encoding>>> =
            own(ENCODINGS.map(own).to_vec()),
        /// Shorter responses are sent as they are.
        min_size: Spanned<ByteSize> = own(ByteSize(512)),
    }
}

words! {
    /// A content coding.
    pub enum Encoding {
        /// RFC 7932: smallest, for what is compressed once.
        Brotli = "br",
        /// RFC 1951 in a zlib frame: for old clients.
        Deflate = "deflate",
        /// RFC 1952: known everywhere.
        Gzip = "gzip",
        /// RFC 8878: fastest.
        Zstd = "zstd",
    }
}

section! {
    /// What holds for every TLS listener.
    pub struct Tls {
        /// The oldest version that is spoken.
        min_version: TlsVersion = TlsVersion::Tls12,
        /// Whether visitors resume their sessions after a restart: the keys of their tickets, of twelve hours at
        /// most, are kept in the state folder for the next process.
        keep_tickets: bool = true,
        /// Certificates from an authority.
        acme: Option<Spanned<Acme>> = None,
    }
}

words! {
    /// A version of TLS.
    pub enum TlsVersion {
        /// RFC 5246.
        Tls12 = "1.2",
        /// RFC 8446.
        Tls13 = "1.3",
    }
}

section! {
    /// A line for each request. Times are in UTC; secrets (`authorization`, cookies) are never written.
    pub struct AccessLog {
        /// A file, `stdout` or `stderr`; not set: no access log.
        path: Option<Spanned<PathBuf>> = None,
        /// How a line looks.
        format: AccessFormat = AccessFormat::Combined,
        /// Size above which a file is put aside; not set: never, and SIGUSR1 opens it anew.
        max_size: Option<Spanned<ByteSize>> = None,
        /// Files that are kept beside the current one.
        max_files: Spanned<u16> = own(5),
    }
}

words! {
    /// How a line of the access log looks.
    pub enum AccessFormat {
        /// Address, time, request line, status, size, referer, user agent.
        Combined = "combined",
        /// Address, time, request line, status, size.
        Common = "common",
        /// One JSON object.
        Json = "json",
    }
}

section! {
    /// What the server says about itself.
    pub struct Log {
        /// `error`, `warn`, `info`, `debug`, `trace` or `off`, also by component: `info,net=debug`. The
        /// variable `HEARTH_LOG` sets it too.
        level: Spanned<String> = own("info".to_owned()),
        /// How a line looks.
        format: LogFormat = LogFormat::Auto,
        /// A file, `stdout` or `stderr`.
        path: Spanned<PathBuf> = own(PathBuf::from("stderr")),
        /// Size above which a file is put aside; not set: never, and SIGUSR1 opens it anew.
        max_size: Option<Spanned<ByteSize>> = None,
        /// Files that are kept beside the current one.
        max_files: Spanned<u16> = own(5),
    }
}

words! {
    /// How a line of the log looks.
    pub enum LogFormat {
        /// `human` on a terminal, `json` elsewhere.
        Auto = "auto",
        /// For eyes.
        Human = "human",
        /// One JSON object.
        Json = "json",
    }
}

const ENCODINGS: [Encoding; 4] =
    [Encoding::Zstd, Encoding::Brotli, Encoding::Gzip, Encoding::Deflate];
