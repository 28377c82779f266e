//! Published weights: brought from a server whatever that does, checked, kept. The server and the weights are the tests'
//! own.

use crate::server::{Server, head, ranged, send, start_of, whole};
use nunatak_cli::published::fetch::get;
use nunatak_cli::published::part::sha256;
use nunatak_cli::published::places::{Patience, Places};
use nunatak_cli::published::table::Weights;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes of the file.
const BYTES: usize = 300_000;

/// A folder, and weights that a server of the test has.
struct Bench {
    dir: tempfile::TempDir,
    body: Arc<Vec<u8>>,
    weights: Weights,
}

impl Bench {
    fn new() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let mut state = 1_u32;
        let mut byte = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        let body: Vec<u8> = (0..BYTES).map(|_| byte()).collect();
        std::fs::write(dir.path().join("body"), &body).unwrap();
        let hash: &'static str = sha256(&dir.path().join("body")).unwrap().leak();
        let file: &'static str = format!("small-{}.pth", &hash[..8]).leak();
        let weights = Weights { network: "small", version: "IMAGENET1K_V1", file, hash, bytes: BYTES as u64, resize: 256 };
        Bench { dir, body: Arc::new(body), weights }
    }

    fn cache(&self) -> PathBuf {
        self.dir.path().join("cache")
    }

    /// The places of a run that is soon impatient.
    fn places(&self, base: &str) -> Places {
        Places {
            cache: self.cache(),
            others: vec![self.dir.path().join("torch")],
            base: base.into(),
            offline: false,
            proxy: None,
            certificates: None,
            patience: Patience {
                connect: Duration::from_secs(20),
                silence: Duration::from_millis(1500),
                attempts: 3,
                pause: Duration::from_millis(10),
            },
        }
    }

    /// The file is there, and nothing beside it.
    fn assert_whole(&self, path: &Path) {
        assert_eq!(path, self.cache().join(self.weights.file));
        assert!(std::fs::read(path).unwrap() == *self.body);
        assert_eq!(self.names(), [self.weights.file]);
    }

    /// What lies in the cache.
    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.cache()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// The part that is kept of the file.
    fn part(&self) -> PathBuf {
        self.cache().join(format!("{}.part", self.weights.file))
    }

    /// The message of a download from this server that fails; the file is then not there.
    fn fails(&self, server: &Server) -> String {
        let text = get(&self.weights, &self.places(&server.base())).unwrap_err().text();
        assert!(!self.cache().join(self.weights.file).exists());
        assert!(text.contains(&self.weights.hash[..8]) && text.contains(&self.cache().display().to_string()), "{text}");
        assert!(text.contains(&format!("https://download.pytorch.org/models/{}", self.weights.file)), "{text}");
        text
    }
}

#[test]
fn a_file_is_brought_once() {
    let bench = Bench::new();
    let body = bench.body.clone();
    let server = Server::start(move |_, _, stream| whole(stream, "v", &body, BYTES));
    bench.assert_whole(&get(&bench.weights, &bench.places(&server.base())).unwrap());
    let head = &server.heads()[0];
    assert!(head.starts_with(&format!("get /models/{} http/1.1\r\n", bench.weights.file)), "{head}");
    assert!(!head.contains("range:") && head.contains("accept-encoding: identity") && head.contains("user-agent: nunatak/"), "{head}");
    bench.assert_whole(&get(&bench.weights, &bench.places(&server.base())).unwrap());
    // What is there needs no permission to download, and no address.
    let mut places = bench.places("http://127.0.0.1:1/");
    places.offline = true;
    bench.assert_whole(&get(&bench.weights, &places).unwrap());
    assert_eq!(server.heads().len(), 1);
}

#[test]
fn slow_is_not_silent() {
    let bench = Bench::new();
    let body = bench.body.clone();
    let server = Server::start(move |number, head, stream| {
        if number == 0 {
            // Longer than the silence that is borne, with no silence as long.
            whole(stream, "v", &body, 0);
            for piece in body[..BYTES / 2].chunks(BYTES / 16) {
                std::thread::sleep(Duration::from_millis(250));
                let _ = stream.write_all(piece);
            }
            std::thread::sleep(Duration::from_secs(6));
        } else {
            ranged(stream, head, "v", &body);
        }
    });
    let began = Instant::now();
    bench.assert_whole(&get(&bench.weights, &bench.places(&server.base())).unwrap());
    assert!(began.elapsed() > Duration::from_millis(2000), "{:?}", began.elapsed());
    let heads = server.heads();
    assert_eq!((heads.len(), start_of(&heads[0]), start_of(&heads[1])), (2, None, Some(BYTES / 2)));
}

#[test]
fn a_cut_download_is_gone_on_with() {
    let bench = Bench::new();
    let body = bench.body.clone();
    let server = Server::start(move |number, head, stream| match number {
        0 => whole(stream, "v1", &body, 100_000),
        1 => {
            let (start, last) = (start_of(head).unwrap(), BYTES - 1);
            let headers = format!("Content-Length: {}\r\nContent-Range: bytes {start}-{last}/{BYTES}\r\n", BYTES - start);
            send(stream, "206 Partial Content", &headers, &body[start..start + 50_000]);
        }
        _ => ranged(stream, head, "v1", &body),
    });
    let mut places = bench.places(&server.base());
    places.patience.attempts = 1;
    for kept in [100_000, 150_000] {
        let text = get(&bench.weights, &places).unwrap_err().text();
        assert!(text.contains("the same command goes on from there") && text.contains("1 attempts failed"), "{text}");
        assert_eq!(std::fs::read(bench.part()).unwrap(), bench.body[..kept]);
    }
    bench.assert_whole(&get(&bench.weights, &places).unwrap());
    let heads = server.heads();
    assert_eq!(heads.iter().map(|head| start_of(head)).collect::<Vec<_>>(), [None, Some(100_000), Some(150_000)]);
    assert!(heads[1..].iter().all(|head| head.contains("if-range: \"v1\"")), "{heads:?}");
}

#[test]
fn a_server_without_ranges_sends_all_of_it_again() {
    let bench = Bench::new();
    let body = bench.body.clone();
    let server = Server::start(move |number, _, stream| whole(stream, "", &body, if number == 0 { 100_000 } else { BYTES }));
    bench.assert_whole(&get(&bench.weights, &bench.places(&server.base())).unwrap());
    let heads = server.heads();
    assert_eq!((heads.len(), start_of(&heads[1])), (2, Some(100_000)));
    assert!(!heads[1].contains("if-range"), "{}", heads[1]);
}

#[test]
fn pieces_of_different_files_are_not_joined() {
    // Another version, told by its tag; then without tags, told by the hash; then another part than was asked for.
    for (old, new) in [("old", "new"), ("", "")] {
        let bench = Bench::new();
        let body = bench.body.clone();
        let server = Server::start(move |number, head, stream| match number {
            0 => whole(stream, old, &vec![7; BYTES], 100_000),
            _ => ranged(stream, head, new, &body),
        });
        bench.assert_whole(&get(&bench.weights, &bench.places(&server.base())).unwrap());
        let asked: Vec<_> = server.heads().iter().map(|head| start_of(head)).collect();
        assert_eq!(asked[..2], [None, Some(100_000)]);
        assert_eq!(asked.len(), if old.is_empty() { 3 } else { 2 });
    }
    let bench = Bench::new();
    let body = bench.body.clone();
    let server = Server::start(move |number, _, stream| match number {
        0 => whole(stream, "", &body, 100_000),
        1 => send(stream, "206 Partial Content", &format!("Content-Range: bytes 5-9/{BYTES}\r\nContent-Length: 5\r\n"), &body[5..10]),
        _ => whole(stream, "", &body, BYTES),
    });
    bench.assert_whole(&get(&bench.weights, &bench.places(&server.base())).unwrap());
    assert_eq!(start_of(&server.heads()[2]), None);
}

#[test]
fn what_an_earlier_run_left_is_used_where_it_is_right() {
    let bench = Bench::new();
    let body = bench.body.clone();
    let server = Server::start(move |_, head, stream| ranged(stream, head, "v", &body));
    std::fs::create_dir(bench.cache()).unwrap();
    // A run ended before the name was given: nothing is missing.
    std::fs::write(bench.part(), &*bench.body).unwrap();
    bench.assert_whole(&get(&bench.weights, &bench.places(&server.base())).unwrap());
    assert_eq!(server.heads().len(), 0);
    // Too long, of another file: it begins anew.
    std::fs::remove_file(bench.cache().join(bench.weights.file)).unwrap();
    std::fs::write(bench.part(), vec![1; BYTES + 1]).unwrap();
    bench.assert_whole(&get(&bench.weights, &bench.places(&server.base())).unwrap());
    assert_eq!(server.heads().len(), 2);
    // A damaged file with the name is replaced.
    std::fs::write(bench.cache().join(bench.weights.file), "half").unwrap();
    bench.assert_whole(&get(&bench.weights, &bench.places(&server.base())).unwrap());
    assert_eq!(server.heads().len(), 3);
    // What killed runs left beside it is swept.
    std::fs::remove_file(bench.cache().join(bench.weights.file)).unwrap();
    std::fs::write(bench.cache().join(".nunatak-x.tmp"), "half").unwrap();
    bench.assert_whole(&get(&bench.weights, &bench.places(&server.base())).unwrap());
}

#[test]
fn another_file_is_not_kept() {
    let bench = Bench::new();
    let server = Server::start(|_, _, stream| whole(stream, "v", b"<html>Please log in</html>", 26));
    let text = bench.fails(&server);
    assert!(text.contains("was not kept") && text.contains("26 bytes") && text.contains("web page"), "{text}");
    assert!(bench.names().is_empty(), "{:?}", bench.names());
    assert_eq!(server.heads().len(), 1);
    // One bit is enough.
    let mut body = bench.body.to_vec();
    body[BYTES - 1] ^= 1;
    let server = Server::start(move |_, _, stream| whole(stream, "", &body, BYTES));
    let text = bench.fails(&server);
    assert!(text.contains(bench.weights.hash) && !text.contains("web page"), "{text}");
    assert!(bench.names().is_empty());
}

#[test]
fn redirects_are_followed_so_far() {
    let bench = Bench::new();
    let body = bench.body.clone();
    let server = Server::start(move |_, head, stream| match head.contains("/models/") {
        true => send(stream, "302 Found", "Location: /elsewhere\r\nContent-Length: 0\r\n", b""),
        false => whole(stream, "v", &body, BYTES),
    });
    bench.assert_whole(&get(&bench.weights, &bench.places(&server.base())).unwrap());
    assert_eq!(server.heads().len(), 2);
    let bench = Bench::new();
    let server = Server::start(|_, _, stream| send(stream, "302 Found", "Location: /models/a\r\nContent-Length: 0\r\n", b""));
    let text = bench.fails(&server);
    assert!(text.contains("refers to other addresses more than 5 times"), "{text}");
    assert_eq!(server.heads().len(), 6);
}

#[test]
fn failures_that_may_pass_are_tried_again() {
    let bench = Bench::new();
    let body = bench.body.clone();
    let server = Server::start(move |number, head, stream| match number {
        0 => send(stream, "500 Internal Server Error", "Content-Length: 0\r\n", b""),
        1 => drop(stream.write_all(b"nonsense\r\n\r\n")),
        _ => ranged(stream, head, "v", &body),
    });
    bench.assert_whole(&get(&bench.weights, &bench.places(&server.base())).unwrap());
    assert_eq!(server.heads().len(), 3);

    let bench = Bench::new();
    let server = Server::start(|_, _, stream| send(stream, "503 Service Unavailable", "Content-Length: 0\r\n", b""));
    let text = bench.fails(&server);
    assert!(text.contains("503 Service Unavailable; 3 attempts failed"), "{text}");
    assert_eq!(server.heads().len(), 3);
    for (status, headers) in [("404 Not Found", ""), ("403 Forbidden", ""), ("200 OK", "Content-Encoding: gzip\r\n")] {
        let server = Server::start(move |_, _, stream| send(stream, status, &format!("Content-Length: 0\r\n{headers}"), b""));
        let text = bench.fails(&server);
        assert!(text.contains(if headers.is_empty() { status } else { "gzip" }), "{text}");
        assert_eq!(server.heads().len(), 1, "{status}");
    }
}

#[test]
fn bytes_without_end_are_not_read() {
    let bench = Bench::new();
    let server = Server::start(|_, _, stream| {
        send(stream, "200 OK", "Transfer-Encoding: chunked\r\n", b"");
        let chunk = [b"10000\r\n".as_slice(), &[0; 0x10000], b"\r\n"].concat();
        while stream.write_all(&chunk).is_ok() {}
    });
    let text = bench.fails(&server);
    assert!(text.contains("bytes without end") && text.contains("300.0 kB"), "{text}");
    assert!(bench.names().is_empty());
    // A length that can't be is refused before anything is read.
    let bench = Bench::new();
    let server = Server::start(|_, _, stream| send(stream, "200 OK", "Content-Length: 9000000000000000000\r\n", b"a"));
    let text = bench.fails(&server);
    assert!(text.contains("GB, but small-"), "{text}");
    assert_eq!(server.heads().len(), 1);
}

#[test]
fn without_a_server_it_is_said_what_to_put_where() {
    let bench = Bench::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    let mut places = bench.places(&base);
    let put = format!("put it at {}", bench.cache().join(bench.weights.file).display());
    let text = get(&bench.weights, &places).unwrap_err().text();
    assert!(text.starts_with(&base) && text.contains("no connection (is there a network?): ") && text.contains(&put), "{text}");
    places.offline = true;
    let text = get(&bench.weights, &places).unwrap_err().text();
    assert!(text.starts_with("small.IMAGENET1K_V1: ") && text.contains("NUNATAK_OFFLINE") && text.contains(&put), "{text}");
    (places.offline, places.base) = (false, "http://nowhere.invalid/".into());
    let text = get(&bench.weights, &places).unwrap_err().text();
    assert!(text.contains("no connection (is there a network?)") && text.contains(&put), "{text}");
    assert!(bench.names().is_empty());
}

#[test]
fn two_at_once_bring_it_once() {
    let bench = Bench::new();
    let body = bench.body.clone();
    let server = Server::start(move |_, _, stream| {
        whole(stream, "v", &body, 100_000);
        std::thread::sleep(Duration::from_millis(700));
        let _ = stream.write_all(&body[100_000..]);
    });
    let places = bench.places(&server.base());
    std::thread::scope(|scope| {
        let runs: Vec<_> = (0..3).map(|_| scope.spawn(|| get(&bench.weights, &places).unwrap())).collect();
        runs.into_iter().for_each(|run| assert_eq!(run.join().unwrap(), bench.cache().join(bench.weights.file)));
    });
    bench.assert_whole(&bench.cache().join(bench.weights.file));
    assert_eq!(server.heads().len(), 1);
}

#[test]
fn torchs_file_is_used_where_it_is_right() {
    let bench = Bench::new();
    let body = bench.body.clone();
    let server = Server::start(move |_, _, stream| whole(stream, "v", &body, BYTES));
    let torch = bench.dir.path().join("torch");
    std::fs::create_dir(&torch).unwrap();
    std::fs::write(torch.join(bench.weights.file), &*bench.body).unwrap();
    let places = bench.places(&server.base());
    assert_eq!(get(&bench.weights, &places).unwrap(), torch.join(bench.weights.file));
    assert!(server.heads().is_empty() && !bench.cache().exists());
    std::fs::write(torch.join(bench.weights.file), "damaged").unwrap();
    bench.assert_whole(&get(&bench.weights, &places).unwrap());
    assert_eq!(std::fs::read(torch.join(bench.weights.file)).unwrap(), b"damaged");
}

/// Who can't show a certificate is not spoken to.
#[test]
fn a_server_without_tls_is_not_trusted_with_https() {
    let bench = Bench::new();
    let server = Server::start(|_, _, stream| send(stream, "200 OK", "Content-Length: 1\r\n", b"a"));
    let places = bench.places(&server.base().replace("http:", "https:"));
    let text = get(&bench.weights, &places).unwrap_err().text();
    assert!(text.contains("not secure") && text.contains("SSL_CERT_FILE"), "{text}");
}

#[test]
fn a_proxy_is_asked_instead() {
    let bench = Bench::new();
    let body = bench.body.clone();
    let server = Server::start(move |_, first, stream: &mut TcpStream| {
        if first.starts_with("connect nowhere.invalid:80 ") {
            send(stream, "200 OK", "", b"");
            let inner = head(stream);
            assert!(inner.starts_with("get /models/small-"), "{inner}");
            whole(stream, "v", &body, BYTES);
        } else {
            send(stream, "400 Bad Request", "Content-Length: 0\r\n", b"");
        }
    });
    let mut places = bench.places("http://nowhere.invalid/models/");
    places.proxy = Some(server.place());
    bench.assert_whole(&get(&bench.weights, &places).unwrap());
    let bench = Bench::new();
    let server = Server::start(|_, _, stream| send(stream, "407 Proxy Authentication Required", "Content-Length: 0\r\n", b""));
    places = Places { proxy: Some(server.place()), ..bench.places("http://nowhere.invalid/models/") };
    let text = get(&bench.weights, &places).unwrap_err().text();
    assert!(text.contains("proxy") && text.contains("407"), "{text}");
    places.proxy = Some("http://user:secret@[".into());
    let text = get(&bench.weights, &places).unwrap_err().text();
    assert!(text.contains("HTTPS_PROXY") && !text.contains("secret"), "{text}");
}

#[test]
fn folders_that_cannot_be_written_are_named() {
    let bench = Bench::new();
    let server = Server::start(|_, _, stream| send(stream, "200 OK", "Content-Length: 5\r\n", b"bytes"));
    let mut places = bench.places(&server.base());
    places.cache = bench.dir.path().join("body").join("cache");
    let text = get(&bench.weights, &places).unwrap_err().text();
    assert!(text.contains("body") && text.contains("NUNATAK_CACHE"), "{text}");
    assert!(server.heads().is_empty());
    // A disk that is full from the first byte on.
    #[cfg(target_os = "linux")]
    {
        std::fs::create_dir(bench.cache()).unwrap();
        std::os::unix::fs::symlink("/dev/full", bench.part()).unwrap();
        let text = get(&bench.weights, &bench.places(&server.base())).unwrap_err().text();
        assert!(
            text.contains(".part: can't be written: No space left") && text.contains("300.0 kB more") && text.contains("NUNATAK_CACHE"),
            "{text}"
        );
    }
}
