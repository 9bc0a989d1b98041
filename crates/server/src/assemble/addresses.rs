//! Whether the addresses of a plan can be had, and why not.

use std::{io, net::SocketAddr};

use hearth_config::{Diagnostic, Report, Span};
use hearth_netsvc::port_owner;

use crate::{
    codes::{self, Exit},
    plan::{Listener, Plan},
    system::try_bind,
};

/// Tries every address without listening on it, and reports those that cannot be had.
pub fn check_addresses(plan: &Plan, report: &mut Report) -> Exit {
    let mut exit = Exit::Ok;
    for listener in &plan.listeners {
        if let Err(error) = try_bind(listener.address) {
            let (diagnostic, reason) = explain(listener.address, listener.span, &error);
            report.push(diagnostic);
            if exit == Exit::Ok {
                exit = reason;
            }
        }
    }
    exit
}

/// Moves listeners whose port is in use to the next one that is free.
pub fn fall_back(listeners: &mut [Listener]) {
    const ATTEMPTS: u16 = 100;
    for listener in listeners {
        let wanted = listener.address.port();
        let is_taken = |port| {
            let address = SocketAddr::new(listener.address.ip(), port);
            try_bind(address).is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
        };
        let free = (wanted..=wanted.saturating_add(ATTEMPTS)).find(|port| !is_taken(*port));
        if let Some(port) = free {
            listener.address.set_port(port);
        }
    }
}

/// Why an address cannot be had, and what to do.
pub(super) fn explain(address: SocketAddr, span: Span, error: &io::Error) -> (Diagnostic, Exit) {
    let diagnostic = |code, message: String, help: &str| {
        Diagnostic::error(code, message).at(span, "").with_help(help)
    };
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            let message = format!("{address} is in use");
            let help = "stop it, or listen on another port: --listen PORT, or --port-fallback for \
                        the next one that is free";
            let diagnostic = diagnostic(codes::ADDRESS_IN_USE, message, help);
            let diagnostic = match port_owner::find(address) {
                Some(owner) => diagnostic.with_note(format!("{owner} listens there")),
                None => diagnostic.with_note("it cannot be told who listens there"),
            };
            (diagnostic, Exit::AddressInUse)
        }
        io::ErrorKind::PermissionDenied => {
            let message = format!("no permission to listen on {address}");
            let help = "ports below 1024 are for root: use a higher port, or allow it once: sudo \
                        setcap cap_net_bind_service=+ep PATH-OF-HEARTH";
            (diagnostic(codes::ADDRESS_REFUSED, message, help), Exit::AddressRefused)
        }
        io::ErrorKind::AddrNotAvailable => {
            let message = format!("{} is not an address of this machine", address.ip());
            let help = "use one of its own, or 0.0.0.0 or [::] for all of them";
            (diagnostic(codes::ADDRESS_REFUSED, message, help), Exit::AddressRefused)
        }
        _ => {
            let message = format!("cannot listen on {address}: {error}");
            let help = "check the address, and what the system says of it";
            (diagnostic(codes::ADDRESS_REFUSED, message, help), Exit::AddressRefused)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_taken_port_is_found_out_and_avoided() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let error = try_bind(address).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        let (_, exit) = explain(address, Span::UNKNOWN, &error);
        assert_eq!(exit, Exit::AddressInUse);
    }
}
