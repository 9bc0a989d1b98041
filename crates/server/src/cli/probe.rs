//! `hearth probe`

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use hearth_http_client::{Client, ClientRequest};
use hearth_net::{Listener, Server};
use hearth_netsvc::reach::{ProbeHandler, ProbeOptions};

use super::{
    one_shot::{self, Answer},
    say,
};
use crate::{codes::Exit, outside};

#[derive(Debug, Args)]
pub(super) struct ProbeArgs {
    /// Look at this site from here, once: a name, or a URL
    #[arg(value_name = "SITE", required_unless_present = "listen", conflicts_with = "listen")]
    site: Option<String>,
    /// Look at those who ask, at the address they ask from: ADDRESS:PORT
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Look only for those who know the line in this file, and wherever they wish
    #[arg(long, value_name = "FILE", requires = "listen")]
    token_file: Option<PathBuf>,
    /// Trust only the certificates of these authorities, in PEM form
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &ProbeArgs) -> Exit {
    let client = match client(args) {
        Ok(client) => client,
        Err(why) => return Answer::refused(why).with_exit(Exit::Usage).tell(args.json),
    };
    let mut options = ProbeOptions::new(client.clone());
    if let Some(file) = &args.token_file {
        match token(file) {
            Ok(token) => options.token = Some(token),
            Err(why) => return Answer::refused(why).with_exit(Exit::Usage).tell(args.json),
        }
        options.needs_token = true;
    }
    match (&args.listen, &args.site) {
        (Some(address), _) => one_shot::run(listen(*address, options), args.json),
        (None, Some(site)) => one_shot::run(look(site, client), args.json),
        (None, None) => Exit::Usage,
    }
}

fn client(args: &ProbeArgs) -> Result<Client, String> {
    let roots = match &args.ca_file {
        Some(path) => {
            let roots = std::fs::read(path);
            Some(roots.map_err(|error| format!("{}: {error}", path.display()))?)
        }
        None => None,
    };
    outside::client(roots.as_deref()).map_err(|error| error.to_string())
}

/// The token in a file. Arguments are no place for one: every user of a machine sees them.
fn token(file: &Path) -> Result<String, String> {
    let shown = file.display();
    let text = std::fs::read_to_string(file).map_err(|error| format!("{shown}: {error}"))?;
    let token = text.trim();
    outside::check_token(token).map_err(|error| format!("{shown}: {error}"))?;
    Ok(token.to_owned())
}

/// Looks at those who ask until it is told to stop.
async fn listen(address: SocketAddr, options: ProbeOptions) -> Answer {
    let prober = Arc::new(ProbeHandler::new(options));
    let server = Server::builder().listen(Listener::bind(address), prober).workers(1).bind();
    let server = match server {
        Ok(server) => server,
        Err(error) => return Answer::refused(error.to_string()).with_exit(Exit::AddressInUse),
    };
    if let Some(address) = server.local_addrs().first() {
        say(&format!("looking at those who ask http://{address}\n"));
    }
    let stop = async { drop(tokio::signal::ctrl_c().await) };
    match server.run(stop).await {
        Ok(_) => Answer::done("stopped"),
        Err(error) => Answer::refused(error.to_string()).with_exit(Exit::Failed),
    }
}

/// Looks at a site from here.
async fn look(site: &str, client: Client) -> Answer {
    let urls = if site.contains("://") {
        vec![site.to_owned()]
    } else {
        vec![format!("http://{site}/"), format!("https://{site}/")]
    };
    let mut lines = Vec::new();
    let mut rows = Vec::new();
    let mut is_well = true;
    for url in urls {
        let result = fetch(&client, &url).await;
        is_well &= result.is_ok();
        let (mark, text) = match &result {
            Ok(text) => ("ok    ", text),
            Err(text) => ("FAILED", text),
        };
        lines.push(format!("{mark} {url}  {text}"));
        rows.push(serde_json::json!({ "url": url, "ok": result.is_ok(), "said": text }));
    }
    let answer = Answer::done(lines.join("\n")).with("urls", rows);
    if is_well { answer } else { answer.with_exit(Exit::Unwell) }
}

async fn fetch(client: &Client, url: &str) -> Result<String, String> {
    let causes = |error: &dyn std::error::Error| {
        let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
        format!("{error}{cause}")
    };
    let request = ClientRequest::get(url).map_err(|error| causes(&error))?;
    let response = client.send(request).await.map_err(|error| causes(&error))?;
    let status = response.status();
    if status.is_server_error() { Err(status.to_string()) } else { Ok(status.to_string()) }
}
