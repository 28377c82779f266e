//! A server for tests: it listens on this machine and answers as a test says.
#![allow(unreachable_pub, reason = "each test uses a part of it")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// Runs until it is dropped.
pub struct Server {
    port: u16,
    heads: Arc<Mutex<Vec<String>>>,
    stopped: Arc<AtomicBool>,
}

impl Server {
    /// Answers every connection with `answer`, which gets the number of the request, from 0 on, its head and the
    /// connection.
    pub fn start(answer: impl Fn(usize, &str, &mut TcpStream) + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server =
            Server { port: listener.local_addr().unwrap().port(), heads: Arc::default(), stopped: Arc::new(AtomicBool::new(false)) };
        let (heads, stopped, answer) = (server.heads.clone(), server.stopped.clone(), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (mut stream, heads, answer) = (stream.unwrap(), heads.clone(), answer.clone());
                thread::spawn(move || {
                    let head = head(&mut stream);
                    let number = {
                        let mut heads = heads.lock().unwrap();
                        heads.push(head.clone());
                        heads.len() - 1
                    };
                    answer(number, &head, &mut stream);
                });
            }
        });
        server
    }

    /// The address of a folder on it.
    pub fn base(&self) -> String {
        format!("http://127.0.0.1:{}/models/", self.port)
    }

    /// Its place, for a proxy.
    pub fn place(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The heads of the requests that came, in small letters.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // So that it looks.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

/// Reads the head of a request, in small letters. Of what is no HTTP only the first byte is read.
pub fn head(stream: &mut TcpStream) -> String {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
        head.push(byte[0]);
        if !head[0].is_ascii_alphabetic() {
            break;
        }
    }
    String::from_utf8_lossy(&head).to_ascii_lowercase()
}

/// Sends an answer; the one who asks may have gone.
pub fn send(stream: &mut TcpStream, status: &str, headers: &str, body: &[u8]) {
    let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\n{headers}\r\n");
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
}

/// Sends the head of a whole file, and its first `sent` bytes.
pub fn whole(stream: &mut TcpStream, tag: &str, body: &[u8], sent: usize) {
    let tag = if tag.is_empty() { String::new() } else { format!("ETag: \"{tag}\"\r\n") };
    send(stream, "200 OK", &format!("Content-Length: {}\r\n{tag}", body.len()), &body[..sent]);
}

/// Where the bytes begin that a request asks for.
pub fn start_of(head: &str) -> Option<usize> {
    head.lines().find_map(|line| line.strip_prefix("range: bytes=")?.strip_suffix('-')?.parse().ok())
}

/// Sends what a request asks for, as a server that knows ranges.
pub fn ranged(stream: &mut TcpStream, head: &str, tag: &str, body: &[u8]) {
    let same = head.lines().find_map(|line| line.strip_prefix("if-range: ")).is_none_or(|asked| asked == format!("\"{tag}\""));
    match start_of(head).filter(|_| same) {
        None => whole(stream, tag, body, body.len()),
        Some(start) if start >= body.len() => {
            send(stream, "416 Range Not Satisfiable", &format!("Content-Range: bytes */{}\r\n", body.len()), b"");
        }
        Some(start) => {
            let (left, last, all) = (body.len() - start, body.len() - 1, body.len());
            let tag = if tag.is_empty() { String::new() } else { format!("ETag: \"{tag}\"\r\n") };
            let headers = format!("Content-Length: {left}\r\nContent-Range: bytes {start}-{last}/{all}\r\n{tag}");
            send(stream, "206 Partial Content", &headers, &body[start..]);
        }
    }
}
