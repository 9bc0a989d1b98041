//! actix-web with actix-files, one worker.

use actix_web::{App, HttpServer, Responder, middleware::Compress, web};

#[global_allocator]
static ALLOCATOR: peer_common::MiMalloc = peer_common::MiMalloc;

#[derive(serde::Serialize)]
struct Message {
    message: &'static str,
}

async fn user(id: web::Path<String>) -> impl Responder {
    id.into_inner()
}

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let root = peer_common::env("ROOT");
    let app = move || {
        App::new()
            .route("/plaintext", web::get().to(async || peer_common::TEXT))
            .route("/json", web::get().to(async || web::Json(Message { message: peer_common::TEXT })))
            .route("/users/{id}", web::get().to(user))
            .service(actix_files::Files::new("/s", format!("{root}/s")))
            .service(
                web::scope("/z")
                    .wrap(Compress::default())
                    .service(actix_files::Files::new("/", format!("{root}/z"))),
            )
    };
    HttpServer::new(app)
        .workers(1)
        .tcp_nodelay(true)
        .listen(peer_common::listener("PORT"))?
        .listen_rustls_0_23(peer_common::listener("TPORT"), peer_common::tls())?
        .run()
        .await
}
