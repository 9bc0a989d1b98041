//! Hosts, methods, groups, mounts, redirects, names.

use hearth_http_core::{BoxHandler, Method, Request, Response, StatusCode};
use hearth_router::{
    ParamError, Redirect, RequestExt, Route, Router, RouterBuilder, SlashPolicy, UrlError,
};

use crate::support::{Echo, Mark, ask, now};

#[test]
fn hosts() {
    let site = |name: &'static str| move |site: RouterBuilder| site.get("/", Echo(name));
    let router = Router::builder()
        .get("/", Echo("default"))
        .host("example.com", site("exact"))
        .host("*.example.com", site("wildcard"))
        .host("{Tenant}.example.com", site("tenant"))
        .host("api.{region}.example.com", site("api"))
        .host("www.example.com", site("www"))
        .host("[2001:db8::1]", site("six"))
        .build()
        .unwrap();
    const ROWS: &[(&str, &str)] = &[
        ("example.com", "exact"),
        ("EXAMPLE.com:8080", "exact"),
        ("example.com.", "exact"),
        ("www.example.com", "www"),
        ("acme.example.com", "tenant Tenant=acme"),
        ("acme.example.com:443", "tenant Tenant=acme"),
        ("api.eu.example.com", "api region=eu"),
        ("web.eu.example.com", "wildcard"),
        ("a.b.c.example.com", "wildcard"),
        (".example.com", "default"),
        ("notexample.com", "default"),
        ("example.org", "default"),
        ("", "default"),
        ("[2001:DB8:0:0::1]:80", "six"),
        ("[::1]", "default"),
        ("[::1", "default"),
    ];
    for (host, want) in ROWS {
        assert_eq!(ask(&router, "GET", host, "/"), format!("200 {want}"), "host {host:?}");
    }
    let long = format!("{}.example.com", "a".repeat(250));
    assert_eq!(ask(&router, "GET", &long, "/"), "200 default");
}

#[test]
fn a_site_does_not_fall_back_to_the_default_routes() {
    let router = Router::builder()
        .get("/only-default", Echo("default"))
        .fallback(Echo("fallback"))
        .host("a.test", |site| site.get("/", Echo("a")))
        .host("b.test", |site| site.get("/", Echo("b")).fallback(Echo("b-fallback")))
        .host("A.test", |site| site.get("/more", Echo("more")))
        .build()
        .unwrap();
    assert_eq!(ask(&router, "GET", "a.test", "/only-default"), "200 fallback");
    assert_eq!(ask(&router, "GET", "b.test", "/only-default"), "200 b-fallback");
    assert_eq!(ask(&router, "GET", "a.test", "/more"), "200 more");
    assert_eq!(ask(&router, "GET", "c.test", "/only-default"), "200 default");
}

/// What the other hosts have is theirs, whatever was added before or after.
#[test]
fn the_site_of_other_hosts_shares_nothing() {
    let router = Router::builder()
        .with(Mark('1'))
        .host("a.test", |site| site.get("/", Echo("a")))
        .other_hosts(|site| site.with(Mark('o')).get("/", Echo("b")).fallback(Echo("files")))
        .host("c.test", |site| site.with(Mark('c')).get("/", Echo("c")))
        .build()
        .unwrap();
    const ROWS: &[(&str, &str, &str)] = &[
        ("a.test", "/", "200 1a"),
        ("a.test", "/none", "404 1404 Not Found"),
        ("a.test", "/%", "400 1400 Bad Request"),
        ("b.test", "/", "200 1ob"),
        ("b.test", "/none", "200 1ofiles"),
        ("b.test", "/%", "400 1o400 Bad Request"),
        ("c.test", "/", "200 1cc"),
        ("c.test", "/none", "404 1c404 Not Found"),
    ];
    for (host, target, want) in ROWS {
        assert_eq!(ask(&router, "GET", host, target), *want, "{host}{target}");
    }
}

/// As above, but asked before there is a request.
#[test]
fn the_site_of_a_host_is_told() {
    let router = Router::builder()
        .host("Example.com", |site| site)
        .host("*.example.com", |site| site)
        .host("[2001:db8::1]", |site| site)
        .build()
        .unwrap();
    for (host, want) in [
        ("EXAMPLE.com.", Some("example.com")),
        ("a.b.example.com", Some("*.example.com")),
        ("*.example.com", Some("*.example.com")),
        ("[2001:DB8:0::1]", Some("[2001:db8::1]")),
        ("example.org", None),
        ("", None),
    ] {
        assert_eq!(router.site_host(host.as_bytes()), want, "{host}");
    }
}

#[test]
fn modules_may_name_the_parameters_of_one_host_otherwise() {
    let router = Router::builder()
        .host("{tenant}.test", |site| site.get("/a", Echo("a")))
        .host("{customer}.test", |site| site.with(Mark('m')).get("/b", Echo("b")))
        .build()
        .unwrap();
    assert_eq!(ask(&router, "GET", "x.test", "/a"), "200 a tenant=x");
    assert_eq!(ask(&router, "GET", "x.test", "/b"), "200 mb customer=x");
    let hosts: Vec<_> = router.routes().map(|route| route.host.as_deref()).collect();
    assert_eq!(hosts, [Some("{tenant}.test"), Some("{customer}.test")]);
}

#[test]
fn host_and_path_parameters_are_seen_together() {
    let router = Router::builder()
        .host("{a}.{b}.test", |site| site.get("/{c}/{d}", Echo("all")))
        .build()
        .unwrap();
    let answer = ask(&router, "GET", "x.y.test", "/z/w?q");
    assert_eq!(answer, "200 all a=x b=y c=z d=w");
}

#[test]
fn methods() {
    let brew: Method = "BREW".parse().unwrap();
    let router = Router::builder()
        .get("/a", Echo("get"))
        .post("/a", Echo("post"))
        .on(&[Method::HEAD], "/h", Echo("head"))
        .get("/h", Echo("get"))
        .put("/b", Echo("put"))
        .any("/any", Echo("any"))
        .get("/any", Echo("get"))
        .on(&[Method::OPTIONS], "/o", Echo("options"))
        .on(&[brew, Method::CONNECT, Method::TRACE], "/pot", Echo("brew"))
        .build()
        .unwrap();
    const ROWS: &[(&str, &str, &str)] = &[
        ("GET", "/a", "200 get"),
        ("HEAD", "/a", "200 get"),
        ("POST", "/a", "200 post"),
        ("PUT", "/a", "405 GET, HEAD, POST, OPTIONS"),
        ("BREW", "/a", "405 GET, HEAD, POST, OPTIONS"),
        ("OPTIONS", "/a", "204 GET, HEAD, POST, OPTIONS"),
        ("HEAD", "/h", "200 head"),
        ("HEAD", "/b", "405 PUT, OPTIONS"),
        ("GET", "/any", "200 get"),
        ("HEAD", "/any", "200 get"),
        ("OPTIONS", "/any", "200 any"),
        ("BREW", "/any", "200 any"),
        ("OPTIONS", "/o", "200 options"),
        ("GET", "/o", "405 OPTIONS"),
        ("BREW", "/pot", "200 brew"),
        ("CONNECT", "/pot", "200 brew"),
        ("GET", "/pot", "405 BREW, CONNECT, OPTIONS, TRACE"),
        ("OPTIONS", "*", "204 GET, HEAD, POST, PUT, BREW, CONNECT, OPTIONS, TRACE"),
        ("GET", "*", "400 400 Bad Request"),
        ("OPTIONS", "/none", "404 404 Not Found"),
    ];
    for (method, path, want) in ROWS {
        assert_eq!(ask(&router, method, "x", path), *want, "{method} {path}");
    }
}

#[test]
fn groups_and_their_middleware() {
    let users =
        Router::builder().with(Mark('u')).get("/", Echo("users")).get("/{id}", Echo("user"));
    let router = Router::builder()
        .get("/", Echo("home"))
        .group("/api", |api| {
            let route = Route::get("/x", Echo("x")).with(Mark('r')).with(Mark('s'));
            api.route(route).nest("/users/", users).with(Mark('a')).fallback(Echo("api?"))
        })
        .group("/t/{t}", |group| group.get("/u/{u}", Echo("deep")).get("", Echo("t")))
        .merge(Router::builder().get("/merged", Echo("merged")).with(Mark('m')))
        .with(Mark('1'))
        .with(Mark('2'))
        .build()
        .unwrap();
    const ROWS: &[(&str, &str, &str)] = &[
        ("GET", "/", "200 12home"),
        ("GET", "/api/x", "200 12arsx"),
        ("GET", "/api/users", "200 12auusers"),
        ("GET", "/api/users/7", "200 12auuser id=7"),
        ("GET", "/api/other", "200 12aapi? path=other"),
        ("GET", "/api", "200 12aapi? path="),
        ("GET", "/t/1/u/2", "200 12deep t=1 u=2"),
        ("GET", "/t/1", "200 12t t=1"),
        ("GET", "/merged", "200 12mmerged"),
        // The router's own answers lie within the middleware that the routes of the path share.
        ("GET", "/none", "404 12404 Not Found"),
        ("GET", "/%", "400 12400 Bad Request"),
        ("POST", "/", "405 GET, HEAD, OPTIONS"),
    ];
    for (method, path, want) in ROWS {
        assert_eq!(ask(&router, method, "x", path), *want, "{method} {path}");
    }
    let middleware: Vec<usize> = router.routes().map(|route| route.middleware.len()).collect();
    assert_eq!(middleware, [2, 5, 4, 4, 3, 2, 2, 3]);
}

#[test]
fn automatic_answers_run_through_shared_middleware() {
    #[derive(Debug)]
    struct Teapot;
    impl hearth_http_core::Middleware for Teapot {
        async fn handle(&self, _req: Request, _next: hearth_http_core::Next<'_>) -> Response {
            Response::status_only(StatusCode::IM_A_TEAPOT)
        }
    }
    let router = Router::builder()
        .group("/g", |g| g.with(Teapot).get("/", Echo("g")))
        .route(Route::get("/mixed", Echo("a")).with(Teapot))
        .post("/mixed", Echo("b"))
        .build()
        .unwrap();
    assert_eq!(ask(&router, "OPTIONS", "x", "/g"), "418 ");
    assert_eq!(ask(&router, "POST", "x", "/g"), "418 ");
    assert_eq!(ask(&router, "OPTIONS", "x", "/mixed"), "204 GET, HEAD, POST, OPTIONS");
}

#[test]
fn slash_policy_is_inherited_and_overridden() {
    let router = Router::builder()
        .slash(SlashPolicy::Redirect308)
        .get("/a", Echo("a"))
        .group("/m", |g| g.slash(SlashPolicy::Match).get("/b", Echo("b")))
        .host("s.test", |s| s.slash(SlashPolicy::Strict).get("/c", Echo("c")))
        .host("r.test", |s| {
            let site = s.get("/d", Echo("d")).post("/d/", Echo("post"));
            site.get("/e", Echo("get")).any("/e/", Echo("any"))
        })
        .build()
        .unwrap();
    assert_eq!(ask(&router, "POST", "x", "/a/"), "405 GET, HEAD, OPTIONS");
    assert_eq!(ask(&router, "GET", "x", "/a/?q=1"), "308 /a?q=1");
    assert_eq!(ask(&router, "GET", "x", "/m/b/"), "200 b");
    assert_eq!(ask(&router, "GET", "s.test", "/c/"), "404 404 Not Found");
    // Routes that differ by a slash share their methods.
    assert_eq!(ask(&router, "GET", "r.test", "/d/"), "308 /d");
    assert_eq!(ask(&router, "POST", "r.test", "/d/"), "200 post");
    assert_eq!(ask(&router, "POST", "r.test", "/d"), "308 /d/");
    // A route of every method leaves nothing to its twin.
    assert_eq!(ask(&router, "GET", "r.test", "/e/"), "200 any");
    assert_eq!(ask(&router, "GET", "r.test", "/e"), "200 get");
    assert_eq!(ask(&router, "PUT", "r.test", "/e"), "308 /e/");
}

#[test]
fn mounts_take_the_prefix_and_everything_beneath() {
    let router = Router::builder()
        .mount("/files", Echo("files"))
        .mount("/proxy/", Echo("proxy"))
        .get("/files/special", Echo("special"))
        .host("all.test", |site| site.mount("/", Echo("all")))
        .build()
        .unwrap();
    const ROWS: &[(&str, &str, &str, &str)] = &[
        ("GET", "x", "/files", "200 files path="),
        ("GET", "x", "/files/", "200 files path="),
        ("DELETE", "x", "/files/a/b", "200 files path=a/b"),
        ("GET", "x", "/files/special", "200 special"),
        ("POST", "x", "/files/special", "405 GET, HEAD, OPTIONS"),
        ("GET", "x", "/filesystem", "404 404 Not Found"),
        ("GET", "x", "/proxy", "200 proxy path="),
        ("GET", "all.test", "/", "200 all path="),
        ("GET", "all.test", "/a/b?q", "200 all path=a/b"),
    ];
    for (method, host, path, want) in ROWS {
        assert_eq!(ask(&router, method, host, path), *want, "{method} {path}");
    }
}

#[test]
fn redirects() {
    let router = Router::builder()
        .redirect("/old/{id}", Redirect::permanent("/new/{id}/x"))
        .redirect("/tmp", Redirect::temporary("https://example.com/a?b=c"))
        .redirect("/form", Redirect::see_other("/done"))
        .redirect("/301", Redirect::with_status(StatusCode::MOVED_PERMANENTLY, "/caf\u{e9} x"))
        .redirect("/root/{*rest}", Redirect::permanent("/{rest}"))
        .redirect("/sub/{name}", Redirect::permanent("https://{name}.example.com/"))
        .slash(SlashPolicy::Redirect308)
        .mount("/m", Echo("m"))
        .get("/{a}/{b}/", Echo("ab"))
        .build()
        .unwrap();
    const ROWS: &[(&str, &str)] = &[
        ("/old/7", "308 /new/7/x"),
        ("/old/a%2Fb?q=1", "308 /new/a%2Fb/x?q=1"),
        ("/tmp", "307 https://example.com/a?b=c"),
        ("/tmp?d", "307 https://example.com/a?b=c&d"),
        ("/form", "303 /done"),
        ("/301", "301 /caf%C3%A9%20x"),
        ("/root/a/b", "308 /a/b"),
        // No request chooses another site.
        ("/root/\\evil.test", "308 /evil.test"),
        ("/root//evil.test", "308 /evil.test"),
        ("/sub/evil.test\\", "308 https://evil.test%5C.example.com/"),
        ("/\\evil.test/b", "308 /evil.test/b/"),
        ("//evil.test/b", "308 /evil.test/b/"),
    ];
    for (path, want) in ROWS {
        assert_eq!(ask(&router, "GET", "x", path), *want, "{path}");
    }
}

#[test]
fn urls_by_name() {
    let router = Router::builder()
        .route(Route::get("/users/{id:uint}/{tab}", Echo("u")).name("user"))
        .route(Route::get("/f/{*path}", Echo("f")).name("file"))
        .route(Route::get("/caf\u{e9}/v{n}.json", Echo("c")).name("caf\u{e9}"))
        .group("/g", |g| g.route(Route::get("/", Echo("g")).name("g")))
        .build()
        .unwrap();
    assert_eq!(
        router.url_for("user", &[("id", &7), ("tab", &"a b/c?")]).unwrap(),
        "/users/7/a%20b%2Fc%3F"
    );
    assert_eq!(router.url_for("file", &[("path", &"a b/c")]).unwrap(), "/f/a%20b/c");
    assert_eq!(router.url_for("file", &[("path", &"")]).unwrap(), "/f/");
    assert_eq!(router.url_for("caf\u{e9}", &[("n", &1)]).unwrap(), "/caf%C3%A9/v1.json");
    assert_eq!(router.url_for("g", &[]).unwrap(), "/g");
    let unfit = |result| matches!(result, Err(UrlError::Unfit { .. }));
    assert!(unfit(router.url_for("user", &[("id", &"x"), ("tab", &1)])));
    assert!(unfit(router.url_for("user", &[("id", &1), ("tab", &"..")])));
    assert!(unfit(router.url_for("user", &[("id", &1), ("tab", &"")])));
    assert!(unfit(router.url_for("file", &[("path", &"a/../b")])));
    assert!(unfit(router.url_for("file", &[("path", &"a//b")])));
    let missing = router.url_for("user", &[("id", &1)]);
    assert!(matches!(missing, Err(UrlError::MissingParam { .. })));
    let unknown = router.url_for("g", &[("id", &1)]);
    assert!(matches!(unknown, Err(UrlError::UnknownParam { .. })));
    assert!(matches!(router.url_for("no", &[]), Err(UrlError::UnknownRoute { .. })));
}

#[test]
fn parameters_are_decoded_late() {
    async fn show(req: Request) -> Response {
        let text = match req.decoded_param("v") {
            Ok(text) => text.into_owned(),
            Err(error) => return error.into(),
        };
        let number = req.parse_param::<i32>("v").map_or_else(|e| e.to_string(), |n| n.to_string());
        assert!(matches!(req.decoded_param("w"), Err(ParamError::Missing { .. })));
        Response::text(format!("{text}|{number}"))
    }
    let router = Router::builder().get("/{v}", show).build().unwrap();
    let refused = "the path parameter `v` is no i32";
    assert_eq!(ask(&router, "GET", "x", "/a%2Fb%20c"), format!("200 a/b c|{refused}"));
    assert_eq!(ask(&router, "GET", "x", "/-12"), "200 -12|-12");
    assert_eq!(ask(&router, "GET", "x", "/%ff"), "404 404 Not Found");
}

#[test]
fn the_handler_sees_the_canonical_path() {
    async fn path(req: Request) -> Response {
        Response::text(format!("{} {:?}", req.path(), req.query()))
    }
    let router = Router::builder().mount("/", path).build().unwrap();
    assert_eq!(ask(&router, "GET", "x", "/a/../%62//c?d=%61/../"), "200 /b/c Some(\"d=%61/../\")");
    // Nothing but the case of digits: the request stays as it is.
    assert_eq!(ask(&router, "GET", "x", "/a%2fb"), "200 /a%2fb None");
}

/// In release builds this was a use after free: see `RouterBuilder::new`.
#[test]
fn builders_given_to_one_closure_are_two() {
    let add = |mut builder: RouterBuilder| {
        for pattern in ["/a", "/b"] {
            builder = builder.get(pattern, Echo(pattern));
        }
        builder
    };
    let first = add(Router::builder()).build().unwrap();
    let second = add(Router::builder()).get("/c", Echo("c")).build().unwrap();
    assert_eq!((first.routes().len(), second.routes().len()), (2, 3));
}

#[test]
fn handlers_of_every_kind() {
    let count = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let counter = std::sync::Arc::clone(&count);
    let router = Router::builder()
        .get("/boxed", BoxHandler::new(Echo("boxed")))
        .get("/closure", async |_req: Request| Response::text("closure"))
        .get("/state", move |_req: Request| {
            counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            std::future::ready(Response::text("state"))
        })
        .mount("/router", Router::builder().get("/router/x", Echo("inner")).build().unwrap())
        .build()
        .unwrap();
    for (path, want) in [("/boxed", "boxed"), ("/closure", "closure"), ("/state", "state")] {
        assert_eq!(ask(&router, "GET", "x", path), format!("200 {want}"));
    }
    assert_eq!(ask(&router, "GET", "x", "/router/x"), "200 inner");
    assert_eq!(count.load(std::sync::atomic::Ordering::Relaxed), 1);
    let req = Request::get("/boxed").unwrap();
    assert_eq!(now(router.dispatch(req)).status(), StatusCode::OK);
}
