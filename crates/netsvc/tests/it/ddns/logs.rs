//! What gets into logs.

use std::{
    io,
    sync::{Arc, Mutex},
};

use hearth_netsvc::ddns::{Account, Observed, Plan, PlannedHost, Updater, UpdaterOptions};

use super::{
    standin::{Answer, StandIn},
    updater::Shown,
};

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Services that repeat our secrets to us, as some login pages do.
#[tokio::test]
async fn hold_no_secret_and_say_what_to_do() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    for name in ["dyndns2", "duckdns", "namecheap", "cloudflare", "hetzner", "desec", "route53"] {
        let answer = Answer::Plain(401, super::providers::secrets_of(name));
        let server = StandIn::saying(answer).await;
        let host = if name == "duckdns" { "a.duckdns.org" } else { "a.example.com" };
        let hosts = vec![PlannedHost::new(host.parse().unwrap(), "x")];
        let plan = Plan::new(vec![Account::new("x", server.provider(name))], hosts).unwrap();
        let options = UpdaterOptions::new(Arc::new(Shown::default()));
        let mut updater = Updater::new(plan, options).unwrap();
        let observed = Observed { v4: Some([192, 0, 2, 1].into()), v6: None };
        let status = updater.update(observed).await;
        assert!(!format!("{status:?}").contains("hush"), "{status:?}");
        assert!(!server.asked().is_empty());
    }
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    assert!(!text.contains("hush"), "{text}");
    assert_eq!(text.matches("H-DNS-002").count(), 7, "{text}");
    assert!(text.contains("correct the credentials"), "{text}");
}
