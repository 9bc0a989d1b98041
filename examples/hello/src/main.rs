//! The smallest server: `cargo run -p example-hello`, then open the address it prints.

use std::sync::Arc;

use hearth_http_core::{Request, Response};
use hearth_net::{Listener, Server};
use hearth_router::Router;

async fn hello(req: Request) -> Response {
    Response::text(format!("Hello, {}!\n", req.param("name").unwrap_or("World")))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let port: u16 = std::env::var("PORT").map_or(Ok(8080), |port| port.parse())?;
    let router = Router::builder().get("/", hello).get("/hello/{name}", hello).build()?;
    let listener = Listener::bind(([127, 0, 0, 1], port));
    let server = Server::builder().listen(listener, Arc::new(router)).bind()?;
    println!("http://{}", server.local_addrs()[0]);
    server.run(async { drop(tokio::signal::ctrl_c().await) }).await?;
    Ok(())
}
