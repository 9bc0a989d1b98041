//! Bounds, logs and services.

use super::{Row, row};

pub(super) const ROWS: &[Row] = &[
    row(
        "limit out of range",
        "limits.max_header_size = '1 MiB'\n[[sites]]\nroot = 'site'\n",
        "H-SRV-012",
        "1:26",
        "`limits.max_header_size` is too large: 1 MiB",
        "set it to",
    ),
    row(
        "time out of range",
        "limits.keepalive_timeout = '30d'\n[[sites]]\nroot = 'site'\n",
        "H-SRV-012",
        "1:28",
        "`limits.keepalive_timeout` is too large",
        "set it to",
    ),
    row(
        "too many workers",
        "workers = 5000\n[[sites]]\nroot = 'site'\n",
        "H-SRV-012",
        "1:11",
        "`workers` is too large",
        "each core",
    ),
    row(
        "bad network",
        "connections.exempt = ['10.0.0.0/40']\n[[sites]]\nroot = 'site'\n",
        "H-SRV-005",
        "1:23",
        "`10.0.0.0/40` is not a network",
        "10.0.0.0/8",
    ),
    row(
        "folder of the log that is missing",
        "access_log.path = 'none/access.log'\n[[sites]]\nroot = 'site'\n",
        "H-SRV-014",
        "1:19",
        "none, cannot be used",
        "create it",
    ),
    row(
        "log that is a folder",
        "access_log.path = 'site'\n[[sites]]\nroot = 'site'\n",
        "H-SRV-014",
        "1:19",
        "is a folder",
        "name a file in it",
    ),
    row(
        "log file that is too small",
        "access_log = { path = 'a.log', max_size = '10' }\n[[sites]]\nroot = 'site'\n",
        "H-SRV-012",
        "1:43",
        "too small",
        "4 KiB",
    ),
    row(
        "unknown level",
        "log.level = 'info,net=loud'\n[[sites]]\nroot = 'site'\n",
        "H-SRV-014",
        "1:13",
        "`net=loud` is neither a level nor component=level",
        "debug",
    ),
    row(
        "half an account binding",
        "tls.acme.eab_key_id = 'kid'\n[[sites]]\nroot = 'site'\n",
        "H-SRV-019",
        "1:23",
        "`eab_key_id` without `eab_hmac_key`",
        "give both, or none",
    ),
];
