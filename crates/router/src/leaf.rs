//! What the tree holds for one path pattern: an endpoint for each method.

use std::sync::Arc;

use hearth_http_core::{Chain, Method, Prepared};

/// The endpoints of one path pattern.
#[derive(Debug)]
pub(crate) struct Leaf {
    /// Places in `endpoints` of the nine methods of RFC 9110 and RFC 5789.
    slots: [u16; SLOTS],
    any: u16,
    others: Box<[(Method, u16)]>,
    endpoints: Box<[Endpoint]>,
    pub(crate) options: Answer,
    pub(crate) not_allowed: Answer,
}

/// A handler with the middleware around it, and what it is told of the path.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) chain: Chain,
    /// Of host and path parameters; `None` where there are none.
    pub(crate) names: Option<Arc<[Box<str>]>>,
    /// Number of the route; `None` for a fallback.
    pub(crate) route: Option<usize>,
    pub(crate) how: How,
}

/// Why an endpoint stands where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// The route has this pattern.
    Direct,
    /// The route's catch-all is empty here.
    EmptyTail,
    /// The route's pattern and this one differ by a slash, which does not matter.
    SlashMatch,
    /// As `SlashMatch`, but the answer is a redirect.
    SlashRedirect,
}

/// An answer that the router gives itself.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) prepared: Arc<Prepared>,
    /// Present where middleware stands around it.
    pub(crate) chain: Option<Chain>,
    /// The `Allow` field; empty where the answer has none.
    pub(crate) allow: Arc<str>,
    /// Types of the middleware, outermost first.
    pub(crate) middleware: Box<[&'static str]>,
}

impl Leaf {
    /// `endpoints` with the method of each, `None` for the one that answers all others.
    pub(crate) fn new(
        endpoints: Vec<(Option<Method>, Endpoint)>,
        options: Answer,
        not_allowed: Answer,
    ) -> Self {
        let mut leaf = Self {
            slots: [NONE; SLOTS],
            any: NONE,
            others: Box::default(),
            endpoints: Box::default(),
            options,
            not_allowed,
        };
        let mut others = Vec::new();
        let mut list = Vec::with_capacity(endpoints.len());
        for (place, (method, endpoint)) in endpoints.into_iter().enumerate() {
            let place = u16::try_from(place).unwrap_or(NONE);
            match method.as_ref().map(slot) {
                None => leaf.any = place,
                Some(Some(slot)) => {
                    if let Some(free) = leaf.slots.get_mut(slot) {
                        *free = place;
                    }
                }
                Some(None) => others.extend(method.map(|method| (method, place))),
            }
            list.push(endpoint);
        }
        // RFC 9110 §9.3.2: HEAD is GET without content, which the connection leaves out.
        if let [get, head, ..] = &mut leaf.slots
            && *head == NONE
        {
            *head = *get;
        }
        leaf.others = others.into();
        leaf.endpoints = list.into();
        leaf
    }

    /// What answers `method`.
    #[inline]
    pub(crate) fn endpoint(&self, method: &Method) -> Option<&Endpoint> {
        let mut place = match slot(method) {
            Some(slot) => *self.slots.get(slot)?,
            None => self.others.iter().find(|(known, _)| known == method).map_or(NONE, |(_, p)| *p),
        };
        if place == NONE {
            place = self.any;
        }
        self.endpoints.get(usize::from(place))
    }
}

/// The place of a method in [`Leaf::slots`]; GET and HEAD stand first.
#[inline]
fn slot(method: &Method) -> Option<usize> {
    Some(match *method {
        Method::GET => 0,
        Method::HEAD => 1,
        Method::POST => 2,
        Method::PUT => 3,
        Method::PATCH => 4,
        Method::DELETE => 5,
        Method::OPTIONS => 6,
        Method::CONNECT => 7,
        Method::TRACE => 8,
        _ => return None,
    })
}

const SLOTS: usize = 9;

/// No endpoint: beyond the end of every list.
const NONE: u16 = u16::MAX;
