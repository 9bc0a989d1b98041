use crate::support::{Echo, Peer};

#[tokio::test(start_paused = true)]
async fn requests_are_answered_on_a_kept_connection() {
    let mut peer = Peer::new(Echo::default());
    for _ in 0..3 {
        peer.send("GET /a HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let want = "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nGET /a ";
        assert_eq!(peer.receive().await, want);
    }
    peer.send("POST /b HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi").await;
    let want = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nPOST /b hi";
    assert_eq!(peer.receive().await, want);
    assert!(peer.ended().await.is_ok());
}
