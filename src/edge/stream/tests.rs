//! Bytes sent by a caller, and what Pingora reads of them.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::{sleep, timeout};

use pingora::protocols::Peek;

use super::*;
use crate::model::deny::DenyReason;

const LIMITS: StreamLimits = StreamLimits {
    head: HeadLimits {
        bytes_max: 4096,
        fields_max: 10,
        target_bytes_max: 1000,
    },
    head_timeout: Duration::from_secs(10),
};

const HEAD: &[u8] = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n";

fn pair() -> (DuplexStream, CallerStream<DuplexStream>) {
    let (caller, ours) = tokio::io::duplex(64 * 1024);
    let peer = SocketAddr::from(([127, 0, 0, 1], 1));
    (caller, CallerStream::new(ours, 0, peer, LIMITS).unwrap())
}

async fn read(stream: &mut CallerStream<DuplexStream>) -> Vec<u8> {
    let mut bytes = vec![0; 8192];
    let count = stream.read(&mut bytes).await.unwrap();
    bytes.truncate(count);
    bytes
}

const POST: &[u8] = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n";

async fn read_exactly(stream: &mut CallerStream<DuplexStream>, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).await.unwrap();
    bytes
}

async fn waits(stream: &mut CallerStream<DuplexStream>) -> bool {
    timeout(Duration::from_millis(1), read(stream))
        .await
        .is_err()
}

#[tokio::test]
async fn a_head_comes_whole_however_it_was_sent() {
    let (mut caller, mut stream) = pair();
    caller.write_all(HEAD).await.unwrap();
    assert_eq!(read(&mut stream).await, HEAD);

    stream.connection.expect_head();
    let sender = async {
        for byte in POST {
            caller.write_all(&[*byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        caller.write_all(b"body").await.unwrap();
    };
    let ((), got) = tokio::join!(sender, read_exactly(&mut stream, POST.len() + 4));
    assert_eq!(got, [POST, b"body"].concat());
}

#[tokio::test]
async fn a_body_is_not_read_as_a_head_and_a_head_not_as_a_body() {
    for at_once in [true, false] {
        let (mut caller, mut stream) = pair();
        let sent = [POST, b"\0\n\n\n", HEAD, POST, b"body"].concat();
        let (first, rest) = sent.split_at(if at_once { sent.len() } else { POST.len() });
        caller.write_all(first).await.unwrap();
        if at_once {
            assert_eq!(read(&mut stream).await, [POST, b"\0\n\n\n"].concat());
        } else {
            assert_eq!(read(&mut stream).await, POST);
            caller.write_all(rest).await.unwrap();
            assert_eq!(read(&mut stream).await, b"\0\n\n\n");
        }
        // What follows is held back.
        assert!(waits(&mut stream).await);
        stream.connection.expect_head();
        assert_eq!(read(&mut stream).await, HEAD);
        assert!(waits(&mut stream).await);
        stream.connection.expect_head();
        assert_eq!(read(&mut stream).await, [POST, b"body"].concat());
        assert!(waits(&mut stream).await);
        // A caller that leaves is noticed meanwhile.
        drop(caller);
        assert!(read(&mut stream).await.is_empty());
    }
}

#[tokio::test]
async fn a_body_that_breaks_its_framing_ends_the_connection() {
    let head = b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    // In one piece with the head: the whole request is refused.
    let (mut caller, mut stream) = pair();
    caller
        .write_all(&[head.as_slice(), b"\r\nhello\r\n0\r\n\r\n"].concat())
        .await
        .unwrap();
    assert!(
        read(&mut stream)
            .await
            .starts_with(b"GET / HTTP/1.1\r\nHost: refused.invalid")
    );
    assert!(read(&mut stream).await.is_empty());
    // Later: the body ends where it broke.
    let (mut caller, mut stream) = pair();
    caller
        .write_all(&[head.as_slice(), b"5\r\nhello\r\n"].concat())
        .await
        .unwrap();
    assert_eq!(
        read(&mut stream).await,
        [head.as_slice(), b"5\r\nhello\r\n"].concat()
    );
    caller.write_all(b"\r\nhello").await.unwrap();
    assert!(read(&mut stream).await.is_empty());
    let fault = stream.connection.body_fault.get();
    assert_eq!(fault, Some(&DenyReason::RequestMalformed));
    caller.write_all(HEAD).await.unwrap();
    assert!(read(&mut stream).await.is_empty());
}

#[tokio::test]
async fn after_an_upgrade_all_bytes_pass() {
    let (mut caller, mut stream) = pair();
    caller
        .write_all(&[HEAD, b"\x81\0early"].concat())
        .await
        .unwrap();
    assert_eq!(read(&mut stream).await, HEAD);
    assert!(waits(&mut stream).await);
    stream.connection.upgrade();
    assert_eq!(read(&mut stream).await, b"\x81\0early");
    caller.write_all(b"\n\n late").await.unwrap();
    assert_eq!(read(&mut stream).await, b"\n\n late");
}

#[tokio::test]
async fn a_refused_head_is_replaced_and_nothing_follows() {
    for (head, reason) in [
        (
            b"GET /x y HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
            DenyReason::RequestMalformed,
        ),
        (b"SSH-2.0-x\r\n".to_vec(), DenyReason::RequestMalformed),
        (
            format!("GET /{}", "x".repeat(2000)).into_bytes(),
            DenyReason::TargetTooLong,
        ),
        (
            [b"GET / HTTP/1.1\r\n".as_slice(), &b"X: y\r\n".repeat(11)].concat(),
            DenyReason::HeadTooLarge,
        ),
    ] {
        let (mut caller, mut stream) = pair();
        caller.write_all(&head).await.unwrap();
        let seen = read(&mut stream).await;
        assert!(seen.starts_with(b"GET / HTTP/1.1\r\nHost: refused.invalid\r\n"));
        caller.write_all(HEAD).await.unwrap();
        assert!(read(&mut stream).await.is_empty());
        assert_eq!(stream.connection.take_refused().unwrap().reason, reason);
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_has_its_time_and_an_idle_connection_has_not() {
    let (mut caller, mut stream) = pair();
    // An idle connection: closing it is not this layer's task.
    let idle = timeout(Duration::from_hours(1), read(&mut stream)).await;
    assert!(idle.is_err());
    // One byte per second.
    let drip = async {
        for byte in HEAD {
            if caller.write_all(&[*byte]).await.is_err() {
                return;
            }
            sleep(Duration::from_secs(1)).await;
        }
    };
    let start = tokio::time::Instant::now();
    let got = tokio::select! {
        got = read(&mut stream) => got,
        () = drip => panic!("the whole head was read"),
    };
    assert!(got.is_empty());
    assert_eq!(start.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn the_preface_of_h2_is_seen_as_soon_as_it_can_be() {
    let (mut caller, mut stream) = pair();
    let mut buf = [0; 24];
    caller.write_all(H2_PREFACE).await.unwrap();
    assert!(stream.try_peek(&mut buf).await.unwrap());
    assert_eq!(buf.as_slice(), H2_PREFACE);
    caller.write_all(b"frames").await.unwrap();
    assert_eq!(read(&mut stream).await, H2_PREFACE);
    assert_eq!(read(&mut stream).await, b"frames");

    // Shorter than the preface, and different from its third byte on.
    let short = b"PRX / HTTP/1.1\r\nHost: a\r\n\r\n";
    let (mut caller, mut stream) = pair();
    let mut buf = [0; 24];
    caller.write_all(b"PRX").await.unwrap();
    assert!(stream.try_peek(&mut buf).await.unwrap());
    assert_ne!(buf.as_slice(), H2_PREFACE);
    caller.write_all(short.get(3..).unwrap()).await.unwrap();
    assert_eq!(read(&mut stream).await, short);

    // Nothing at all, and a partial preface.
    for bytes in [b"".as_slice(), b"PRI * "] {
        let (mut caller, mut stream) = pair();
        caller.write_all(bytes).await.unwrap();
        let start = tokio::time::Instant::now();
        assert!(stream.try_peek(&mut [0; 24]).await.is_err());
        assert_eq!(start.elapsed().as_secs(), 10);
    }
}

#[tokio::test]
async fn small_writes_leave_together() {
    let (mut caller, mut stream) = pair();
    stream.write_all(b"head").await.unwrap();
    stream.write_all(b"body").await.unwrap();
    let mut bytes = [0; 16];
    let early = timeout(Duration::from_millis(1), caller.read(&mut bytes)).await;
    assert!(early.is_err());
    stream.flush().await.unwrap();
    assert_eq!(caller.read(&mut bytes).await.unwrap(), 8);
}

#[tokio::test]
async fn what_was_written_does_not_wait_for_what_is_read() {
    let (mut caller, mut stream) = pair();
    caller.write_all(HEAD).await.unwrap();
    assert_eq!(read(&mut stream).await, HEAD);
    stream.write_all(b"a part of an answer").await.unwrap();
    assert!(waits(&mut stream).await);
    let mut part = [0; 19];
    caller.read_exact(&mut part).await.unwrap();
    assert_eq!(&part, b"a part of an answer");
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_has_its_time_and_a_head_its_own() {
    let idle = Duration::from_mins(1);
    let start = tokio::time::Instant::now();
    // Nothing comes; a head that begins late gets no more time than any other.
    let (_caller, mut stream) = pair();
    assert!(!stream.head(idle).await);
    assert_eq!(start.elapsed().as_secs(), 60);
    let (mut caller, mut stream) = pair();
    let late = async {
        sleep(Duration::from_secs(55)).await;
        caller.write_all(b"GET ").await.unwrap();
        sleep(Duration::from_hours(1)).await;
    };
    tokio::select! {
        is_there = stream.head(idle) => assert!(!is_there),
        () = late => panic!("it was waited for"),
    }
    assert_eq!(start.elapsed().as_secs(), 60 + 65);
}

#[tokio::test]
async fn a_head_is_held_until_it_is_asked_for_and_closing_takes_what_came() {
    let idle = Duration::from_mins(1);
    let (mut caller, mut stream) = pair();
    caller.write_all(&[HEAD, HEAD].concat()).await.unwrap();
    assert!(stream.head(idle).await);
    assert_eq!(read(&mut stream).await, HEAD);
    // What has arrived is served, and nothing more is waited for.
    stream.connection.close_when_idle();
    stream.connection.expect_head();
    assert!(stream.head(idle).await);
    assert_eq!(read(&mut stream).await, HEAD);
    stream.connection.expect_head();
    assert!(!stream.head(idle).await);
    // A request whose body is not read is followed by nothing.
    let (mut caller, mut stream) = pair();
    caller.write_all(POST).await.unwrap();
    assert!(stream.head(idle).await);
    assert_eq!(read(&mut stream).await, POST);
    stream.connection.expect_head();
    assert!(!stream.head(idle).await);
}

#[tokio::test]
async fn a_websocket_is_ended_between_two_frames_and_what_follows_is_dropped() {
    const SWITCH: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\n\r\n";
    let (mut caller, mut stream) = pair();
    caller.write_all(HEAD).await.unwrap();
    assert_eq!(read(&mut stream).await, HEAD);
    stream.connection.upgrade();
    stream.write_all(SWITCH).await.unwrap();
    stream.write_all(b"\x81\x04ha").await.unwrap();
    stream.connection.go_away();
    assert!(waits(&mut stream).await);
    stream.write_all(b"lf\x81\x01x").await.unwrap();
    stream.write_all(b"\x81\x01y").await.unwrap();
    stream.flush().await.unwrap();
    let wanted = [SWITCH, b"\x81\x04half\x88\x02\x03\xE9"].concat();
    let mut got = vec![0; wanted.len()];
    caller.read_exact(&mut got).await.unwrap();
    assert_eq!(got, wanted);
    // The caller's answer is forwarded to the upstream.
    caller.write_all(b"\x88\x82....").await.unwrap();
    assert_eq!(read(&mut stream).await, b"\x88\x82....");
    stream.shutdown().await.unwrap();
    assert_eq!(caller.read(&mut got).await.unwrap(), 0);
}

#[test]
fn an_idle_connection_is_small() {
    // Without its buffers, of which an idle connection has none.
    let bytes = size_of::<CallerStream<tokio::net::TcpStream>>();
    assert!(bytes < 1024, "{bytes}");
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_is_still_sending_is_read_for_a_moment_after_its_response() {
    for (lingers, sends_on, wanted) in [
        (false, true, Duration::ZERO),
        (true, false, Duration::ZERO),
        (true, true, Duration::from_secs(1)),
    ] {
        let (mut caller, mut stream) = pair();
        caller.write_all(POST).await.unwrap();
        assert_eq!(read(&mut stream).await, POST);
        if lingers {
            stream.connection.linger();
        }
        let begin = tokio::time::Instant::now();
        let sender = async move {
            let mut response = Vec::new();
            if sends_on {
                let rest = async {
                    while caller.write_all(b"body").await.is_ok() {
                        sleep(Duration::from_millis(10)).await;
                    }
                };
                let _ = timeout(Duration::from_secs(3), rest).await;
            }
            caller.read_to_end(&mut response).await.unwrap();
            response
        };
        let closer = async move {
            stream.write_all(b"refused").await.unwrap();
            stream.shutdown().await.unwrap();
            let spent = begin.elapsed();
            drop(stream);
            spent
        };
        let (response, spent) = tokio::join!(sender, closer);
        assert_eq!(response, b"refused");
        assert!(
            spent.abs_diff(wanted) < Duration::from_millis(50),
            "{lingers} {sends_on} {spent:?}"
        );
    }
}
