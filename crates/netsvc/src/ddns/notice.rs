//! Things to say about records that no service said.

/// Something an operator should know. Each has a stable code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Notice {
    /// The service knew the address already (`nochg`).
    AlreadyKnown,
    /// The records show something else although the service took the update.
    NotShown,
    /// The file with the state was damaged.
    StateDamaged,
    /// The file with the state cannot be written.
    StateUnwritable,
    /// The address is none that the internet can reach.
    NotPublic,
    /// The address changes to and fro.
    Flapping,
    /// The name servers do not show the answer to a challenge.
    NotPropagated,
    /// An alias of a challenge cannot be followed.
    BrokenDelegation,
    /// Name servers do not answer.
    NoAnswer,
    /// A CAA record forbids the authority.
    CaaForbids,
    /// Another process uses the file with the state.
    StateInUse,
}

impl Notice {
    /// Every notice.
    pub const ALL: &[Self] = &[
        Self::AlreadyKnown,
        Self::NotShown,
        Self::StateDamaged,
        Self::StateUnwritable,
        Self::NotPublic,
        Self::Flapping,
        Self::NotPropagated,
        Self::BrokenDelegation,
        Self::NoAnswer,
        Self::CaaForbids,
        Self::StateInUse,
    ];

    /// The stable code.
    #[must_use]
    pub const fn code(self) -> &'static str {
        self.row().0
    }

    /// What is the matter, in a few words.
    #[must_use]
    pub const fn title(self) -> &'static str {
        self.row().1
    }

    /// What to do.
    #[must_use]
    pub const fn fix(self) -> &'static str {
        self.row().2
    }

    const fn row(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::AlreadyKnown => (
                "H-DNS-013",
                "the service knew the address already",
                "harmless once; often means that something else updates the name too, which leads \
                 to a lock: turn one of them off",
            ),
            Self::NotShown => (
                "H-DNS-014",
                "the name shows another address than the one that was published",
                "if a proxy of the service stands before it, all is well; else look for whoever else \
                 changes the record, then publish again: hearth ddns update --force",
            ),
            Self::StateDamaged => (
                "H-DNS-015",
                "the file with the state of dynamic DNS was damaged and set aside",
                "nothing: the records themselves say what must be done; check the disk",
            ),
            Self::StateUnwritable => (
                "H-DNS-016",
                "the state of dynamic DNS cannot be written",
                "make room, or give the user of the server the right to write there; until then a \
                 restart may send an update again",
            ),
            Self::StateInUse => (
                "H-DNS-017",
                "another process keeps these names up to date",
                "let one process do it, or give each its own state file",
            ),
            Self::NotPublic => (
                "H-DNS-018",
                "the address cannot be reached from the internet and is not published",
                "behind carrier-grade NAT ask the provider for a public address, or publish IPv6 \
                 only",
            ),
            Self::Flapping => (
                "H-DNS-019",
                "the address changes to and fro; it is published when it has settled",
                "check whether the machine has several ways out, such as a VPN or a second line",
            ),
            Self::NotPropagated => (
                "H-DNS-020",
                "not every authoritative name server shows the record",
                "wait, or look at the name servers of the zone: a secondary may have stopped \
                 following",
            ),
            Self::BrokenDelegation => (
                "H-DNS-021",
                "the alias of the challenge cannot be followed",
                "correct the CNAME record at _acme-challenge, or remove it",
            ),
            Self::NoAnswer => (
                "H-DNS-022",
                "the name servers do not answer",
                "check the resolver of this machine and that the zone is registered",
            ),
            Self::CaaForbids => (
                "H-DNS-023",
                "a CAA record forbids the certificate authority",
                "add the authority to the CAA records of the zone, or choose another one",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;
    use crate::ddns::ProviderErrorKind;

    /// Each code is used once and has its explanation, where messages say it is.
    #[test]
    fn every_code_is_explained() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/errors.md");
        let text = fs::read_to_string(path).unwrap();
        // Titles may be broken over two lines there.
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let kinds = ProviderErrorKind::ALL.iter().map(|kind| (kind.code(), kind.title()));
        let notices = Notice::ALL.iter().map(|notice| (notice.code(), notice.title()));
        let mut seen = BTreeSet::new();
        for (code, title) in kinds.chain(notices) {
            assert!(seen.insert(code), "{code} is used twice");
            let (first, rest) = title.split_at(1);
            let wanted = format!("### {code} **{}{rest}.**", first.to_uppercase());
            assert!(text.contains(&wanted), "docs/errors.md lacks: {wanted}");
        }
    }
}
