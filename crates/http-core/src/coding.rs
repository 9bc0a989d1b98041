//! Content codings and their negotiation (RFC 9110 §8.4.1 and §12.5.3).

/// A content coding that we can offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Coding {
    /// `br`, RFC 7932.
    Brotli,
    /// `deflate`: the zlib format of RFC 1950.
    Deflate,
    /// `gzip`, RFC 1952.
    Gzip,
    /// No coding.
    Identity,
    /// `zstd`, RFC 8878.
    Zstd,
}

impl Coding {
    const ALL: [Self; 5] = [Self::Brotli, Self::Deflate, Self::Gzip, Self::Identity, Self::Zstd];

    /// Its name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Deflate => "deflate",
            Self::Gzip => "gzip",
            Self::Identity => "identity",
            Self::Zstd => "zstd",
        }
    }

    /// The coding of this name, in any case.
    #[must_use]
    pub fn from_name(name: &[u8]) -> Option<Self> {
        // RFC 9110 §8.4.1.3: x-gzip is equivalent to gzip.
        if name.eq_ignore_ascii_case(b"x-gzip") {
            return Some(Self::Gzip);
        }
        Self::ALL.into_iter().find(|coding| name.eq_ignore_ascii_case(coding.name().as_bytes()))
    }
}

/// Encodes whole contents, for whoever keeps the result: a cache of files, for instance.
pub trait ContentEncoder: Send + Sync + 'static {
    /// The codings that content of this media type should be offered in, the preferred first; none where
    /// encoding gains nothing.
    fn codings(&self, content_type: &[u8]) -> &[Coding];

    /// The encoded content; `None` where it would not be smaller. Takes milliseconds for each MiB.
    fn encode(&self, coding: Coding, content: &[u8]) -> Option<Vec<u8>>;
}

/// What `Accept-Encoding` says of each [`Coding`]: a weight from 0 (refused) to 1000.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AcceptEncoding {
    weights: [u16; Coding::ALL.len()],
}

impl AcceptEncoding {
    /// Reads every value of the field. Members that are malformed are left out.
    ///
    /// Without the field only identity is wanted: RFC 9110 would allow any coding, but clients that do not
    /// send it cannot decode.
    pub fn parse<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut listed = [None; Coding::ALL.len()];
        let mut any = None;
        for member in values.into_iter().flat_map(|value| value.split(|&byte| byte == b',')) {
            let mut parts = member.split(|&byte| byte == b';');
            let name = parts.next().unwrap_or_default().trim_ascii();
            let Some(weight) = weight(parts) else { continue };
            if name == b"*" {
                any = any.or(Some(weight));
            } else if let Some(coding) = Coding::from_name(name)
                && let Some(slot) = listed.get_mut(coding as usize)
            {
                *slot = slot.or(Some(weight));
            }
        }
        let mut weights = [0; Coding::ALL.len()];
        for (coding, (weight, listed)) in
            Coding::ALL.into_iter().zip(weights.iter_mut().zip(listed))
        {
            // Identity stays acceptable unless it is excluded, but behind everything that was asked for.
            let unlisted = if coding == Coding::Identity { 1 } else { 0 };
            *weight = listed.or(any).unwrap_or(unlisted);
        }
        Self { weights }
    }

    /// The weight of `coding`, from 0 (refused) to 1000.
    #[must_use]
    pub fn weight(&self, coding: Coding) -> u16 {
        self.weights.get(coding as usize).copied().unwrap_or_default()
    }

    /// The acceptable coding of the highest weight; of equal ones, the one `offered` first.
    pub fn choose(&self, offered: impl IntoIterator<Item = Coding>) -> Option<Coding> {
        let mut best = None;
        let mut best_weight = 0;
        for coding in offered {
            if self.weight(coding) > best_weight {
                best_weight = self.weight(coding);
                best = Some(coding);
            }
        }
        best
    }
}

/// `;q=0.5`: at most one digit before the point and three behind (RFC 9110 §12.4.2). 1000 without it.
fn weight<'a>(params: impl Iterator<Item = &'a [u8]>) -> Option<u16> {
    for param in params {
        let Some((b"q" | b"Q", value)) = split_param(param) else { continue };
        let (whole, fraction) = match value {
            [whole] => (whole, &b""[..]),
            [whole, b'.', fraction @ ..] if fraction.len() <= 3 => (whole, fraction),
            _ => return None,
        };
        let mut weight = 0;
        for place in 0..3 {
            let digit = fraction.get(place).copied().unwrap_or(b'0');
            weight = weight * 10 + digit.is_ascii_digit().then(|| u16::from(digit - b'0'))?;
        }
        return match whole {
            b'0' => Some(weight),
            b'1' if weight == 0 => Some(1000),
            _ => None,
        };
    }
    Some(1000)
}

fn split_param(param: &[u8]) -> Option<(&[u8], &[u8])> {
    let equals = memchr::memchr(b'=', param)?;
    let (name, value) = param.split_at(equals);
    Some((name.trim_ascii(), value.get(1..)?.trim_ascii()))
}

#[cfg(test)]
mod tests {
    use super::{AcceptEncoding, Coding};

    const OFFERED: [Coding; 4] = [Coding::Brotli, Coding::Zstd, Coding::Gzip, Coding::Identity];

    #[track_caller]
    fn check(field: &[&str], want: Option<Coding>) {
        let accept = AcceptEncoding::parse(field.iter().map(|value| value.as_bytes()));
        assert_eq!(accept.choose(OFFERED), want, "accept-encoding: {field:?}");
    }

    #[test]
    fn negotiation() {
        check(&[], Some(Coding::Identity));
        check(&[""], Some(Coding::Identity));
        check(&["gzip"], Some(Coding::Gzip));
        check(&["x-gzip"], Some(Coding::Gzip));
        check(&["GZIP, BR"], Some(Coding::Brotli));
        check(&["gzip, deflate, br, zstd"], Some(Coding::Brotli));
        check(&["gzip;q=1.0, br;q=0.9"], Some(Coding::Gzip));
        check(&["gzip ; q=0.5 ,\tzstd ; q=0.6"], Some(Coding::Zstd));
        check(&["gzip;Q=0.001"], Some(Coding::Gzip));
        check(&["gzip", "br"], Some(Coding::Brotli)); // several lines are one list
        check(&["identity, gzip"], Some(Coding::Gzip)); // a tie goes to the one offered first
        check(&["identity;q=1, gzip;q=0.5"], Some(Coding::Identity));
        check(&["compress, frob"], Some(Coding::Identity));
        check(&["*"], Some(Coding::Brotli));
        check(&["*;q=0.5, gzip"], Some(Coding::Gzip));
        check(&["br;q=0, *"], Some(Coding::Zstd));
    }

    #[test]
    fn refusals() {
        check(&["gzip;q=0"], Some(Coding::Identity));
        check(&["identity;q=0"], None);
        check(&["*;q=0"], None);
        check(&["*;q=0, gzip"], Some(Coding::Gzip));
        check(&["identity;q=0, gzip"], Some(Coding::Gzip));
        check(&["*;q=0, identity;q=0.1"], Some(Coding::Identity));
        check(&["gzip;q=0.000, br;q=0"], Some(Coding::Identity));
    }

    #[test]
    fn malformed_members_are_left_out() {
        for weight in ["1.001", "2", "-1", "+1", ".5", "0.1234", "0,5", "a", "", "1.x"] {
            check(&[&format!("br;q={weight}")], Some(Coding::Identity));
        }
        check(&["br;q=x, gzip"], Some(Coding::Gzip));
        check(&[",,;q=1,gzip;,"], Some(Coding::Gzip));
    }
}
