//! The second half of compilation: slash aliases, automatic answers, sites.

use std::{collections::HashMap, sync::Arc};

use hearth_http_core::{
    BoxHandler, Bytes, Chain, HeaderValue, Headers, Method, Prepared, Response, StatusCode,
    handler_fn, header,
};

use super::{Compiler, Flat, LeafPlan, SitePlan};
use crate::{
    BuildError, PathPolicy, PathTree, Problem, RouteInfo, Router, SlashPolicy,
    host::Hosts,
    leaf::{Answer, Endpoint, How, Leaf},
    redirect,
    route::{Kind, Methods, Named},
    router::{Fallback, Inner, Site},
};

impl Compiler {
    pub(super) fn finish(mut self, path_policy: PathPolicy) -> Result<Router, BuildError> {
        let names = self.route_names();
        if !self.problems.is_empty() {
            return Err(BuildError::new(self.problems));
        }
        self.add_aliases();
        let plans = std::mem::take(&mut self.sites);
        let inherited = plans.first().and_then(|default| default.fallback.as_ref());
        let inherited = inherited.filter(|fallback| fallback.is_shared);
        let inherited = inherited.map(|fallback| fallback.handler.clone());
        let mut hosts = Hosts::default();
        let mut answers = Answers::default();
        let mut sites = Vec::with_capacity(plans.len());
        for (number, plan) in plans.into_iter().enumerate() {
            if let Some(host) = &plan.host {
                hosts.insert(host, u32::try_from(number).expect("fewer than 2^32 sites"));
            }
            sites.push(self.site(plan, inherited.as_ref(), &mut answers));
        }
        let inner = Inner {
            routes: self.routes.iter().map(Flat::info).collect(),
            patterns: self.routes.into_iter().map(|flat| flat.pattern).collect(),
            sites,
            hosts,
            path_policy,
            names,
        };
        Ok(Router { inner: Arc::new(inner) })
    }

    fn route_names(&mut self) -> HashMap<Box<str>, usize> {
        let mut names: HashMap<Box<str>, usize> = HashMap::new();
        for (number, flat) in self.routes.iter().enumerate() {
            let Some(name) = &flat.route.name else { continue };
            let first = *names.entry(name.clone()).or_insert(number);
            if let Some(first) = self.routes.get(first).filter(|_| first != number) {
                self.problems.push(Problem::DuplicateName {
                    name: name.clone(),
                    first: first.pattern.as_str().into(),
                    first_at: first.route.at,
                    second: flat.pattern.as_str().into(),
                    second_at: flat.route.at,
                });
            }
        }
        names
    }

    /// Adds what routes answer besides their own pattern, where no route was added for it.
    fn add_aliases(&mut self) {
        for (number, flat) in self.routes.iter().enumerate() {
            let Some(site) = self.sites.get_mut(flat.site) else { continue };
            let Some((pattern, how)) = flat.alias() else { continue };
            let leaf = site.leaf(&pattern);
            for method in flat.route.methods.each() {
                if leaf.taken_by(method.as_ref()).or_else(|| leaf.taken_by(None)).is_none() {
                    leaf.endpoints.push((method, number, how));
                }
            }
        }
    }

    fn site(&self, plan: SitePlan, inherited: Option<&BoxHandler>, answers: &mut Answers) -> Site {
        let mut tree = PathTree::builder();
        let mut everything = Vec::new();
        for leaf in plan.leaves {
            let allowed = allow(leaf.endpoints.iter().map(|(method, ..)| method.as_ref()));
            let middleware = self.shared_middleware(&leaf);
            let options = answers.make(StatusCode::NO_CONTENT, Some(&allowed), middleware);
            let refused = answers.make(StatusCode::METHOD_NOT_ALLOWED, Some(&allowed), middleware);
            everything.extend(allowed);
            let endpoint = |(method, route, how)| Some((method, self.endpoint(route, how)?));
            let endpoints = leaf.endpoints.into_iter().filter_map(endpoint).collect();
            let value = Leaf::new(endpoints, options, refused);
            tree.insert_pattern(leaf.pattern, value).expect("leaves of one site differ in shape");
        }
        let everything = allow(everything.iter().map(Some));
        let around = plan.middleware.as_slice();
        let own = plan.fallback.as_ref().map(|own| chain(&own.middleware, own.handler.clone()));
        let custom = own.or_else(|| Some(chain(around, inherited?.clone())));
        let fallback = match custom {
            Some(chain) => {
                Fallback::Custom(Endpoint { chain, names: None, route: None, how: How::Direct })
            }
            None => Fallback::NotFound(answers.make(StatusCode::NOT_FOUND, None, around)),
        };
        Site {
            host: plan.host.map(|host| host.as_str().into()),
            tree: tree.build(),
            middleware: names(around),
            fallback,
            bad_path: answers.make(StatusCode::BAD_REQUEST, None, around),
            asterisk: answers.make(StatusCode::NO_CONTENT, Some(&everything), around),
        }
    }

    fn endpoint(&self, route: usize, how: How) -> Option<Endpoint> {
        let flat = self.routes.get(route)?;
        let handler = match how {
            How::SlashRedirect => {
                BoxHandler::new(handler_fn(async |req| redirect::to_slash_twin(&req)))
            }
            How::Direct | How::EmptyTail | How::SlashMatch => flat.route.handler.clone(),
        };
        let chain = chain(&flat.middleware, handler);
        Some(Endpoint { chain, names: flat.names.clone(), route: Some(route), how })
    }

    /// The middleware that all routes of a leaf have in common stands around the answers which the router gives
    /// in their place: a CORS middleware must see the OPTIONS requests of its routes.
    fn shared_middleware(&self, leaf: &LeafPlan) -> &[Arc<Named>] {
        let lists = leaf.endpoints.iter().filter_map(|(_, route, _)| self.routes.get(*route));
        let mut lists = lists.map(|flat| flat.middleware.as_slice());
        let Some(first) = lists.next() else { return &[] };
        lists.fold(first, |shared, list| {
            let alike = shared.iter().zip(list).take_while(|(a, b)| Arc::ptr_eq(a, b)).count();
            shared.get(..alike).unwrap_or_default()
        })
    }
}

impl Flat {
    /// What the route answers besides its own pattern.
    fn alias(&self) -> Option<(crate::Pattern, How)> {
        let slash = match self.slash {
            SlashPolicy::Strict => None,
            SlashPolicy::Match => Some(How::SlashMatch),
            SlashPolicy::Redirect308 => Some(How::SlashRedirect),
        };
        match self.pattern.mount_point() {
            Some(point) if self.route.kind == Kind::Mount => Some((point, How::EmptyTail)),
            Some(point) if slash == Some(How::SlashMatch) => Some((point, How::EmptyTail)),
            Some(point) => Some((point, slash?)),
            None => Some((self.pattern.slash_twin()?, slash?)),
        }
    }

    fn info(&self) -> RouteInfo {
        RouteInfo {
            host: self.host.clone(),
            methods: self.route.methods.each().into_iter().flatten().collect(),
            pattern: self.pattern.as_str().into(),
            name: self.route.name.clone(),
            middleware: names(&self.middleware),
            at: self.route.at,
        }
    }
}

impl Methods {
    /// Each method; `None` stands for any.
    pub(super) fn each(&self) -> Vec<Option<Method>> {
        match self {
            Self::Any => vec![None],
            Self::These(methods) => methods.iter().cloned().map(Some).collect(),
        }
    }
}

/// Automatic answers, one for each status and list of methods.
#[derive(Debug, Default)]
struct Answers {
    made: HashMap<(StatusCode, Arc<str>), Arc<Prepared>>,
}

impl Answers {
    fn make(
        &mut self,
        status: StatusCode,
        allowed: Option<&[Method]>,
        middleware: &[Arc<Named>],
    ) -> Answer {
        let methods = allowed.unwrap_or_default().iter().map(Method::as_str);
        let allow: Arc<str> = methods.collect::<Vec<_>>().join(", ").into();
        let prepared = self
            .made
            .entry((status, Arc::clone(&allow)))
            .or_insert_with(|| Arc::new(prepare(status, allowed.is_some().then_some(&allow))));
        let prepared = Arc::clone(prepared);
        let chain = (!middleware.is_empty()).then(|| {
            let prepared = Arc::clone(&prepared);
            let answer = handler_fn(move |_req| {
                std::future::ready(Response::prepared(Arc::clone(&prepared)))
            });
            chain(middleware, BoxHandler::new(answer))
        });
        Answer { prepared, chain, allow, middleware: names(middleware) }
    }
}

fn prepare(status: StatusCode, allowed: Option<&Arc<str>>) -> Prepared {
    let mut headers = Headers::new();
    if let Some(Ok(value)) = allowed.map(|names| HeaderValue::from_str(names)) {
        headers.append(header::ALLOW, value);
    }
    if status == StatusCode::NO_CONTENT {
        return Prepared::new(status, headers, Bytes::new());
    }
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    headers.append(header::CONTENT_TYPE, text);
    let body = format!("{} {}\n", status.as_str(), status.canonical_reason().unwrap_or_default());
    Prepared::new(status, headers, body.into())
}

/// The methods of a leaf in the order of `Allow`: those that are there, HEAD with GET, and OPTIONS.
fn allow<'m>(methods: impl Iterator<Item = Option<&'m Method>>) -> Vec<Method> {
    let mut there: Vec<Method> = methods.flatten().cloned().collect();
    if there.contains(&Method::GET) {
        there.push(Method::HEAD);
    }
    there.push(Method::OPTIONS);
    let rank = |method: &Method| ORDER.iter().position(|known| known == method);
    there.sort_by_key(|method| (rank(method).unwrap_or(ORDER.len()), method.to_string()));
    there.dedup();
    there
}

fn chain(middleware: &[Arc<Named>], handler: BoxHandler) -> Chain {
    Chain::new(middleware.iter().map(|named| named.middleware.clone()), handler)
}

fn names(middleware: &[Arc<Named>]) -> Box<[&'static str]> {
    middleware.iter().map(|named| named.name).collect()
}

const ORDER: [Method; 6] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
