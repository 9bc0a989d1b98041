//! Where the server listens.

use super::{Row, row};

pub(super) const ROWS: &[Row] = &[
    row(
        "address without a port",
        "listeners = [{ address = '127.0.0.1' }]\n[[sites]]\nroot = 'site'\n",
        "H-SRV-005",
        "1:26",
        "`127.0.0.1` is not an address to listen on",
        "the port is missing",
    ),
    row(
        "address with a name",
        "listeners = [{ address = 'example.com:80' }]\n[[sites]]\nroot = 'site'\n",
        "H-SRV-005",
        "1:26",
        "`example.com:80` is not an address",
        "write an IP address",
    ),
    row(
        "listener twice",
        "listeners = [{ address = '127.0.0.1:8081' }, { address = '127.0.0.1:8081' }]\n[[sites]]\nroot = 'site'\n",
        "H-SRV-006",
        "1:58",
        "two listeners on 127.0.0.1:8081",
        "remove one",
    ),
    row(
        "listener in the way of another",
        "listeners = [{ address = ':8081' }, { address = '127.0.0.1:8081' }]\n[[sites]]\nroot = 'site'\n",
        "H-SRV-006",
        "1:49",
        "0.0.0.0:8081 is in the way of 127.0.0.1:8081",
        "change its port",
    ),
    row(
        "no listener",
        "listeners = []\n[[sites]]\nroot = 'site'\n",
        "H-SRV-004",
        "1:13",
        "no listener",
        "leave `listeners` out",
    ),
    Row {
        exit: 4,
        ..row(
            "address in use",
            "listeners = [{ address = '{taken}' }]\n[[sites]]\nroot = 'site'\n",
            "H-SRV-007",
            "1:26",
            "is in use",
            "stop it, or listen on another port",
        )
    },
    Row {
        exit: 5,
        ..row(
            "address of another machine",
            "listeners = [{ address = '192.0.2.1:80' }]\n[[sites]]\nroot = 'site'\n",
            "H-SRV-008",
            "1:26",
            "192.0.2.1",
            "0.0.0.0",
        )
    },
    row(
        "no protocol",
        "listeners = [{ address = '127.0.0.1:0', protocols = [] }]\n[[sites]]\nroot = 'site'\n",
        "H-SRV-017",
        "1:53",
        "without protocols",
        "`h1`",
    ),
    row(
        "upgrade over TLS",
        "listeners = [{ address = '127.0.0.1:0', tls = true, protocols = ['h2c-upgrade'] }]\n[[sites]]\nroot = 'site'\ntls = { certificate = 'a.test.pem', key = 'a.test.key' }\n",
        "H-SRV-017",
        "1:65",
        "in the clear",
        "ALPN",
    ),
    Row {
        variable: ("PORT", "8080"),
        ..row(
            "PORT for which of them",
            "listeners = [{ address = '127.0.0.1:1' }, { address = '127.0.0.1:2' }]\n[[sites]]\nroot = 'site'\n",
            "H-SRV-005",
            "environment variable PORT",
            "there are 2 listeners",
            "HEARTH_LISTENERS__0__ADDRESS",
        )
    },
];
